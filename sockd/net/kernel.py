# SPDX-License-Identifier: MIT
"""What the kernel reports about a socket and a port, for status and metrics.

Nothing here changes anything, and what this kernel does not report is None, never an error.  Source: tcp(7),
linux/tcp.h, linux/sock_diag.h, proc_net_tcp of the kernel's documentation; FAQ II.7, III.3.
"""

from __future__ import annotations

import errno
import fcntl
import select
import socket
import struct
import sys
import termios

from sockd.values import dataclass

SO_MEMINFO = 55
"""asm-generic/socket.h; Linux 4.12 and later."""
TCP_LISTEN = 10
TIME_WAIT = "06"
"""States of include/net/tcp_states.h, the second as /proc/net/tcp prints it."""
DEAD = (errno.EINVAL, errno.EBADF, errno.ENOTSOCK, errno.EOPNOTSUPP)
"""Errors of accept(2): the socket no longer listens, because another process has shut it down (shutdown(2))."""
NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
SHORTAGES = (*NO_DESCRIPTOR, errno.ENOBUFS, errno.ENOMEM)
"""Errors of accept(2) that end when connections close, not by trying again."""
SOCKSTAT = "/proc/net/sockstat"
TABLES = ("/proc/net/tcp", "/proc/net/tcp6")

_TCP_INFO = struct.Struct("=8B6I")  # up to tcpi_sacked; the state stands first
_MEMINFO = struct.Struct("=9I")  # SK_MEMINFO_VARS; the drops stand last
_OUTQ = struct.Struct("=i")
UCRED = struct.Struct("=iII")
"""struct ucred of unix(7)."""


@dataclass(frozen=True)
class Credentials:
    """Who is at the other end of a Unix socket, or has sent a message: a struct ucred."""

    pid: int
    uid: int
    gid: int

    @classmethod
    def unpack(cls, data: bytes) -> Credentials:
        """Read a struct ucred."""
        return cls(*UCRED.unpack(data))


def peer_credentials(sock: socket.socket) -> Credentials | None:
    """Ask who has connected a Unix socket, or called listen() on it (SO_PEERCRED).

    Returns:
        None where this system does not tell.

    Raises:
        OSError: it does, and not of this socket.
    """
    option = getattr(socket, "SO_PEERCRED", None)
    return None if option is None else Credentials.unpack(sock.getsockopt(socket.SOL_SOCKET, option, UCRED.size))


@dataclass(frozen=True, slots=True)
class AcceptQueue:
    """The accept queue of a socket.

    Args:
        length: of them now; one more than the limit is possible, for the kernel
            asks whether there are more, not whether there are as many.
        limit: the backlog as the kernel cut it (net.core.somaxconn).
        overflows: packets that this listener dropped because the queue was full
            or memory short, since it was opened; a client that tries again
            counts again.  None where the kernel does not tell.
    """

    length: int
    limit: int
    overflows: int | None


def accept_queue(sock: socket.socket) -> AcceptQueue | None:
    """Return the queue of a listening TCP socket.

    Returns:
        None for every other socket, for a closed one, and where there is no TCP_INFO as Linux has it.

    Source: tcpi_unacked and tcpi_sacked of a listener, tcp_get_info of net/ipv4/tcp.c; ss(8) shows the same.
    """
    if sys.platform != "linux" or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:
        return None
    if len(info) < _TCP_INFO.size or info[0] != TCP_LISTEN:
        return None
    *_, length, limit = _TCP_INFO.unpack(info)
    return AcceptQueue(length, limit, _drops(sock))


def _drops(sock: socket.socket) -> int | None:
    try:
        return int(_MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size))[-1])
    except (OSError, struct.error):
        return None


def time_wait_count(port: int) -> int | None:
    """Count the connections of a local port in TIME_WAIT (FAQ II.7).

    BLOCKS while the kernel prints its table: some 10 ms for 20,000 connections.

    Args:
        port: ours.

    Returns:
        Of both families; None where there is no /proc/net/tcp.
    """
    count = None
    for table in TABLES:
        try:
            with open(table, encoding="ascii") as lines:
                rows = (line.split(None, 4) for line in lines)
                found = sum(row[3] == TIME_WAIT and int(row[1].rpartition(":")[2], 16) == port for row in rows)
        except OSError:  # a host without IPv6 has no second table
            continue
        count = (count or 0) + found
    return count


def time_wait_sockets() -> int | None:
    """Count the TCP sockets of this host, or network namespace, in TIME_WAIT (FAQ II.7), at no cost.

    Returns:
        None where there is no /proc/net/sockstat.
    """
    try:
        with open(SOCKSTAT, "rb") as file:  # bytes: behind chroot(2) no codec is to be had
            words = file.read().split()
        return int(words[words.index(b"tw") + 1])
    except (OSError, ValueError, IndexError):
        return None


def unacknowledged(sock: socket.socket | int) -> int | None:
    """Return how many bytes were sent and are not acknowledged by the peer's kernel (SIOCOUTQ, tcp(7)).

    Returns:
        None for a listening or closed socket.
    """
    try:
        answer = fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(_OUTQ.size))  # the number SIOCOUTQ has on Linux
    except (OSError, ValueError):
        return None
    return int(_OUTQ.unpack(answer)[0])


def is_hung_up(sock: socket.socket) -> bool:
    """Return whether a socket has been shut down: it stays ready, and nothing arrives (poll(2), POLLHUP)."""
    asked = select.poll()
    asked.register(sock, select.POLLIN)
    return any(events & select.POLLHUP for _, events in asked.poll(0))
