# SPDX-License-Identifier: MIT
"""Every service of examples/ is in its README.md, and starts by the command that stands there and in its own text."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from serving import STAY_ROOT
from watching import _script

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = {path.stem: path.read_text() for path in EXAMPLES.glob("*.py")}
README = (EXAMPLES / "README.md").read_text()
CONFIGURED = re.findall(r"^\| `sockd --foreground -c (\w+)\.toml`", README, re.M)
LISTENS = re.findall(r"--listen (\S+?)=(\w+):(\w+)", README)
LISTENS += [
    re.search(r'address = "(\S+)"\nservice = "(\w+):(\w+)"', (EXAMPLES / f"{name}.toml").read_text()).groups()
    for name in CONFIGURED
]


def test_the_tables_are_whole():
    assert {f"{name}.py" for name in FILES} == set(re.findall(r"^\| \[(\w+\.py)\]", README, re.M))
    assert {name for _, name, _ in LISTENS} == set(FILES)
    assert {path.stem for path in EXAMPLES.glob("*.toml")} == set(CONFIGURED)


def test_each_file_says_the_same():
    for address, name, attribute in LISTENS:
        if name in CONFIGURED:
            assert f"sockd --foreground -c {name}.toml\n" in FILES[name]
            continue
        port = address.rpartition(":")[2]
        assert re.search(rf":{port}={name}:{attribute}\b", FILES[name]), name


def test_all_are_accepted():
    words = [word for _, name, attribute in LISTENS for word in ("--listen", f"tcp://127.0.0.1:0={name}:{attribute}")]
    done = subprocess.run(
        [_script("sockd"), "--foreground", *STAY_ROOT, "--check", *words],
        cwd=EXAMPLES,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
