# SPDX-License-Identifier: MIT
"""A line that is too long is shortened in the middle of its longest part, and stays what it is: a line, an object.

Seen to fail: with the bytes of a line cut, JSON is none any more.
"""

from __future__ import annotations

import json
import logging

import pytest

from sockd.log.format import JsonFormatter, TextFormatter
from sockd.log.line import MAX_TEXT, MAX_TRACE, MAX_TRACE_LINES, shortened

MOST = 4096
LONG = {
    "a traceback": ("failed", {"peer": "p"}, "Traceback\n" + "line\n" * 5000 + "ValueError: the end"),
    "a field": ("failed", {"peer": "p", "line": "é" * 9000}, ""),
    "bytes": ("failed", {"line": bytes(range(256)) * 90}, ""),
    "a message": ("x" * 9000, {}, ""),
    "all": ("x" * 9000, {"a": "y" * 9000, "b": ["z"] * 9000}, "w" * 9000),
    "many fields": ("failed", {f"name{number}": "v" * 60 for number in range(200)}, ""),
}


def write(formatter, message, event, trace, most=MOST):
    record = logging.LogRecord("sockd", logging.ERROR, __file__, 1, message, (), None)
    record.event = event
    before = dict(vars(record))
    data = shortened(record, trace, most, lambda one: (formatter.format(one) + "\n").encode())
    assert vars(record) == before
    assert data.endswith(b"\n")
    assert len(data) <= most
    return data


@pytest.mark.parametrize("what", LONG)
def test_it_is_as_long_as_it_may_be_at_most(what):
    for formatter in (TextFormatter(), JsonFormatter()):
        data = write(formatter, *LONG[what])
        if what != "many fields":  # of which none can be cut: that line is
            assert b" [...] " in data
            assert len(data) > MOST // 4
            if isinstance(formatter, JsonFormatter):
                assert json.loads(data)["level"] == "error"


def test_how_it_begins_and_how_it_ends_is_left():
    line = json.loads(write(JsonFormatter(), *LONG["a traceback"]))
    assert line["traceback"].startswith("Traceback\nline\n")
    assert line["traceback"].endswith("ValueError: the end")
    assert line["peer"] == "p"


def test_what_is_short_is_left_as_it_is():
    line = write(JsonFormatter(), "failed", {"line": b"\xff", "count": 3}, "Traceback")
    assert {**json.loads(line), "time": ""} == {
        "time": "", "level": "error", "logger": "sockd", "message": "failed", "line": "\\xff", "count": 3,
        "traceback": "Traceback",
    }  # fmt: skip


MILLION = 1_000_000


@pytest.mark.parametrize("mark", ["x", "\x01", "\n", "é"])
@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_no_part_is_longer_than_its_limit_wherever_it_is_written(formatter, mark):
    """fails without: a client's frame that an exception quotes is as long in the log, escaped six times as long"""
    long = "begin" + mark * MILLION + "end"
    record = logging.LogRecord("sockd", logging.ERROR, __file__, 1, "%s", (long,), None, sinfo=long.replace("x", "x\n"))
    record.event = {"text": long, "bytes": long.encode(), "list": [long]}
    line = formatter.format(record)
    assert len(line) < 6 * (4 * MAX_TEXT + MAX_TRACE)
    assert line.count("\n") <= MAX_TRACE_LINES
    assert line.count("begin") == line.count("end") == line.count(" [...] ") == 5


def test_what_is_at_its_limit_is_whole():
    record = logging.LogRecord("sockd", logging.ERROR, __file__, 1, "m" * MAX_TEXT, (), None)
    record.event = {"field": "f" * MAX_TEXT}
    record.stack_info = "\n".join(["t" * 100] * MAX_TRACE_LINES)
    for formatter in (TextFormatter(), JsonFormatter()):
        line = formatter.format(record)
        assert (line.count("m" * MAX_TEXT), line.count("f" * MAX_TEXT)) == (1, 1)
        assert line.count("t" * 100) == MAX_TRACE_LINES
