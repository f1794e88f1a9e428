# SPDX-License-Identifier: MIT
"""The verbs whose reply goes on: `sockctl trace` and `sockctl events`.

Each line of the daemon is printed as it arrives.  Where an upgrade ends the reply, the new process is asked the same.
Redaction is done here: a pattern that takes long must not hold up a daemon, and who may follow it may see all of it.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import sys
from typing import TYPE_CHECKING

from sockd.errors import EX_OK, TemporaryFault
from sockd.lazy import json
from sockd.log.escape import printable
from sockd.log.format import timestamp
from sockd.units import parse_whole
from sockd.wire.control import ControlRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sockd.wire.control import JsonObject

DEFAULT_RATE = 200
DEFAULT_BYTES = 256
MARGIN_BYTES = 1024
"""More of each frame for --redact, so that what the pattern matches is found also where it is cut."""
MAX_BYTES = 4096
MAX_EVENTS = 100
"""As many as a daemon remembers."""
REDACTED = "***"
RECEIVE_BYTES = 1 << 16


def add_arguments(verb: argparse.ArgumentParser, name: str) -> None:
    """Add the arguments of a verb that is followed."""
    verb.add_argument("--count", metavar="COUNT", type=_count, help="end after this number of lines (until Ctrl-C)")
    if name == "trace":
        _add_trace(verb)


def _add_trace(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "subject",
        metavar="SUBJECT",
        nargs="?",
        default="",
        help="a service, a connection id as in sockctl connections, or a network such as 192.0.2.0/24 (default: all)",
    )
    rate = f"maximum number of frames per second, 1 to 10000; others are only counted ({DEFAULT_RATE})"
    verb.add_argument("--rate", metavar="NUMBER", type=int, default=DEFAULT_RATE, help=rate)
    shown = f"bytes of each frame to show, 1 to {MAX_BYTES} ({DEFAULT_BYTES})"
    verb.add_argument("--bytes", metavar="NUMBER", type=_size, default=DEFAULT_BYTES, help=shown)
    verb.add_argument("--sizes", action="store_true", help="show only sizes; no content leaves the daemon")
    redact = f"Python regular expression: show {REDACTED} instead of what matches"
    verb.add_argument("--redact", metavar="PATTERN", type=_pattern, help=redact)


def _count(text: str) -> int:
    number = parse_whole(text, sys.maxsize)
    if not number:
        raise argparse.ArgumentTypeError(f"{text!r}: must be 1 or more")
    return number


def _size(text: str) -> int:
    number = parse_whole(text, MAX_BYTES)
    if not number:
        raise argparse.ArgumentTypeError(f"{text!r}: must be 1 to {MAX_BYTES}; --sizes shows no content")
    return number


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


def _question(arguments: argparse.Namespace, *, again: bool) -> ControlRequest:
    """Return what the daemon is asked; again: a new process, which may have events of before it was asked."""
    if arguments.verb == "events":
        return ControlRequest("events", {"last": MAX_EVENTS if again else arguments.last})
    shown = 0 if arguments.sizes else arguments.bytes
    if arguments.redact is not None and shown:
        shown = min(shown + MARGIN_BYTES, MAX_BYTES)
    return ControlRequest("trace", {"subject": arguments.subject, "rate": arguments.rate, "bytes": shown})


def run(arguments: argparse.Namespace, ask: Callable[[socket.socket, ControlRequest], JsonObject], path: str) -> int:
    """Follow the daemon, and print each line, until Ctrl-C or its end; return the exit code.

    Args:
        arguments: of the command line.
        ask: connects a socket, sends a question and returns the first reply.
        path: of the control socket, for messages.

    Raises:
        SockdError: there is no reply, the daemon refuses, or it has ended.
    """
    left, seen, again = arguments.count if arguments.count is not None else -1, 0.0, False
    while True:
        with socket.socket(socket.AF_UNIX) as sock:
            first = ask(sock, _question(arguments, again=again))
            if arguments.verb == "trace":
                unseen = f"; not seen: {', '.join(first['unseen'])}" if first["unseen"] else ""
                print(f"sockctl: tracing until Ctrl-C{unseen}", file=sys.stderr, flush=True)
            sock.settimeout(None)
            end = "gone"
            for line in _lines(sock):
                if "end" in line:
                    end = line["end"]
                    break
                if again and line.get("time", seen) < seen:
                    continue
                seen = line.get("time", seen)
                left -= 1
                if not _print(arguments, line) or left == 0:
                    return EX_OK
        again = True
        if end != "upgraded":
            raise TemporaryFault(f"{path}: the daemon is {'stopping' if end == 'stopping' else 'gone'}")
        print("sockctl: upgraded; following the new process", file=sys.stderr, flush=True)


def _lines(sock: socket.socket) -> Iterator[JsonObject]:
    received = b""
    while piece := sock.recv(RECEIVE_BYTES):
        *lines, received = (received + piece).split(b"\n")
        for line in lines:
            yield json.loads(line)


def _print(arguments: argparse.Namespace, line: JsonObject) -> bool:
    """Print a line; False where nobody reads any more."""
    if "data" in line:
        line["data"] = _content(arguments, line["data"], is_cut=line["bytes"] > len(line["data"]))
    text = json.dumps(line) if arguments.json else _text({key: _clean(value) for key, value in line.items()})
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to be flushed
        return False
    return True


def _content(arguments: argparse.Namespace, data: str, *, is_cut: bool) -> str:
    """Return the content of a frame as text: bytes that are no UTF-8 as escapes."""
    text = _decoded(data)
    if arguments.redact is not None:
        text = _redacted(arguments.redact, text, len(_decoded(data[:-MARGIN_BYTES])) if is_cut else len(text))
    return text[: arguments.bytes]


def _decoded(data: str) -> str:
    return data.encode("latin-1").decode("utf-8", "backslashreplace")


def _redacted(pattern: re.Pattern[str], text: str, end: int) -> str:
    """Replace what matches; of what begins behind `end` nothing is shown, for the rest of it may be cut off."""
    found, at = "", 0
    for match in pattern.finditer(text):
        if match.start() >= end:
            break
        found += text[at : match.start()] + REDACTED
        at = match.end()
    return found + text[at:end]


def _clean(value: object) -> object:
    """Escape what a peer has chosen, for a terminal: one line stays one."""
    return printable(value) if isinstance(value, str) else value


def _text(line: JsonObject) -> str:
    if "left_out" in line:
        return f"... not shown, above the rate: {line['left_out']}"
    if "lost" in line:
        return f"... lost, because this reader is too slow: {line['lost']}"
    if "category" in line:
        return _event(line)
    mark = "<" if line["direction"] == "in" else ">"
    who = f"{timestamp(line['time'])} {line['service']} {line['connection']} {line['peer']}"
    content = f"  {line['data']}" if "data" in line else ""
    return f"{who} {mark} {line['bytes']} B{content}"


def _event(line: JsonObject) -> str:
    fields = [
        f"{key}={_word(value)}" for key, value in line.items() if key not in ("time", "category", "level", "message")
    ]
    return " ".join([timestamp(line["time"]), line["level"], f"{line['category']}:", line["message"], *fields])


def _word(value: object) -> str:
    text = str(value)
    return text if text and not set(text) & set(' "=') else json.dumps(text, ensure_ascii=False)


__all__ = ["add_arguments", "run"]
