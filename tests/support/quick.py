# SPDX-License-Identifier: MIT
"""`pytest --share quick`: what a contributor runs before each commit; `--share rest`: what CI runs besides.

The quick share has the first set of parameters of each test function, but for the functions of tests/slow.txt, which
wait for real time or need many processes. Of each file one test at least is in it (tests/test_shares.py).
"""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

SLOW = Path(__file__).parents[1] / "slow.txt"


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
    for nodeid in nodeids:
        name = name_of_test(nodeid)
        if name not in seen and not any(fnmatch(name, pattern) for pattern in left_out):
            kept.add(nodeid)
        seen.add(name)
    return kept


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    share = config.getoption("--share")
    if share == "all":
        return
    quick = quick_share(item.nodeid for item in items)
    kept = [item for item in items if (item.nodeid in quick) == (share == "quick")]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept
