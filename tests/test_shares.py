# SPDX-License-Identifier: MIT
"""What `make test` leaves out is for `make test-all`: something of each file stays, and the list has no stale line.

Looks at the tests that this run of pytest found, so that of the whole is seen with `make test`. Seen failing with a
pattern that matches nothing, and with every function of a file left out.
"""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest
from quick import COLLECTED, name_of_test, quick_share, slow_tests

TESTS = Path(__file__).parent


@pytest.fixture
def collected(request):
    return request.config.stash[COLLECTED]


def test_something_of_each_file_is_in_the_quick_share(collected):
    """Each module of sockd has a file, and each question of the FAQ; whole files are left out by name alone."""
    whole = {pattern.removesuffix("::*") for pattern in slow_tests() if pattern.endswith("::*")}
    assert {name for name in whole if not name.startswith("hostile/")} == set()
    files = {name_of_test(one).partition("::")[0] for one in collected}
    represented = {name_of_test(one).partition("::")[0] for one in quick_share(collected)}
    assert files - represented - whole == set()


def test_something_of_each_directory_is_in_the_quick_share(collected):
    directories = {name_of_test(one).rpartition("/")[0] for one in collected}
    assert directories == {name_of_test(one).rpartition("/")[0] for one in quick_share(collected)}


def test_the_list_has_no_stale_line(collected):
    names = {name_of_test(one) for one in collected}
    files = {name.partition("::")[0] for name in names}
    for pattern, (seconds, why) in slow_tests().items():
        file = pattern.partition("::")[0]
        assert (TESTS / file).exists(), pattern
        assert file not in files or any(fnmatch(name, pattern) for name in names), pattern
        assert seconds > 0, pattern
        assert why, pattern
