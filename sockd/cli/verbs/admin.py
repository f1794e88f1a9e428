# SPDX-License-Identifier: MIT
"""The verbs of sockctl that talk to a running daemon, over its control socket.

A person gets text, a program the daemon's reply with --json.  The socket is --control, else `control` of the
configuration that sockd would read, else the path that packages use.
"""

from __future__ import annotations

import argparse
import os
import socket
import stat
import sys
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar, get_args

from sockd.cli.verbs import follow
from sockd.errors import (
    EX_OK,
    EX_PROTOCOL,
    PermissionFault,
    RemoteError,
    SockdError,
    TemporaryFault,
    fault,
)
from sockd.lazy import json, lazily, tomllib
from sockd.log.escape import printable
from sockd.net.kernel import peer_credentials
from sockd.settings.daemon import LogLevel
from sockd.units import format_duration, parse_duration
from sockd.wire.control import (
    FOLLOWED,
    ControlError,
    ControlRequest,
    ControlResponse,
    ControlVerb,
    as_object,
    read_answer,
)
from sockd.wire.control import VERBS as DAEMON_VERBS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sockd.cli import render
    from sockd.cli.verbs import plan
    from sockd.config import load, substitute
    from sockd.files import trusted
    from sockd.wire.control import JsonObject
else:
    render = lazily("sockd.cli.render")
    plan = lazily("sockd.cli.verbs.plan")
    load = lazily("sockd.config.load")
    substitute = lazily("sockd.config.substitute")
    trusted = lazily("sockd.files.trusted")

P = TypeVar("P", bound=argparse.ArgumentParser)
DEFAULT_PATH = "/run/sockd/control.sock"
SECONDS = 10.0
"""Time limit of a reply: twice what a busy daemon needs for the connections of a large one."""
LONGER_SECONDS = {"reload": 60.0, "plan": 60.0, "upgrade": 3700.0}
"""A reload imports handlers, and resolves names; an upgrade has a time limit of its own, upgrade_timeout."""
LONGEST_WAIT_SECONDS = 3700.0
"""For the end of a daemon: more than the longest stop_timeout."""
RECEIVE_BYTES = 1 << 20
MAX_ANSWER_BYTES = 256 << 20
"""A connection takes some 400 bytes of a list of them: this is one of more than half a million."""
WAIT_STEP_SECONDS = 0.02
SHORTEST_INTERVAL_SECONDS = 0.1
LONGEST_INTERVAL_SECONDS = 3600
TOP = ControlVerb("show a live view of listeners, services and the busiest connections (needs the package rich)")
"""In sockctl alone: it requests the status repeatedly."""
VERBS: dict[str, ControlVerb] = {**DAEMON_VERBS, "top": TOP}


def add_verbs(verbs: argparse._SubParsersAction[P]) -> None:
    """Add the verbs to the parser of sockctl."""
    for name, about in VERBS.items():
        text = f"{about.help[0].upper()}{about.help[1:]}. {about.more}".rstrip()
        verb = verbs.add_parser(name, help=about.help, description=text, allow_abbrev=False)
        add_control(verb, default=argparse.SUPPRESS)  # or the one before the verb would be lost
        if name != "top":
            verb.add_argument("--json", action="store_true", help="print the result as JSON")
            seconds = format_duration(LONGER_SECONDS.get(name, SECONDS))
            verb.add_argument("--timeout", metavar="TIME", type=_interval, help=f"time limit for the reply ({seconds})")
        if name == "stop":
            verb.add_argument("--wait", action="store_true", help="wait until the daemon has exited")
        if name == "top":
            verb.add_argument("--interval", metavar="TIME", type=_interval, default="2s", help="refresh interval (2s)")
            verb.add_argument("--times", metavar="COUNT", type=int, help="number of refreshes (until Ctrl-C)")
        elif name in FOLLOWED:
            follow.add_arguments(verb, name)
        elif name == "plan":
            verb.add_argument("file", metavar="FILE", help="configuration to compare with")
        elif name == "log-level":
            levels = get_args(LogLevel)
            verb.add_argument("level", metavar="LEVEL", choices=levels, help=", ".join(levels))
        else:
            for word, (kind, meaning) in about.words.items():
                verb.add_argument(word, metavar=word.upper(), type=kind, help=meaning)
        for word, option in about.options.items():
            given = {"metavar": option.metavar, "type": option.kind, "default": option.kind()}
            verb.add_argument(f"--{option.flag}", dest=word, help=option.help, **given)


def add_control(parser: argparse.ArgumentParser, *, default: str | None) -> None:
    """Add the option for the control socket; it may be before or after the verb."""
    parser.add_argument(
        "--control",
        metavar="PATH",
        default=default,
        help=f"the daemon's control socket (default: from the configuration, else {DEFAULT_PATH})",
    )


def _interval(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    if not SHORTEST_INTERVAL_SECONDS <= seconds <= LONGEST_INTERVAL_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r}: must be 100ms to 1h")
    return seconds


def run(arguments: argparse.Namespace) -> int:
    """Send the request, and print the reply.

    Returns:
        The exit code.

    Raises:
        SockdError: the daemon cannot be reached, or refuses.
    """
    path = find_socket(arguments.control)
    if arguments.verb == "top":
        from sockd.cli.verbs import top  # here, for the other verbs have no use for it and shall start fast

        with _as_expected(path, "top"):
            top.run(lambda verb: ask(path, ControlRequest(verb)), interval=arguments.interval, times=arguments.times)
        return EX_OK
    if arguments.verb in FOLLOWED:
        ask_first = partial(_ask_first, path, arguments.timeout or SECONDS)
        return follow.run(arguments, ask_first, path)
    seconds = arguments.timeout or LONGER_SECONDS.get(arguments.verb, SECONDS)
    own: OwnPart = _OWN_PARTS.get(arguments.verb, _PLAIN)
    request = ControlRequest(arguments.verb, own.read_words(arguments))
    result = ask(path, request, seconds=seconds, note=_print_note)
    with _as_expected(path, arguments.verb):
        result, exit_code = own.complete(arguments, request, result)
        if arguments.json:
            text = json.dumps(result, indent=2) + "\n"
        else:
            text = render.format_reply(arguments.verb, render.printable_answer(result))
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exit_code


class OwnPart(Protocol):
    """What sockctl itself does of a verb."""

    def read_words(self, arguments: argparse.Namespace, /) -> JsonObject:
        """Return the words of the request."""

    def complete(self, arguments: argparse.Namespace, request: ControlRequest, result: object, /) -> tuple[object, int]:
        """Do the rest, once the reply is there; return what to print, and the exit code."""


class Plain:
    """Words are arguments, and the result is printed as it is."""

    def read_words(self, arguments: argparse.Namespace) -> JsonObject:
        """See OwnPart."""
        about = DAEMON_VERBS[arguments.verb]
        return {word: getattr(arguments, word) for word in (*about.words, *about.options)}

    def complete(self, _arguments: argparse.Namespace, _request: ControlRequest, result: object) -> tuple[object, int]:
        """See OwnPart."""
        return result, EX_OK


class Stop(Plain):
    """With --wait the end is waited for."""

    def complete(self, arguments: argparse.Namespace, _request: ControlRequest, result: object) -> tuple[object, int]:
        """See OwnPart."""
        if not arguments.wait:
            return result, EX_OK
        pid = as_object(result)["pid"]
        _wait_for_end(pid, arguments.timeout or LONGEST_WAIT_SECONDS)
        return {"stopped": True, "pid": pid}, EX_OK


_PLAIN = Plain()
_OWN_PARTS: dict[str, OwnPart] = {"stop": Stop(), "plan": plan}


@contextmanager
def _as_expected(path: str, verb: str) -> Iterator[None]:
    """Print a reply that has other parts than this sockctl prints, such as a newer daemon's, as an error.

    Raises:
        RemoteError: says so.
    """
    try:
        yield
    except SockdError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        text = f"{path}: the reply to {verb} cannot be printed ({type(error).__name__}: {printable(str(error))})"
        remedy = "is the daemon's version that of sockctl --version? --json prints the reply as it is"
        raise RemoteError(f"{text}; {remedy}", EX_PROTOCOL) from None


def _print_note(text: str) -> None:
    print(f"sockctl: {printable(text)}", file=sys.stderr, flush=True)


def _wait_for_end(pid: int, seconds: float) -> None:
    """Wait until a process has ended.

    Raises:
        TemporaryFault: it has not ended in time.
    """
    import psutil  # here, for the other verbs have no use for it and shall start fast

    end = time.monotonic() + seconds
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() >= end:
            raise TemporaryFault(f"pid {pid} is stopping, but has not ended within {seconds:g} s")
        time.sleep(WAIT_STEP_SECONDS)  # no descriptor tells of the end of a process that is no child, on every system


