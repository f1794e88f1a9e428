# SPDX-License-Identifier: MIT
"""One event, one line, whatever bytes its fields hold."""

import io
import json
import logging
import re
from datetime import datetime, timedelta

import msgspec
import pytest

from sockd.log.format import JsonFormatter, TextFormatter, configure, timestamp
from sockd.settings import LogSettings

ALL_BYTES = bytes(range(256))
FIELDS = {"peer": "127.0.0.1:5000", "reason": "end of file", "count": 3}


@pytest.fixture
def root():
    """Give the root logger, and put it back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(params=["text", "json"])
def written(request, root):
    """Give a function that logs and returns what was written."""
    stream = io.StringIO()
    handler = configure(LogSettings(format=request.param, level="debug"), stream)

    def log(message, *args, **options):
        root.handlers[:] = [handler]  # without pytest's, which cannot hand every text on from process to process
        stream.seek(0)
        stream.truncate()
        logging.getLogger("sockd.test").info(message, *args, **options)
        return stream.getvalue()

    log.format = request.param
    return log


def record(fields=None, *, exc_info=None, stack=None):
    record = logging.LogRecord("sockd.test", logging.INFO, "f.py", 1, "hello", (), exc_info, sinfo=stack)
    record.created = 1795428000.1239
    if fields:
        record.event = fields
    return record


def caught(error):
    try:
        raise error
    except type(error) as raised:
        return type(raised), raised, raised.__traceback__


def test_text():
    line = TextFormatter().format(record(FIELDS))
    assert line == '2026-11-23T10:00:00.123Z info hello peer=127.0.0.1:5000 reason="end of file" count=3'


def test_json():
    line = JsonFormatter().format(record(FIELDS))
    assert json.loads(line) == {
        "time": "2026-11-23T10:00:00.123Z",
        "level": "info",
        "logger": "sockd.test",
        "message": "hello",
        "peer": "127.0.0.1:5000",
        "reason": "end of file",
        "count": 3,
    }
    assert list(json.loads(line))[:4] == ["time", "level", "logger", "message"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "x"', '"say \\"x\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("a\nb\tc\r", '"a\\nb\\tc\\r"'),
        ("\x00\x1b[31m\x7f", '"\\x00\\x1b[31m\\x7f"'),
        ("\x85\u2028\udcff", '"\\x85\\u2028\\udcff"'),
        ("é", '"é"'),
        (b"GET /", '"GET /"'),
        (b"\xc3\xa9\x00\n", '"\\xc3\\xa9\\x00\\n"'),
        (bytearray(b"abc"), "abc"),
        (memoryview(b"abc"), "abc"),
        (True, "True"),
        (None, "None"),
        (0.5, "0.5"),
    ],
)
def test_text_values(value, text):
    assert TextFormatter().format(record({"key": value})).split(" hello ")[1] == f"key={text}"


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("a\nb", "a\nb"),
        (b"caf\xc3\xa9\xff", "café\\xff"),
        ("\udcff", "\\udcff"),
        (True, True),
        (None, None),
        (3, 3),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        ((1, b"x", {"a": {1}}), [1, "x", {"a": "{1}"}]),
        (OSError(2, "gone"), "[Errno 2] gone"),
    ],
)
def test_json_values(value, result):
    assert json.loads(JsonFormatter().format(record({"key": value})))["key"] == result


def test_json_fields_do_not_take_fixed_keys():
    line = json.loads(JsonFormatter().format(record({"time": 1, "message": 2, "traceback": 3, "a": 4})))
    assert line["time"] == "2026-11-23T10:00:00.123Z"
    assert line["message"] == "hello"
    assert line["event_time"] == 1
    assert line["event_message"] == 2
    assert line["event_traceback"] == 3
    assert line["a"] == 4
    assert "traceback" not in line


def test_text_keys_cannot_break_the_line():
    assert TextFormatter().format(record({"a b\n=": 1})).endswith(" hello a_b__=1")


@pytest.mark.parametrize(
    "value", [ALL_BYTES, ALL_BYTES.decode("latin-1"), ALL_BYTES.decode("utf-8", "surrogateescape")]
)
def test_all_bytes_in_a_field_are_one_line(written, value):
    check_one_line(written("event", extra={"event": {"data": value}}))


@pytest.mark.parametrize("byte", range(256))
def test_each_byte_in_a_field_is_one_line(written, byte):
    output = written("event", extra={"event": {"data": bytes([byte]), "text": chr(byte)}})
    check_one_line(output)
    if written.format == "json":
        assert json.loads(output)["text"] == chr(byte)


def test_all_bytes_in_a_message_and_a_key_are_one_line(written):
    text = ALL_BYTES.decode("latin-1") + "\u2028\u2029\udcff"
    output = written("%s", text, extra={"event": {text: 1}})
    check_one_line(output)
    if written.format == "json":
        shown = text.replace("\udcff", "\\udcff")
        assert msgspec.json.decode(output)["message"] == shown  # stricter than json: no lone surrogates
        assert msgspec.json.decode(output)[shown] == 1


def check_one_line(output):
    assert output.endswith("\n")
    line = output[:-1]
    assert len((line + "x").splitlines()) == 1
    assert line.isprintable()
    assert not re.search(rb"[\x00-\x1f\x7f]", line.encode())


def test_text_traceback_is_indented_and_escaped():
    error = ValueError("one\n2026-11-23T10:00:00.123Z info forged\x1b[2J\n\n")
    first, *rest = TextFormatter().format(record(exc_info=caught(error))).split("\n")
    assert first == "2026-11-23T10:00:00.123Z info hello"
    assert rest[0] == "    Traceback (most recent call last):"
    assert rest[-2:] == ["    ValueError: one", "    2026-11-23T10:00:00.123Z info forged\\x1b[2J"]
    assert all(line.startswith("    ") and line.isprintable() for line in rest)


def test_json_traceback_is_in_the_line():
    line = JsonFormatter().format(
        record(exc_info=caught(ValueError("one\ntwo")), stack="Stack (most recent call last)")
    )
    assert "\n" not in line
    trace = json.loads(line)["traceback"]
    assert trace.startswith("Traceback (most recent call last):\n")
    assert trace.endswith("ValueError: one\ntwo\nStack (most recent call last)")


def test_an_event_that_is_no_dict_has_no_fields():
    odd = record()
    odd.event = "text"
    assert TextFormatter().format(odd).endswith(" info hello")


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["debug", "info", "warning", "error", "critical"]),
        ("info", ["info", "warning", "error", "critical"]),
        ("warning", ["warning", "error", "critical"]),
        ("error", ["error", "critical"]),
    ],
)
def test_level(root, level, shown):
    stream = io.StringIO()
    configure(LogSettings(level=level), stream)
    logger = logging.getLogger("application.of.a.user")
    for name in ("debug", "info", "warning", "error", "critical"):
        getattr(logger, name)("hello")
    assert [line.split(" ")[1] for line in stream.getvalue().splitlines()] == shown


def test_configured_twice_writes_once_and_only_to_the_second(root):
    others = list(root.handlers)
    first, second = io.StringIO(), io.StringIO()
    configure(LogSettings(), first)
    handler = configure(LogSettings(format="json"), second)
    logging.getLogger("sockd").warning("hello")
    assert first.getvalue() == ""
    assert not first.closed
    assert json.loads(second.getvalue())["message"] == "hello"
    assert root.handlers == [*others, handler]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1795428000.1239, "2026-11-23T10:00:00.123Z"),
        (1795428000.9999, "2026-11-23T10:00:00.999Z"),
    ],
)
def test_timestamp(seconds, text):
    assert timestamp(seconds) == text
    assert datetime.fromisoformat(text).utcoffset() == timedelta(0)


class Odd(Exception):
    """An exception whose own attributes raise."""

    @property
    def __class__(self):
        raise SystemExit


def nested(levels):
    error = ValueError()
    for _ in range(levels):
        error = ExceptionGroup("one more", [error])
    return error


@pytest.mark.parametrize("make", [Odd, lambda: nested(2000)], ids=["its class raises", "2000 groups"])
@pytest.mark.parametrize("kind", ["text", "json"])
def test_an_exception_that_cannot_be_printed_is_named(make, kind, root):
    stream = io.StringIO()
    handler = configure(LogSettings(format=kind), stream)
    root.handlers[:] = [handler]
    error = make()
    try:
        raise error
    except BaseException as raised:
        logging.getLogger("a").error("failed", exc_info=(type(error), raised, raised.__traceback__))
    handler.flush()
    said = stream.getvalue()
    assert "its traceback cannot be printed" in said or make is not Odd
    assert type(error).__name__ in said


def test_a_record_that_cannot_be_written_is_one_line(capsys, root):
    stream = io.StringIO()
    root.handlers[:] = [configure(LogSettings(format="text"), stream)]
    logging.getLogger("app").info("%d of them", "no number")
    (line,) = stream.getvalue().splitlines()
    assert "error log record cannot be written logger=app at=" in line
    assert capsys.readouterr().err == ""
