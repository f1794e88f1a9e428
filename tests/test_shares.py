# SPDX-License-Identifier: MIT
"""What `make test` leaves out is for `make test-all`: something of each file stays, and the list has no stale line.

Seen failing with a pattern that matches nothing, and with every function of a file left out.
"""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
from quick import quick_share, slow_tests

TESTS = Path(__file__).parent
ELSEWHERE = ("interop/",)
"""Tests with programs of others: make interop."""


@pytest.fixture(scope="module")
def names():
    """path::function of each test."""
    files = [path for path in TESTS.rglob("test_*.py") if not path.relative_to(TESTS).as_posix().startswith(ELSEWHERE)]
    return [
        f"{path.relative_to(TESTS).as_posix()}::{function}"
        for path in sorted(files)
        for function in re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    ]


def test_something_of_each_file_is_in_the_quick_share(names):
    """Each module of sockd has a file, and each question of the FAQ; whole files are left out by name alone."""
    may_be_whole = ("hostile/", "test_buffer_distribution.py", "system/test_reload_memory.py")
    whole = {pattern.removesuffix("::*") for pattern in slow_tests() if pattern.endswith("::*")}
    assert {name for name in whole if not name.startswith(may_be_whole)} == set()
    assert len(names) > 1000
    represented = {name.partition("::")[0] for name in quick_share(names)}
    assert {name.partition("::")[0] for name in names} - represented == whole


def test_something_of_each_directory_is_in_the_quick_share(names):
    directories = {name.partition("::")[0].rpartition("/")[0] for name in names}
    assert directories == {name.partition("::")[0].rpartition("/")[0] for name in quick_share(names)}


def test_the_list_has_no_stale_line(names):
    for pattern, (seconds, why) in slow_tests().items():
        assert any(fnmatch(name, pattern) for name in names), pattern
        assert seconds > 0, pattern
        assert why, pattern