def find_socket(given: str | None) -> str:
    """Return the path of the control socket."""
    if given is not None:
        return given
    found = load.find()
    return (None if found is None else _written_in(found)) or DEFAULT_PATH


def _written_in(file: str) -> str | None:
    """Read `control` alone: errors elsewhere in a configuration must not prevent queries."""
    try:
        text = trusted.read(file, file, load.MAX_FILE_BYTES).decode()
        daemon = tomllib.loads(text).get("daemon")
    except (SockdError, ValueError, RecursionError):
        return None
    path = daemon.get("control") if isinstance(daemon, dict) else None
    try:
        return substitute.expand(path) if isinstance(path, str) else None
    except ValueError:
        return None


def ask(
    path: str, question: ControlRequest, *, seconds: float = SECONDS, note: Callable[[str], None] = lambda _text: None
) -> object:
    """Send a request to a daemon.

    Args:
        path: of its control socket.
        question: the request.
        seconds: time limit for the complete reply.
        note: gets each sentence about what the result lacks.

    Returns:
        The result.

    Raises:
        SockdError: there is no reply, or the daemon refuses; with the exit code of its reply.
    """
    with socket.socket(socket.AF_UNIX) as sock:
        answer = _exchange(sock, path, question, seconds, lambda: _receive_all(sock, seconds))
    for text in answer.notes:
        note(text)
    return _result(answer)


def _exchange(
    sock: socket.socket, path: str, question: ControlRequest, seconds: float, receive: Callable[[], bytes]
) -> ControlResponse:
    """Connect, send a request, and return the reply; raises SockdError where there is none."""
    sock.settimeout(seconds)
    try:
        sock.connect(path)
        sock.sendall(question.encode())
        return read_answer(receive())
    except TimeoutError:
        text = f"{path}: the daemon{_who(sock)} did not answer within {seconds:g} s"
        remedy = "a second TERM or INT ends it in a second, and logs where it hangs"
        raise TemporaryFault(f"{text}; {remedy}") from None
    except PermissionError as error:
        remedy = "root and the user that started the daemon may use it: try sudo, or sudo -u USER"
        raise PermissionFault(f"{fault(error, path)}; {remedy}") from None
    except OSError as error:
        remedy = 'is it running, with [daemon] control = "..."? use --control for another socket'
        if os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
            remedy = "it is no socket; --control is the path that [daemon] control names"
        cause = fault(error, path)
        raise type(cause)(f"{cause}; {remedy}") from None
    except ControlError as error:
        raise TemporaryFault(f"{path}: {error}; the daemon exited, or another program listens there") from None


def _ask_first(path: str, seconds: float, sock: socket.socket, question: ControlRequest) -> JsonObject:
    """Ask for a reply that goes on, and return the result in its first line; raises as ask()."""
    return as_object(_result(_exchange(sock, path, question, seconds, lambda: _receive_line(sock))))


def _receive_line(sock: socket.socket) -> bytes:
    """Read the first line alone: what follows is read by sockd.cli.verbs.follow."""
    received = bytearray()
    while not received.endswith(b"\n") and (piece := sock.recv(1)):
        received += piece
    return bytes(received)


def _who(sock: socket.socket) -> str:
    """Name the process that listens at the other end, and what the kernel says that it does."""
    import psutil  # likewise

    with suppress(OSError, psutil.Error):
        if (peer := peer_credentials(sock)) is not None:
            return f" (pid {peer.pid}, {psutil.Process(peer.pid).status()})"
    return ""


def _receive_all(sock: socket.socket, seconds: float) -> bytes:
    end = time.monotonic() + seconds
    received = bytearray()
    while piece := sock.recv(RECEIVE_BYTES):
        received += piece
        if len(received) > MAX_ANSWER_BYTES:
            raise ControlError(f"a reply of more than {MAX_ANSWER_BYTES >> 20} MiB")
        if (left := end - time.monotonic()) <= 0:
            raise TimeoutError
        sock.settimeout(left)
    return bytes(received)


def _result(answer: ControlResponse) -> object:
    if not answer.error:
        return answer.result
    error = SockdError(answer.error)
    error.exit_code = answer.exit_code
    raise error


__all__ = ["VERBS", "add_control", "add_verbs", "ask", "find_socket", "run"]
