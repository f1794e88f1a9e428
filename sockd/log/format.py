# SPDX-License-Identifier: MIT
"""The log: one event, one line, whatever bytes its fields hold.

A message is a fixed text; what varies, above all what a peer sent, goes into fields:
`logger.info("closed", extra={"event": {"peer": peer, "reason": reason}})`.  Control characters, line separators and
lone surrogates never reach the stream: in text they are escaped as in Python, in JSON as in JSON.  Only the traceback
of a text record takes more lines, each indented, so that a line that does not begin with a blank begins an event.
Where standard error is the journal each line begins with its priority, `<6>`, which the journal takes off
(sd-daemon(3)), and it stamps the lines itself.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from contextlib import contextmanager
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, TextIO, get_args

from sockd.lazy import json
from sockd.log.escape import field_name, field_text, printable
from sockd.log.line import bounded, bounded_trace, shortened
from sockd.log.outlet import PIECE_BYTES, LineWriter, Outlet
from sockd.settings.daemon import LogLevel
from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sockd.settings import LogSettings

LEVELS: dict[str, int] = {name: getattr(logging, name.upper()) for name in get_args(LogLevel)}
INDENT = "    "  # before each line of a traceback
ERROR_SEVERITY = 3  # LOG_ERR of syslog(3)
SEVERITIES = ((logging.CRITICAL, 2), (logging.ERROR, ERROR_SEVERITY), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))
"""Levels, and the severities of syslog(3) and of the journal."""

_COLOURS = {2: "1;31", 3: "31", 4: "33", 6: "32", 7: "2"}  # by severity: red, yellow, green, faint (ECMA-48, SGR)
_SUBSTITUTE = "sockd.log"
_FIXED_KEYS = ("time", "level", "logger", "message", "traceback")


@dataclass(frozen=True)
class RawRecord:
    """A record as it is sent to the log's target.

    Args:
        fd: where it is written.
        data: what is written.
        is_socket: it is sent, in one piece.
        is_quoted: values that are not plain words are in double quotes, with backslash escapes.
    """

    fd: int
    data: bytes
    is_socket: bool = False
    is_quoted: bool = True


class OwnHandler(logging.Handler):
    """Our own class, by which install recognises what it installed; close() does nothing while it `is_kept`."""

    is_kept = False

    def reopen(self) -> None:
        """Open a file again that may have been renamed; most targets have none."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - as logging.Handler
        """Write one line in place of a record that cannot be formatted, such as one whose arguments do not fit its
        text.
        """
        if record.name == _SUBSTITUTE:  # not even that
            return
        kind = sys.exc_info()[0]
        event = {"logger": record.name, "at": f"{record.pathname}:{record.lineno}", "error": kind and kind.__name__}
        words = "log record cannot be written"
        substitute = logging.LogRecord(_SUBSTITUTE, logging.ERROR, record.pathname, record.lineno, words, (), None)
        substitute.event = event
        self.emit(substitute)

    def raw(self, record: logging.LogRecord) -> RawRecord | None:
        """Return what would be written for a record, for a writer that runs without Python; None: nowhere."""
        return None

    def share(self) -> None:
        """Write each record in one piece from now on: other processes write there as well."""

    def close(self) -> None:
        """Close what was opened, unless it is kept."""
        if not self.is_kept:
            self.end()
            super().close()

    def end(self) -> None:
        """Close what was opened."""


class Lossy(OwnHandler):
    """Writes a record at once or not at all, and reports later how many it dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, after the number of dropped ones."""
        try:
            if self._lost:
                self.send(_lost(self._lost))
                self._lost = 0
            self.send(record)
        except OSError:
            self._lost += 1
        except Exception:
            self.handleError(record)

    def send(self, record: logging.LogRecord) -> None:
        """Write one record; OSError when that would block."""
        raise NotImplementedError


