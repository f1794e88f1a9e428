# SPDX-License-Identifier: MIT
"""`pytest --quick`: what a contributor runs before each commit.

Of each test function the first set of parameters is run, and those of tests/slow.txt are left out: they wait for real
time, or need many processes. Everything is run by `make test`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

SLOW = Path(__file__).parents[1] / "slow.txt"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="the first parameters of each test, without slow ones")


def slow_tests() -> dict[str, str]:
    """Name of a test (path::function) -> what it waits for."""
    rows = (line.split(None, 2) for line in SLOW.read_text().splitlines() if line and not line.startswith("#"))
    return {name: why for name, _, why in rows}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--quick"):
        return
    left_out, seen, kept, dropped = slow_tests(), set(), [], []
    for item in items:
        name = item.nodeid.partition("[")[0].removeprefix("tests/")
        (dropped if name in left_out or name in seen else kept).append(item)
        seen.add(name)
    config.hook.pytest_deselected(items=dropped)
    items[:] = kept
