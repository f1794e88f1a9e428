# SPDX-License-Identifier: MIT
"""`sockd-buffer`: from the same tree, alone in an environment, with cffi and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIMIT_S = 300
pytestmark = [
    pytest.mark.skipif(not (ROOT / "Makefile").exists(), reason="the tests stand alone, without a Makefile"),
    pytest.mark.timeout(LIMIT_S),
]
TRY = """
import importlib.metadata, sys
from sockd.buffer import Line, ReceiveBuffer, TooLong, encode
buffer = ReceiveBuffer(Line(5))
buffer.feed(b"one\\ntwo\\nthree too long\\n")
print(list(buffer), encode(Line(5), b"x"))
try:
    list(buffer)
except TooLong as error:
    print(error.offset)
print(sorted(name.metadata["Name"] for name in importlib.metadata.distributions()))
print(importlib.metadata.version("sockd-buffer"))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An environment with nothing but the wheel and what it needs."""
    room = tmp_path_factory.mktemp("buffer")
    environment = {**os.environ, "SOCKD_CFLAGS": "-O0"}
    subprocess.run([ROOT / "packaging/buffer/source", room / "source"], check=True, timeout=LIMIT_S)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    wheel = [*pip, "wheel", "--no-deps", "-w", room, room / "source"]
    done = subprocess.run(wheel, capture_output=True, text=True, env=environment, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    venv.create(room / "venv", with_pip=False)
    python = room / "venv/bin/python"
    (made,) = room.glob("sockd_buffer-*.whl")
    done = subprocess.run([*pip, "--python", python, "install", made], capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    return python


def test_it_works_with_cffi_alone(python):
    done = subprocess.run([python, "-c", TRY], capture_output=True, text=True, cwd="/", timeout=LIMIT_S)
    frames, offset, names, number = done.stdout.splitlines()
    assert frames == "[b'one', b'two'] b'x\\n'", done.stderr
    assert offset == "8"
    assert set(eval(names)) == {"cffi", "pycparser", "sockd-buffer"}
    assert number == version("sockd")


def test_nothing_of_the_daemon_is_there(python):
    (home,) = python.parents[1].glob("lib/python3*/site-packages/sockd")
    assert {path.name for path in home.iterdir()} - {"__pycache__"} == {
        "__init__.py", "_sockbuf.pyi", "_sockbuf.abi3.so", "_version.py", "buffer", "lazy", "py.typed", "values",
        "wire",
    }  # fmt: skip
