# SPDX-License-Identifier: MIT
"""A service manager as systemd is one, for tests: a receiver of its own for NOTIFY_SOCKET, sockets that it passes.

`managed(...)` starts `sockd --foreground` with the environment of a unit and returns a `Unit`.
"""

from __future__ import annotations

import array
import itertools
import os
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress

import pytest
from serving import STAY_ROOT
from watching import CLIENT_TIMEOUT_S, _script, _until

LIMIT_S = 30
EXECUTE = """
import os, sys
names, words = sys.argv[1], sys.argv[2:]
environment = dict(os.environ)
environment["LISTEN_PID"] = environment["WATCHDOG_PID"] = str(os.getpid())
if names != "-":
    environment["LISTEN_FDNAMES"] = names
os.execve(words[0], words, environment)
"""
"""What systemd's child does between fork(2) and execve(2): only it knows its own number."""


class Receiver:
    """The other end of NOTIFY_SOCKET.

    Attributes:
        messages: each as a dict, in the order of their coming.
        stored: (name, socket) that were sent to be kept; closed at the end.
        address: for NOTIFY_SOCKET.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.messages: list[dict[str, str]] = []
        self.stored: list[tuple[str, socket.socket]] = []
        self._news = threading.Condition()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._thread = threading.Thread(target=self._receive)
        self._thread.start()

    def _receive(self) -> None:
        while True:
            text, rights, _, _ = self._socket.recvmsg(65_536, socket.CMSG_SPACE(16))
            if not text:
                return
            fields = dict(line.split("=", 1) for line in text.decode().split("\n"))
            with self._news:
                for _, _, data in rights:
                    for fd in array.array("i", data):
                        self.stored.append((fields["FDNAME"], socket.socket(fileno=fd)))
                self.messages.append(fields)
                self._news.notify_all()

    def wait_for(self, key: str, value: str = "1", *, count: int = 1) -> dict[str, str]:
        """Wait for the count-th message that has this field, and return it."""

        def found() -> list[dict[str, str]]:
            return [message for message in self.messages if message.get(key) == value]

        with self._news:
            accepted = self._news.wait_for(lambda: len(found()) >= count, LIMIT_S)
        assert accepted, f"no {key}={value} came, but {self.messages}"
        return found()[count - 1]

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            address = self.address
            sock.sendto(b"", "\0" + address[1:] if address.startswith("@") else address)
        self._thread.join()
        self._socket.close()
        for _, one in self.stored:
            one.close()


class Unit:
    """One sockd, started as a unit's process."""

    def __init__(self, process: subprocess.Popen, receiver: Receiver | None) -> None:
        self.process = process
        self.receiver = receiver
        self.words: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            self.words.append(line.rstrip("\n"))

    @property
    def said(self) -> str:
        return "\n".join(self.words)

    def wait_for(self, word: str, *, count: int = 1) -> str:
        """The count-th line with this word."""
        return _until(lambda: ([line for line in list(self.words) if word in line] + [""] * count)[count - 1], LIMIT_S)

    def end(self, code: int = 0) -> str:
        """Stop it, or wait where it ended by itself, and return its standard error."""
        if code == 0:
            self.process.terminate()
        assert self.process.wait(LIMIT_S) == code, self.said
        self._reader.join()
        return self.said

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stderr.close()


@pytest.fixture
def receiver(tmp_path):
    """A manager's socket at a path."""
    one = Receiver(f"{tmp_path}/notify")
    yield one
    one.close()


@pytest.fixture
def managed(tmp_path):
    """Start sockd as a unit: `managed("fd:web=upper", sockets=[("web", sock)], receiver=receiver)`.

    Args of the call:
        listen: ADDRESS=SERVICE of each listener; or `words`, the whole command line.
        sockets: (name, socket) that are passed, from descriptor 3 on.
        names: LISTEN_FDNAMES in place of those of the sockets; "-" for none.
        receiver: its NOTIFY_SOCKET.
        before: words before the command; environment: besides.
    """
    units = []

    def start(*listen, words=None, sockets=(), names=None, receiver=None, environment=None, options=()) -> Unit:
        given = {key: value for key, value in os.environ.items() if key not in ("NOTIFY_SOCKET", "JOURNAL_STREAM")}
        given |= {"LISTEN_FDS": str(len(sockets))} if sockets or names else {}
        given |= {"NOTIFY_SOCKET": receiver.address} if receiver else {}
        given |= environment or {}
        words = words or ["--foreground", *(word for one in listen for word in ("--listen", one))]
        if names is None:
            names = ":".join(name for name, _ in sockets) or "-"
        command = [sys.executable, "-S", "-c", EXECUTE, names, _script("sockd"), *STAY_ROOT, *options, *words]
        with ExitStack() as stack:
            beyond = 3 + len(sockets)  # moved out of the way of one another first
            lifted = [os.dup(one.fileno()) for _, one in sockets]
            for fd in lifted:
                stack.callback(os.close, fd)

            def place() -> None:
                high = [os.dup2(fd, beyond + 100 + index) for index, fd in enumerate(lifted)]
                for index, fd in enumerate(high):
                    os.dup2(fd, 3 + index)
                    os.close(fd)

            process = subprocess.Popen(
                command,
                cwd=tmp_path,
                env={**given, "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                pass_fds=range(3, beyond),
                preexec_fn=place,  # noqa: PLW1509 - dup2() only
            )
        units.append(Unit(process, receiver))
        return units[-1]

    yield start
    for unit in units:
        unit.kill()


@pytest.fixture
def bound(tmp_path):
    """Open sockets as a socket unit does: `bound("tcp")`, listening and blocking; closed at the end."""
    opened = []
    numbers = itertools.count()

    def open_one(kind: str, *, listen: bool = True) -> socket.socket:
        family, type_, where = {
            "tcp": (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            "udp": (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            "unix": (socket.AF_UNIX, socket.SOCK_STREAM, f"{tmp_path}/passed{next(numbers)}"),
            "unixgram": (socket.AF_UNIX, socket.SOCK_DGRAM, f"{tmp_path}/passed{next(numbers)}"),
            "abstract": (socket.AF_UNIX, socket.SOCK_STREAM, f"\0sockd-test-{os.getpid()}-{next(numbers)}"),
            "seqpacket": (socket.AF_UNIX, socket.SOCK_SEQPACKET, f"{tmp_path}/passed{next(numbers)}"),
        }[kind]
        sock = socket.socket(family, type_)
        opened.append(sock)
        sock.bind(where)
        if type_ != socket.SOCK_DGRAM and listen:
            sock.listen(16)
        return sock

    yield open_one
    for sock in opened:
        sock.close()


def url_of(sock: socket.socket) -> str:
    """The address at which a passed socket is bound, as a configuration writes it."""
    stream = sock.type == socket.SOCK_STREAM
    if sock.family == socket.AF_UNIX:
        return f"{'unix' if stream else 'unixgram'}:{sock.getsockname()}"
    host, port = sock.getsockname()
    return f"{'tcp' if stream else 'udp'}://{host}:{port}"


def ask(sock: socket.socket, words: bytes = b"hello") -> bytes:
    """Ask whoever serves the socket, of which this process has a copy."""
    with socket.socket(sock.family, sock.type) as client:
        client.settimeout(CLIENT_TIMEOUT_S)
        if sock.family == socket.AF_UNIX and sock.type == socket.SOCK_DGRAM:
            client.bind("")  # a name of the kernel's, for the answer
        client.connect(sock.getsockname())
        client.sendall(words + b"\n" * (sock.type == socket.SOCK_STREAM))
        with suppress(ConnectionResetError):
            return client.recv(4096)
    return b""
