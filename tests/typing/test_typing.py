# SPDX-License-Identifier: MIT
"""Forty handlers that type checkers accept, and forty that they refuse: mypy --strict, and pyright where it is there.

Seen to fail before: 19 errors in the right ones; 12 of the wrong ones, and any name of sockd, were accepted (mypy).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHECKERS = {"mypy": ["--strict", "--no-incremental"], "pyright": ["--pythonpath", sys.executable]}
ERROR = re.compile(r"\.py:(\d+)(?::\d+)?(?: -|:) error")


def blocks():
    """(name, first line, line behind) of each wrong handler."""
    lines = (HERE / "wrong.py").read_text().splitlines()
    starts = [(number, line[2:]) for number, line in enumerate(lines, 1) if re.fullmatch(r"# w\d\d", line)]
    ends = [number for number, _ in starts[1:]] + [len(lines) + 1]
    return [(name, start, end) for (start, name), end in zip(starts, ends, strict=True)]


@pytest.fixture(params=CHECKERS)
def errors(request, tmp_path):
    """Lines of errors of a file, by a type checker."""
    beside = os.path.dirname(sys.executable)
    program = shutil.which(request.param, path=beside) or shutil.which(request.param)
    if program is None:
        pytest.skip(f"{request.param} is not installed")

    def check(name):
        shutil.copy(HERE / name, tmp_path)
        options = CHECKERS[request.param]
        if request.param == "mypy":
            options = [*options, "--python-executable", sys.executable]
        done = subprocess.run([program, *options, name], cwd=tmp_path, capture_output=True, text=True, timeout=110)
        assert done.returncode in (0, 1), done.stdout + done.stderr
        return [int(one) for one in ERROR.findall(done.stdout)], done.stdout

    return check


def test_what_runs_is_accepted(errors):
    found, said = errors("right.py")
    assert not found, said


def test_what_does_not_run_is_refused(errors):
    found, said = errors("wrong.py")
    assert len(blocks()) == 40
    accepted = [name for name, start, end in blocks() if not any(start <= line < end for line in found)]
    assert not accepted, said


def test_the_right_ones_are_taken_by_sockd():
    """Each has its kind: nothing is refused when it is resolved."""
    program = "import right, sockd; from sockd.services import loader, resolve\n" + (
        "for name in ('plain', 'limited', 'netstrings', 'several'):\n"
        "    resolve.resolve_service(name, loader.as_service(getattr(right, name), name))\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=HERE, check=True, timeout=60)
