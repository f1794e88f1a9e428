# SPDX-License-Identifier: MIT
"""The client's side: connecting, asking, and what the kernel counts about it."""

from __future__ import annotations

import socket
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sockd.net.address.sockaddr import format_sockaddr
from sockd.selftest.daemon_process import PATIENCE_SECONDS, CheckFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.address.sockaddr import Endpoint

RESET = struct.pack("ii", 1, 0)
"""struct linger: close() sends RST."""
SEGMENTS = struct.Struct("=II")
SEGMENTS_AT = 136
"""Offset of tcpi_segs_out and tcpi_segs_in in struct tcp_info (linux/tcp.h, Linux 4.2)."""
DATA_SEGMENTS_IN_AT = 152
"""Offset of tcpi_data_segs_in (Linux 4.6)."""
TCP_INFO_BYTES = 256
STEP_SECONDS = 0.005
QUIET_SECONDS = 0.25
"""Longer than the longest delayed acknowledgement, TCP_DELACK_MAX of 200 ms."""


class Skip(Exception):
    """A check cannot be made here; str() says why."""


class Segments(NamedTuple):
    """TCP segments of a connection, as its socket counted them."""

    sent: int
    received: int

    @property
    def both(self) -> int:
        """Of both directions."""
        return self.sent + self.received


def expect(true: object, saw: str) -> None:
    """Raise Failed with what was seen, unless it is as it should be."""
    if not true:
        raise CheckFailed(saw)


def until(true: Callable[[], object], what: str) -> None:
    """Look again and again until something is so, for what only the kernel's tables tell."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not true():
        if time.monotonic() > end:
            raise CheckFailed(f"{what}, {PATIENCE_SECONDS:g} s long")
        time.sleep(STEP_SECONDS)


def dial(endpoint: Endpoint) -> socket.socket:
    """Connect; a Unix datagram socket gets a name, so that it can be answered (unix(7))."""
    sock = socket.socket(endpoint.family, endpoint.type)
    sock.settimeout(PATIENCE_SECONDS)
    if endpoint.family == socket.AF_UNIX and endpoint.type == socket.SOCK_DGRAM:
        sock.bind("")
    sock.connect(endpoint.sockaddr)
    return sock


def ask(sock: socket.socket, line: bytes = b"hello\n") -> bytes:
    """Send a line, read one."""
    sock.sendall(line)
    return read_line(sock)


def read_line(sock: socket.socket) -> bytes:
    """Read up to a newline, or to the end."""
    got = b""
    while not got.endswith(b"\n") and (more := sock.recv(65_536)):
        got += more
    return got


def read_all(sock: socket.socket) -> bytes:
    """Read to the end."""
    parts = []
    while more := sock.recv(1 << 20):
        parts.append(more)
    return b"".join(parts)


def name(sock: socket.socket) -> str:
    """Write our own address as the daemon's log does."""
    return format_sockaddr(sock.family, sock.type, sock.getsockname())


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def segments(sock: socket.socket) -> Segments:
    """Count the segments of a connection so far, once it is quiet.

    Raises:
        Skip: this kernel does not count them.
    """
    last, since = _segments(sock), time.monotonic()
    while time.monotonic() - since < QUIET_SECONDS:
        time.sleep(STEP_SECONDS)
        if (now := _segments(sock)) != last:
            last, since = now, time.monotonic()
    return last


def _segments(sock: socket.socket) -> Segments:
    return Segments(*SEGMENTS.unpack_from(tcp_info(sock), SEGMENTS_AT))


def data_segments_in(sock: socket.socket) -> int:
    """Count the segments with data that came."""
    return int(struct.unpack_from("=I", tcp_info(sock), DATA_SEGMENTS_IN_AT)[0])


def tcp_info(sock: socket.socket) -> bytes:
    """Return struct tcp_info.

    Raises:
        Skip: there is none, or it is too old.
    """
    if not hasattr(socket, "TCP_INFO"):
        raise Skip("this system has no TCP_INFO")
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    if len(info) < DATA_SEGMENTS_IN_AT + 4:
        raise Skip("this kernel does not count segments in TCP_INFO")
    return info


class TcpRow(NamedTuple):
    """A line of /proc/net/tcp."""

    local_port: int
    state: str
    receive_queue: int


LISTEN, FIN_WAIT2, TIME_WAIT, CLOSE_WAIT = "0A", "05", "06", "08"


def kernel_rows(port: int) -> list[TcpRow]:
    """List the TCP sockets of a local port; of a listening one the receive queue is its accept queue.

    Raises:
        Skip: there is no /proc/net/tcp.
    """
    rows = []
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if not table.exists():
            continue
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            words = line.split()
            row = TcpRow(int(words[1].rpartition(":")[2], 16), words[3], int(words[4].rpartition(":")[2], 16))
            rows += [row] if row.local_port == port else []
    if not Path("/proc/net/tcp").exists():
        raise Skip("this system has no /proc/net/tcp")
    return rows


def count(port: int, state: str) -> int:
    """Count the sockets of a local port in a state."""
    return sum(row.state == state for row in kernel_rows(port))


def has_ipv6() -> bool:
    """Tell whether ::1 can be bound."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True