class _StreamHandler(Lossy):
    """Standard error, or a stream of the caller; never waits for its reader."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream
        self._outlet = _outlet(stream)
        self._lines = LineWriter(self._outlet.write) if self._outlet is not None else None
        self._max_bytes: int | None = None

    def share(self) -> None:
        """Write at most as much at once as a pipe accepts in one piece."""
        if self._outlet is not None and self._outlet.is_pipe:
            self._max_bytes = PIECE_BYTES

    def _bytes(self, record: logging.LogRecord) -> bytes:
        data = self._line(record)
        if self._max_bytes is None or len(data) <= self._max_bytes or self.formatter is None:
            return data
        return shortened(record, _traceback(self.formatter, record), self._max_bytes, self._line)

    def _line(self, record: logging.LogRecord) -> bytes:
        return (self.format(record) + "\n").encode(self.stream.encoding or "utf-8", "backslashreplace")

    def send(self, record: logging.LogRecord) -> None:
        """Write its lines."""
        if self._lines is None:  # memory
            self.stream.write(self.format(record) + "\n")
        else:
            self._lines.line(self._bytes(record))

    def raw(self, record: logging.LogRecord) -> RawRecord | None:
        """Return what would be written for a record."""
        if self._outlet is None:
            return None
        return RawRecord(self._outlet.fileno(), self._bytes(record), is_socket=self._outlet.is_socket)

    def end(self) -> None:
        """Close what does not belong to the caller."""
        if self._outlet is not None:
            self._outlet.close()


def _outlet(stream: TextIO) -> Outlet | None:
    try:
        return Outlet(stream.fileno())
    except (OSError, ValueError):  # no file behind it
        return None


def _lost(count: int) -> logging.LogRecord:
    record = logging.LogRecord("sockd.log", logging.WARNING, __file__, 0, "log records lost", (), None)
    record.event = {"count": count}
    return record


@contextmanager
def kept() -> Iterator[None]:
    """Keep our own log whatever the body does to logging (dictConfig, basicConfig, disable).

    A record factory that it sets makes the records from now on; where it fails, the plain one does.

    Handlers and loggers that it adds stay.  Source: logging.config, which closes every handler and disables every
    logger.
    """
    root = logging.getLogger()
    own = [handler for handler in root.handlers if isinstance(handler, OwnHandler)]
    level, disabled, factory = root.level, root.manager.disable, logging.getLogRecordFactory()
    loggers = {one: (one.disabled, one.level, one.propagate) for one in _own_loggers()}
    for handler in own:
        handler.is_kept = True
    try:
        yield
    finally:
        for handler in own:
            handler.is_kept = False
            if handler not in root.handlers:
                root.addHandler(handler)
        root.setLevel(level)
        logging.disable(disabled)
        if logging.getLogRecordFactory() is not factory:
            logging.setLogRecordFactory(_never_failing(logging.getLogRecordFactory()))
        for one in _own_loggers():
            one.disabled, known, one.propagate = loggers.get(one, (False, logging.NOTSET, True))
            one.setLevel(known)


PLAIN: Callable[..., logging.LogRecord] = logging.LogRecord


def _never_failing(factory: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
    def make(*args: object, **more: object) -> logging.LogRecord:
        try:
            record = factory(*args, **more)
        except Exception:
            return PLAIN(*args, **more)
        return record if isinstance(record, logging.LogRecord) else PLAIN(*args, **more)

    return make


def _own_loggers() -> list[logging.Logger]:
    known = logging.Logger.manager.loggerDict.items()
    return [one for name, one in known if name.partition(".")[0] == "sockd" and isinstance(one, logging.Logger)]


def configure(settings: LogSettings, stream: TextIO) -> OwnHandler:
    """Send the records of all loggers to one stream, with priorities if it is the journal.

    A second call replaces what the first one installed, and leaves other handlers alone.

    Args:
        settings: format and level.
        stream: where the lines go; the caller closes it.

    Returns:
        The handler that was installed on the root logger.
    """
    journal = is_journal(stream)
    coloured = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    text = TextFormatter(stamped=not journal, coloured=coloured)
    formatter = JsonFormatter() if settings.format == "json" else text
    return install(settings, _StreamHandler(stream), PriorityFormatter(formatter) if journal else formatter)


def for_a_start(stream: TextIO) -> OwnHandler:
    """Return a handler for a stream until a log has been opened; it is not installed."""
    handler = _StreamHandler(stream)
    handler.setFormatter(TextFormatter())
    return handler


def install(settings: LogSettings, handler: OwnHandler, formatter: logging.Formatter | None = None) -> OwnHandler:
    """Install a handler of our own for all loggers; the previous one is closed.

    Args:
        settings: format and level.
        handler: where the lines go.
        formatter: instead of that of settings.format.

    Returns:
        The handler.
    """
    handler.setFormatter(formatter or (JsonFormatter() if settings.format == "json" else TextFormatter()))
    root = logging.getLogger()
    for other in [other for other in root.handlers if isinstance(other, OwnHandler)]:
        root.removeHandler(other)
        other.close()
    root.addHandler(handler)
    root.setLevel(LEVELS[settings.level])
    return handler


class TextFormatter(logging.Formatter):
    """For people: `2026-11-23T10:00:00.123Z info message key=value key="quoted value"`.

    Args:
        stamped: whether time and level begin the line; not where the target writes them.
        coloured: whether the level has a colour, by the sequences of ECMA-48 (only on a terminal).
    """

    def __init__(self, *, stamped: bool = True, coloured: bool = False) -> None:
        super().__init__()
        self._stamped = stamped
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        """Write a record.

        Args:
            record: its attribute `event`, when it is a dict, holds the fields.

        Returns:
            One line without its newline; a traceback follows in indented lines.
        """
        level = record.levelname.lower()
        if self._coloured:
            level = f"\x1b[{_COLOURS[severity(record)]}m{level}\x1b[0m"
        words = [timestamp(record.created), level] if self._stamped else []
        words.append(printable(bounded(record.getMessage())))
        words += [f"{field_name(str(key))}={field_text(value)}" for key, value in event_fields(record).items()]
        trace = _traceback(self, record)
        return "\n".join([" ".join(words), *(INDENT + printable(line) for line in trace.split("\n") if line)])


class JsonFormatter(logging.Formatter):
    """For collectors: one JSON object in ASCII, with time, level, logger, message and the fields."""

    @cached_property
    def _encode(self) -> Callable[[object], str]:  # json.dumps would make one for every line
        return json.JSONEncoder(allow_nan=False).encode

    def format(self, record: logging.LogRecord) -> str:
        """Write a record.

        Args:
            record: its attribute `event`, when it is a dict, holds the fields; one with the name of a fixed key is
                written as `event_KEY`.

        Returns:
            One line without its newline; a traceback is a field.
        """
        line: dict[str, object] = {
            "time": timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _clean(bounded(record.getMessage())),
        }
        for key, value in event_fields(record).items():
            name = _clean(str(key))
            line[f"event_{name}" if name in _FIXED_KEYS else name] = _plain(value)
        trace = _traceback(self, record)
        if trace:
            line["traceback"] = _clean(trace)
        return self._encode(line)  # in ASCII, which escapes every control character


class PriorityFormatter(logging.Formatter):
    """For standard error that is the journal: `<6>` before each line of another formatter.

    Args:
        inner: writes the line.
    """

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Write a record; every line of it has the priority, because the journal sees single lines."""
        mark = f"<{severity(record)}>"
        return mark + self._inner.format(record).replace("\n", f"\n{mark}")


