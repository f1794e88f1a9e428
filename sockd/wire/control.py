# SPDX-License-Identifier: MIT
"""The control socket's protocol: a JSON object in one line is a request, a JSON object in one line is its reply.

A question is {"verb": "close", ...}; an answer {"ok": true, "result": ...}, or {"ok": false, "error": "...",
"exit": 71} with an exit code of sysexits(3).  Then the connection is closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sockd.lazy import json
from sockd.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sockd.text import KeyPath

JsonObject = dict[str, Any]
"""An object of JSON; its values are what JSON holds."""

MAX_QUESTION_BYTES = 20 * 1024 * 1024
"""`plan` sends a configuration, which has 16 MiB at most (sockd.config.load), escaped for JSON."""


@dataclass(frozen=True)
class ControlOption:
    """An argument that may be left out: an option of sockctl.

    Attributes:
        flag: its name there, without the dashes.
        metavar: what its value is called.
        kind: the type of its value, which is empty or 0 where it is left out.
        help: its meaning.
    """

    flag: str
    metavar: str
    kind: type
    help: str


@dataclass(frozen=True)
class ControlVerb:
    """A verb of the control socket.

    Attributes:
        help: what it does, for sockctl.
        words: its arguments: for each name its type, and its meaning.
        more: sentences for its own --help.
        options: arguments that may be left out, by their name.
    """

    help: str
    words: Mapping[str, tuple[type, str]] = field(default_factory=dict)
    more: str = ""
    options: Mapping[str, ControlOption] = field(default_factory=dict)


FOR = {"duration": ControlOption("for", "TIME", str, "how long it applies, such as 10m (until the next reload)")}
SELECTION = {
    "service": ControlOption("service", "NAME", str, "only connections of this service"),
    "network": ControlOption("network", "NETWORK", str, "only clients of this network, such as 192.0.2.0/24"),
    "state": ControlOption("state", "STATE", str, "only in this state: open, closing, connecting or relayed"),
    "idle": ControlOption("idle", "TIME", str, "only connections that have been idle for this time, such as 5m"),
    "older": ControlOption("older", "TIME", str, "only connections that are at least this old"),
    "sort": ControlOption(
        "sort", "KEY", str, "id, peer, service; or the largest first: age, idle, frames, received, sent, unsent (id)"
    ),
    "limit": ControlOption("limit", "NUMBER", int, "maximum number of connections to list"),
}

VERBS: Mapping[str, ControlVerb] = {
    "status": ControlVerb("print the state of the daemon: listeners, services, last reload"),
    "connections": ControlVerb("list the connections, and the running programs", options=SELECTION),
    "close": ControlVerb("close a connection gracefully", {"id": (int, "connection id, as in sockctl connections")}),
    "drain": ControlVerb(
        "drain a listener: accept queued clients, then close it and its connections gracefully",
        {"listener": (str, "address of the listener, as in sockctl status")},
        "A reload and undrain bind the address again if the configuration still has it.",
        FOR,
    ),
    "undrain": ControlVerb(
        "bind a drained listener again, and accept new clients",
        {"listener": (str, "address of the listener, as in sockctl overrides")},
        "It has the settings that it had. With workers, a new generation of them accepts, as after a reload.",
    ),
    "reload": ControlVerb(
        "reload the configuration",
        more="If the configuration has errors, nothing changes; the errors are printed, and "
        "the exit code is that of the first one.",
    ),
    "plan": ControlVerb(
        "show what a reload with this configuration would keep, add and remove, and what is impossible",
        {"text": (str, "of the configuration"), "name": (str, "that messages have for it")},
        "Handlers are imported by sockctl, not by the daemon; ${NAME} has its value in the daemon. The exit code is 78 "
        "if something is impossible.",
    ),
    "upgrade": ControlVerb(
        "start a new process and hand listeners and connections over to it",
        more="If the new process cannot start or is not ready in time, the old one keeps serving; "
        "the reason is printed, and the exit code is that of the new process.",
    ),
    "stop": ControlVerb("stop the daemon gracefully"),
    "log-level": ControlVerb(
        "set the minimum severity to log, until the next reload or start",
        {"level": (str, "one of the log levels")},
        "With --service, it applies to one service only, and is an override (see sockctl overrides).",
        {"service": ControlOption("service", "NAME", str, "only for log lines of this service"), **FOR},
    ),
    "deny": ControlVerb(
        "refuse new clients of a network, whatever the configuration says",
        {"network": (str, "address or network, such as 192.0.2.0/24")},
        "Open connections stay. If two networks contain an address, the later command decides.",
        FOR,
    ),
    "allow": ControlVerb(
        "let new clients of a network in, whatever allow and deny of the configuration say",
        {"network": (str, "address or network, such as 192.0.2.0/24")},
        "Limits and rates still hold.",
        FOR,
    ),
    "limit": ControlVerb(
        "set the maximum of open connections of a service",
        {
            "service": (str, "its name, or the address of a listener, as in sockctl status"),
            "connections": (int, "how many may be open, in each worker"),
        },
        "Connections above it stay.",
        FOR,
    ),
    "rate": ControlVerb(
        "set the rate of new connections of a service, whatever rate and total_rate of its listeners say",
        {
            "service": (str, "its name"),
            "rate": (str, "such as 100/s, 30/m or 5/10s, as many of which may come at once; off: no limit"),
        },
        "Clients above it are refused. It applies in each worker.",
        {"scope": ControlOption("per", "SCOPE", str, "source (default: of each source), or service (of all)"), **FOR},
    ),
    "target": ControlVerb(
        "send new clients of a relay to a target, or not, whatever health checks have found",
        {
            "service": (str, "the relay"),
            "target": (str, "its address, as in the configuration"),
            "state": (str, "up, drained, or down, which also closes its connections"),
        },
        "With up and drained, open connections stay. If no target is left, clients are closed.",
        FOR,
    ),
    "overrides": ControlVerb(
        "list what deny, allow, limit, rate, target, drain, log-level and deny_time have changed, and until when"
    ),
    "clear": ControlVerb("end an override before its time", {"id": (int, "id, as in sockctl overrides")}),
    "certificates": ControlVerb(
        "list the certificates of the listeners, and until when they are valid",
        more="A file that something has renewed is in use after the next reload.",
    ),
    "trace": ControlVerb(
        "show frames as they pass, until Ctrl-C",
        {
            "subject": (str, "service, connection id or network; empty: all"),
            "rate": (int, "frames a second, at most"),
            "bytes": (int, "of each frame, at most; 0: sizes alone"),
        },
        "Received data is shown frame by frame, sent data as it was written. Frames above the rate are only counted. "
        "Traffic of programs, relays and SOCKS servers is not shown, because sockd does not read it.",
    ),
    "events": ControlVerb(
        "show what the daemon does, as it happens, until Ctrl-C",
        more="Events are reloads, upgrades, workers, stalls, drains, listeners, certificates, overrides, limits, "
        "targets of relays, and defects; each is also in the log.",
        options={"last": ControlOption("last", "NUMBER", int, "begin with this number of past events (100 at most)")},
    ),
}
"""Every verb, in the order in which people read of them."""
FOLLOWED = ("trace", "events")
"""Verbs whose reply goes on, line by line, until the client goes."""
_TYPES = {int: "a number", str: "a text"}
SHOWN = 60
"""Characters of a value in a message."""


class ControlError(ValueError):
    """The bytes are no question, or no answer."""


@dataclass(frozen=True)
class ControlRequest:
    """The request.

    Args:
        verb: one of VERBS.
        words: what goes with it.
    """

    verb: str
    words: JsonObject = field(default_factory=dict)

    def encode(self) -> bytes:
        """Write it as a line."""
        return _line({"verb": self.verb, **self.words})


def read_question(line: bytes) -> ControlRequest:
    """Parse a request of any client, which may be invalid.

    Raises:
        ControlError: it is none, its verb is unknown, or its words are not those of the verb.
    """
    question = read_trusted(line, tuple(VERBS))
    options = {name: one.kind for name, one in VERBS[question.verb].options.items()}
    wanted = {name: kind for name, (kind, _) in VERBS[question.verb].words.items()} | options
    for name, value in question.words.items():
        if name not in wanted:
            raise ControlError(f"{question.verb}: no argument {_shown(name)}; known: {', '.join(wanted) or 'none'}")
        if type(value) is not wanted[name]:
            raise ControlError(f"{question.verb}: {name}: {_shown(value)} is not {_TYPES[wanted[name]]}")
    for name, kind in options.items():
        question.words.setdefault(name, kind())
    for name in wanted:
        if name not in question.words:
            raise ControlError(f"{question.verb}: {name} is missing")
    return question


def read_trusted(line: bytes, verbs: Sequence[str]) -> ControlRequest:
    """Parse a request of another process of this daemon, whose arguments are trusted.

    Raises:
        ControlError: it is none, or its verb is unknown.
    """
    table = _table(line)
    verb = table.pop("verb", None)
    if not isinstance(verb, str) or verb not in verbs:
        raise ControlError(f"verb: {_shown(verb)} is not one of {', '.join(verbs)}")
    return ControlRequest(verb, table)


@dataclass(frozen=True)
class EncodedRows:
    """A long list as a result, each element of which was encoded by itself (encode_row), when there was time for it."""

    rows: list[bytes]


def encode_row(row: object) -> bytes:
    """Write an element of EncodedRows."""
    return json.dumps(row).encode("ascii")


@dataclass(frozen=True)
class ControlResponse:
    """What is answered: a result, or an error and the exit code that goes with it; notes say what a result lacks.

    Between processes of one daemon an error has its key beside it, for whoever knows where that is written.
    """

    result: object = None
    error: str = ""
    exit_code: int = 0
    notes: tuple[str, ...] = ()
    key: KeyPath = ()

    def encode(self) -> bytes:
        """Write it as a line."""
        if self.error:
            key = {"key": self.key} if self.key else {}
            return _line({"ok": False, "error": self.error, "exit": self.exit_code} | key)
        notes = {"notes": self.notes} if self.notes else {}
        if isinstance(self.result, EncodedRows):
            head = json.dumps({"ok": True} | notes).encode("ascii").removesuffix(b"}")
            return b"".join((head, b', "result": [', b", ".join(self.result.rows), b"]}\n"))
        return _line({"ok": True, "result": self.result} | notes)


def read_answer(line: bytes) -> ControlResponse:
    """Read an answer.

    Raises:
        ControlError: it is none, such as one that was cut.
    """
    table = _table(line)
    if table.get("ok") is True:
        notes = table.get("notes")
        return ControlResponse(table.get("result"), notes=tuple(map(str, notes)) if isinstance(notes, list) else ())
    error, code = table.get("error"), table.get("exit")
    if not isinstance(error, str) or type(code) is not int or not 0 < code < 128:
        raise ControlError("a reply without result and without error")
    key = table.get("key")
    return ControlResponse(error=error, exit_code=code, key=tuple(key) if isinstance(key, list) else ())


def as_object(result: object) -> JsonObject:
    """Return a result that is an object of JSON.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(result, dict):
        raise TypeError(f"{_shown(result)} is not an object")
    return result


def as_objects(result: object) -> list[JsonObject]:
    """Return a result that is a list of objects of JSON.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(result, list):
        raise TypeError(f"{_shown(result)} is not a list")
    return [as_object(one) for one in result]


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _line(table: dict[str, object]) -> bytes:
    return json.dumps(table).encode("ascii") + b"\n"


def _table(line: bytes) -> dict[str, object]:
    try:
        table = json.loads(line)
    except ValueError as error:
        raise ControlError(f"not JSON: {error}") from None
    except RecursionError:
        raise ControlError("JSON that is nested too deeply") from None
    if not isinstance(table, dict):
        raise ControlError("not a JSON object")
    return table
