# SPDX-License-Identifier: MIT
"""What the documents print is what happens: each console block is followed, and its output compared (pages.py).

In namespaces of their own, so that ports, /run and /etc are free; as root where a prompt is `#`, else as a user. Seen
failing with a wrong reply in a page, and with most of the blocks as they were before they were followed.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from pages import Terminal, follow, steps

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="the tests stand alone, without docs/")

ELSEWHERE = {
    "embedding.md": {
        "make buffer": "tests/test_buffer_distribution.py: a wheel that is built and installed",
        "pip install build/buffer": "tests/test_buffer_distribution.py",
        "make -s -C csrc install": "csrc/Makefile: check-install, which compiles all of it",
        "cc examples/embedding/netstrings.c $(pkg-config": "the same",
    },
    "faq.md": {"sockctl selftest": "tests/faq/test_selftest.py: all of it, 10 s"},
    "installation.md": {
        "apt-get install": "packaging/packages: in a clean root",
        "make build": "tests/test_install.py",
        "make install": "tests/test_install.py",
        "sockd --version": "tests/test_install.py",
        "pipx": "packaging/test-wheel: pip with the same wheel",
        "podman": "packaging/packages image: under crun",
    },
    "mail.md": {"postfix reload": "tests/interop/test_postfix_policy.py: a whole Postfix"},
    "migrating-from-inetd.md": {
        "sockd --inetd uper": "tests/process/test_inetd_stdio.py: has a terminal",
        "echo $?": "the same",
    },
    "operations.md": {
        "warning connection closed before": "tests/system/test_stop_bound.py",
        "error ended by force": "tests/system/test_stop_bound.py",
        "error defect": "tests/net/loop/test_defects.py",
    },
    "relay.md": {"warning closed service=front peer=tcp://127.0.0.1:42774": "another SOCKS server, with rules"},
    "scaling.md": {"": "tests/interop/test_scaling.py: with HAProxy, three hosts; kubectl has no cluster here"},
    "security.md": {"error log not reopened": "tests/log/test_targets.py"},
    "systemd.md": {"": "tests/interop/test_systemd.py: the page's block, on a booted systemd"},
}
"""Commands of a page, by their beginning, that are not run here: where they are run, or why nowhere."""
NEEDS = {
    "faq.md II.12": ("csrc", "examples"),
    "embedding.md": ("csrc", "examples"),
}
"""Of the source directory, what a page uses."""
BEFORE = {
    "README.md": f"mkdir -p .venv && ln -s {Path(sys.executable).parent} .venv/bin; sockd --foreground &",
    "mail.md": "mkdir -p /etc/postfix /var/spool/postfix/private; : > /etc/postfix/main.cf",
    "security.md": "install -d /var/empty /run/sockd /var/log/sockd",
}
"""What its text says is done before: `make run`; directories."""
BESIDE = {
    "operations.md": {
        "sockctl trace": "READY echo login token=secret now | sockctl connect tcp://127.0.0.1:7000",
        "sockctl events": "",
    },
    "security.md": {"strace -e trace=bind": ""},
    "faq.md": {
        "strace -e trace=poll": "READY echo hi | sockctl connect tcp://127.0.0.1:7004",
        "strace -e trace=network": "READY yes hello | head -100 | sockctl connect tcp://127.0.0.1:7001",
    },
}
"""What happens in another terminal while a command runs that does not end by itself."""


def parts():
    """(page, section, its text, the sections before it): the FAQ by sections, other pages as a whole."""
    for path in [*sorted(DOCS.glob("*.md")), ROOT / "README.md"]:
        text = path.read_text()
        if path.name == "faq.md":
            found = re.split(r"^(?=## )", text, flags=re.M)[1:]
            for index, part in enumerate(found):
                yield path.name, part.split()[1], part, "".join(found[:index])
        else:
            yield path.name, "", text, ""


PARTS = {
    " ".join(filter(None, (name, part))): (name, text, before) for name, part, text, before in parts() if [*steps(text)]
}
SHORTENED = ("faq.md", "security.md")
FAQ_DAEMON = "sockd --foreground --config six.toml &"


PROGRAMS = ["cc", "curl", "jq", "nc", "ncat", "nstat", "openssl", "pgrep", "postconf", "postmap", "socat", "strace"]
WHERE = f"{os.environ['PATH']}:/usr/sbin"


def is_elsewhere(page, step):
    here = tuple(ELSEWHERE.get(page, ()))
    return step.kind in ("run", "start", "log") and (step.what.startswith(here) or step.text.startswith(here))


@pytest.mark.parametrize("name", PARTS)
def test_a_page(name):
    page, text, before = PARTS[name]
    todo = [step for step in steps(text) if not is_elsewhere(page, step)]
    if not any(step.kind in ("run", "start") for step in todo):
        return  # all of it is run elsewhere
    typed = {word for step in todo if step.kind in ("run", "start") for word in re.findall(r"[\w.-]+", step.what)}
    missing = [one for one in PROGRAMS if one in typed and not shutil.which(one, path=WHERE)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    terminal = Terminal(as_root=any(step.prompt == "#" for step in todo))
    try:
        for path in NEEDS.get(name, ()):
            terminal.run(f"cp -r {ROOT / path} . && chown -R --reference=. {Path(path).name}")
        for step in steps(before):
            if step.kind == "write":
                terminal.write(step.what, step.text)
        if before and ("7001" in text or "six.toml" in text):
            terminal.start(FAQ_DAEMON)
        *first, last = BEFORE.get(name, "").split("; ")
        for command in first:
            terminal.run(command)
        if last:
            (terminal.start if last.endswith("&") else terminal.run)(last)
        follow(terminal, todo, BESIDE.get(page, {}), shortened=page in SHORTENED)
    finally:
        terminal.close()


def test_what_is_run_elsewhere_is_on_its_page():
    on_page = {page: [*steps((ROOT / page if page == "README.md" else DOCS / page).read_text())] for page in ELSEWHERE}
    for page, commands in ELSEWHERE.items():
        for command in commands:
            assert any(one.what.startswith(command) or one.text.startswith(command) for one in on_page[page]), command


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