def severity(record: logging.LogRecord) -> int:
    """Return the severity of a record: 2 critical, 3 error, 4 warning, 6 information, 7 debug."""
    return next(number for level, number in SEVERITIES if record.levelno >= level)


def is_journal(stream: TextIO) -> bool:
    """Return whether a stream leads to the journal: JOURNAL_STREAM has its device and inode (systemd.exec(5))."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no file behind it
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def timestamp(seconds: float) -> str:
    """Format a time.

    Args:
        seconds: since 1970, as time.time().

    Returns:
        RFC 3339 in UTC with milliseconds: "2026-11-23T10:00:00.123Z".
    """
    whole, micro = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{_second(whole)}.{micro // 1000:03}Z"


@lru_cache(maxsize=2)  # lines come many to a second
def _second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))


def event_fields(record: logging.LogRecord) -> Mapping[object, object]:
    """Return the fields of a record, none when it has none."""
    event = getattr(record, "event", None)
    return event if isinstance(event, dict) else {}


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    trace = ""
    if record.exc_info:
        try:
            trace = formatter.formatException(record.exc_info)
        except BaseException as error:  # the exception is a handler's, and so is what its attributes do
            kind, _, last = record.exc_info
            at = f", raised at {last.tb_frame.f_code.co_filename}:{last.tb_lineno}" if last else ""
            trace = f"{kind and kind.__name__}{at}; its traceback cannot be printed: {type(error).__name__}"
    return bounded_trace("\n".join(part for part in (trace, record.stack_info) if part))


def _plain(value: object) -> object:
    """Return a value that JSON can hold; bytes and everything else become text."""
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_clean(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bounded(bytes(value).decode("utf-8", "backslashreplace"))
    return _clean(bounded(str(value)))


def _clean(text: str) -> str:
    """Replace lone surrogates, as file names have them, which are not JSON."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()
