# SPDX-License-Identifier: MIT
"""Failures of sockd itself: counted, and one line for each place in an interval.

Seen to fail: with the limit's key left at the type alone; with the log not guarded.
"""

from __future__ import annotations

import logging

import pytest

from sockd.net.loop.defects import Defects


class Unprintable(Exception):
    def __str__(self):
        raise SystemExit


def raised(error):
    try:
        raise error
    except BaseException as caught:
        return caught


def raised_elsewhere(error):
    try:
        raise error
    except BaseException as caught:
        return caught


def test_one_line_for_each_place_in_an_interval(caplog):
    now = 0.0
    defects = Defects(lambda: now)
    for _ in range(3):
        defects.report(raised(ValueError("first")))
    defects.report(raised_elsewhere(ValueError("second")))
    now = 6.0
    defects.report(raised(ValueError("third")))
    assert defects.count == 5
    assert [record.getMessage() for record in caplog.records] == ["defect"] * 3
    assert [str(record.exc_info[1]) for record in caplog.records] == ["first", "second", "third"]
    assert [record.event.get("held_back") for record in caplog.records] == [None, None, 2]
    assert "test_defects.py:" in caplog.records[0].event["at"]
    assert [record.event["total"] for record in caplog.records] == [1, 4, 5]


@pytest.mark.parametrize(
    "error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), Unprintable(), RecursionError()]
)
def test_it_raises_nothing_whatever_it_is_told(error, caplog):
    defects = Defects(lambda: 0.0)
    defects.report(error)  # without a traceback
    defects.report(raised(error))
    assert defects.count == 2


def test_a_log_that_fails_is_survived():
    class Broken(logging.Handler):
        def emit(self, record):
            raise SystemExit

    handler = Broken()
    logger = logging.getLogger("sockd.defect")
    logger.addHandler(handler)
    try:
        defects = Defects(lambda: 0.0)
        defects.report(raised(ValueError()))
        assert defects.count == 1
    finally:
        logger.removeHandler(handler)


def test_that_there_is_no_memory_is_nobody_s_defect(caplog):
    defects = Defects(lambda: 0.0)
    defects.report(raised(MemoryError()))
    assert defects.count == 0
    assert [record.getMessage() for record in caplog.records] == ["out of memory"]
