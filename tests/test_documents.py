# SPDX-License-Identifier: MIT
"""What the documents print is what happens: each console block of the tutorial is run, and its output compared.

In namespaces of its own, so that ports and /run are free. A file is written where the text says: Write `NAME`, Change
`NAME`, Add to `NAME`. Seen failing with a wrong reply in the page.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LIMIT_S = 200
BLOCK = re.compile(r"(?:(Write|Change|Add to) `([\w./]+)`:\n\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^[$#] (.*)\n((?:(?![$#] ).*\n)*)", re.MULTILINE)
READY = "for _ in $(seq 400); do sockctl connect --timeout 1s tcp://127.0.0.1:7000 </dev/null >/dev/null 2>&1 && break; sleep .05; done"  # noqa: E501 - one line of shell
PREPARE = """
set -u
exec 2>&1
mount -t tmpfs tmpfs /srv && mount -t tmpfs tmpfs /run && ip link set lo up
mkdir /run/upper /run/work
# The Python of the tests may be in a home directory, which the user that serves could not enter.
mount -t tmpfs tmpfs /run/upper && mkdir /run/upper/u /run/upper/w
if [ -d {home} ]; then
    mount -t overlay overlay -o lowerdir={home},upperdir=/run/upper/u,workdir=/run/upper/w {home} && chmod 755 {home}
fi
mkdir /srv/tutorial && cd /srv/tutorial
export PATH={path}:$PATH PYTHONDONTWRITEBYTECODE=1
"""

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="the tests stand alone, without docs/")


def steps(text):
    """(kind, what, expected): files to write and commands to run, in order."""
    for verb, name, language, body in BLOCK.findall(text):
        if verb:
            yield ("append" if verb == "Add to" else "write"), name, body
        elif language == "console":
            for command, said in COMMAND.findall(body):
                yield "run", command, said


def script_of(todo):
    lines = [PREPARE.format(home="/root", path=Path(sys.executable).parent)]
    for index, (kind, what, body) in enumerate(todo):
        if kind == "run":
            lines += [
                f"echo '--- {index}'",
                f"{what[:-1]}2>>/srv/errors &" if what.endswith("&") else f"{{ {what}; }} 2>>/srv/errors",
            ]
            lines += [READY] if what.endswith("&") else []
        else:
            lines += [
                f"cat {'>>' if kind == 'append' else '>'} {what} <<'END-OF-FILE'",
                body.rstrip("\n"),
                "END-OF-FILE",
            ]
    return "\n".join([*lines, "echo '--- end'", "cat /srv/errors"])


@pytest.mark.timeout(LIMIT_S + 60)
def test_the_tutorial():
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "ip", "curl", "openssl"))):
        pytest.skip("needs root, unshare(1), ip(8), curl and openssl")
    todo = [*steps((DOCS / "tutorial.md").read_text())]
    assert len([kind for kind, _, _ in todo if kind == "run"]) > 15
    command = ["unshare", "-m", "-n", "-p", "-f", "--mount-proc", "--kill-child", "bash", "-c", script_of(todo)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL)
    found = dict(re.findall(r"^--- (\w+)\n(.*?)(?=^--- |\Z)", done.stdout, re.MULTILINE | re.DOTALL))
    for index, (kind, what, said) in enumerate(todo):
        if kind == "run" and not what.endswith("&"):
            assert found.get(str(index)) == said, f"{what}\n{found.get('end')}\n{done.stdout[-3000:]}"


def pages():
    return sorted([*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md"])


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_what_a_page_names_is_there(page):
    """Documents, directories and scripts of this tree, as a page writes them: `docs/x.md`."""
    text = page.read_text()
    named = set(re.findall(r"`((?:docs|examples|packaging|tests|csrc|bench|sockd)/[\w./-]+)`", text))
    named |= {f"docs/{name}" for name in re.findall(r"\]\((?:docs/)?([\w-]+\.(?:md|svg))\)", text)}
    missing = {name for name in named if not (ROOT / name).exists() and not list((ROOT / "sockd").glob(f"**/{name}"))}
    assert {name for name in missing if not name.startswith(("csrc/build", "bench/build"))} == set()
