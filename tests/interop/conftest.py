# SPDX-License-Identifier: MIT
"""Programs of others, and the examples under the daemon of tests/conftest.py."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent  # the commands of the wheel under test
EXAMPLES = Path(__file__).parents[2] / "examples"
LIMIT_S = 60  # of one run; a hang becomes a failure


@pytest.fixture
def run():
    """Run a program to its end."""

    def command(*words, input=b"", **options):
        return subprocess.run(words, input=input, capture_output=True, timeout=LIMIT_S, **options)

    return command


@pytest.fixture
def sockd():
    return str(BIN / "sockd")


@pytest.fixture
def sockctl():
    return str(BIN / "sockctl")


@pytest.fixture
def examples():
    return EXAMPLES


@pytest.fixture
def serve_example(serve, tmp_path):
    """Serve `module:attribute` of the examples on a TCP port each, or `ADDRESS=module:attribute` elsewhere."""

    def start(*handlers, **options):
        shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
        listens = [one if "=" in one else f"tcp://127.0.0.1:0={one}" for one in handlers]
        server = serve(*listens, **options)
        server.wait_for("listening", count=len(listens))  # its greeting comes by another pipe, and may be read before
        return server

    return start
