# SPDX-License-Identifier: MIT
"""`pytest --share quick`: what a contributor runs before each commit; `--share rest`: what CI runs besides.

The quick share has the first set of parameters of the first test functions of each file, but for the functions of
tests/slow.txt, which wait for real time or need many processes (tests/test_shares.py).
"""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

SLOW = Path(__file__).parents[1] / "slow.txt"


FUNCTIONS = 3
"""Of a file: so that the share takes 80 s of two cores, and grows with the number of files alone."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--share", choices=("all", "quick", "rest"), default="all", help="which tests to run (all)")


def slow_tests() -> dict[str, tuple[float, str]]:
    """Pattern of tests (path::function) -> seconds on an idle machine, and what they wait for."""
    rows = (line.split(None, 2) for line in SLOW.read_text().splitlines() if line and not line.startswith("#"))
    return {name: (float(seconds), why) for name, seconds, why in rows}


def name_of_test(nodeid: str) -> str:
    """Return path::function, the path within tests/."""
    return nodeid.partition("[")[0].removeprefix("tests/")


def quick_share(nodeids: Iterable[str]) -> set[str]:
    """Return those of the tests that are run before each commit."""
    left_out, seen, kept = slow_tests(), set(), set()
    functions: Counter[str] = Counter()
    for nodeid in nodeids:
        name = name_of_test(nodeid)
        file = name.partition("::")[0]
        if name not in seen and functions[file] < FUNCTIONS and not any(fnmatch(name, one) for one in left_out):
            kept.add(nodeid)
            functions[file] += 1
        seen.add(name)
    return kept


def _longest_first(items: list[pytest.Item]) -> None:
    """Have no long file begin last: xdist gives out files by their number of tests, and else in this order."""
    seconds: Counter[str] = Counter()
    names = {name_of_test(item.nodeid) for item in items}
    for pattern, (of_pattern, _) in slow_tests().items():
        if found := [name for name in names if fnmatch(name, pattern)]:
            seconds[found[0].partition("::")[0]] += of_pattern
    items.sort(key=lambda item: -seconds[name_of_test(item.nodeid).partition("::")[0]])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        _longest_first(items)
    share = config.getoption("--share")
    if share == "all":
        return
    quick = quick_share(item.nodeid for item in items)
    kept = [item for item in items if (item.nodeid in quick) == (share == "quick")]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept
