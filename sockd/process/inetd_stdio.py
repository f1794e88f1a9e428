# SPDX-License-Identifier: MIT
"""The environment of inetd: standard input, which is to be served, and variables about its peer.

Standard input may be a connection (nowait), a listening or a datagram socket (wait), or what a shell provides: a pipe,
a terminal, a file.  The kernel tells which (FAQ II.18, IV.3). Descriptors 0, 1 and 2 of inetd all belong to the
client, so the first step is to move them away, before anything could be printed to it.

The open file descriptions are shared with the parent, and so is their O_NONBLOCK: it is set where accept(2) and
recvmsg(2) need it, and cleared again at the end, and where splice(2) forwards a connection's bytes; elsewhere it is
not changed, because nothing here waits in a read (MSG_DONTWAIT; sockd.client.pumps polls first). Source: inetd(8),
xinetd.conf(5), systemd.socket(5), http://cr.yp.to/proto/ucspi.txt.
"""

from __future__ import annotations

import enum
import errno
import fcntl
import ipaddress
import os
import socket
import stat
from typing import TYPE_CHECKING

from sockd.errors import SystemFault, fault
from sockd.net.address.sockaddr import AF_VSOCK
from sockd.process.descriptors import FIRST_OTHER, complete_streams
from sockd.units import parse_whole
from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, AF_VSOCK)


class StdinKind(enum.Enum):
    """The kind of standard input; the value is the word in messages."""

    CONNECTION = "a connection"
    LISTENER = "a listening socket"
    DATAGRAMS = "a datagram socket"
    PLAIN = "a pipe, a terminal or a file"


@dataclass
class StandardStreams:
    """Descriptors 0 and 1, moved above the standard ones.

    Attributes:
        kind: of standard input.
        source: descriptor of standard input.
        sink: descriptor of standard output, where standard input is plain; else -1.
    """

    kind: StdinKind
    source: int
    sink: int = -1

    def close(self) -> None:
        """Close both; again does nothing."""
        for fd in (self.source, self.sink):
            if fd >= 0:
                os.close(fd)
        self.source = self.sink = -1


def detach_standard_streams() -> StandardStreams:
    """Move 0 and 1 away and replace them by /dev/null, and 2 too unless it is a terminal.

    Raises:
        SystemFault: standard input is closed, or of a kind that cannot be served.
    """
    source, sink = _moved(0), _moved(1)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for standard in (0, 1) if os.isatty(2) else (0, 1, 2):
        os.dup2(null, standard)
    if null >= FIRST_OTHER:
        os.close(null)
    complete_streams()
    if source < 0:
        raise SystemFault("--inetd: standard input is closed; it has to be the connection to serve")
    kind = detect_kind(source)
    if kind is StdinKind.PLAIN:
        return StandardStreams(kind, source, sink)
    if sink >= 0:
        os.close(sink)  # the same socket once more
    return StandardStreams(kind, source)


def _moved(fd: int) -> int:
    """Copy a descriptor above the standard ones, not inherited by programs; -1 when it is closed."""
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_OTHER)
    except OSError as error:
        if error.errno == errno.EBADF:
            return -1
        raise fault(error, "standard input" if fd == 0 else "standard output") from None


def detect_kind(fd: int) -> StdinKind:
    """Ask the kernel what a descriptor is.

    Raises:
        SystemFault: a kind or a family of socket that no service speaks over.

    Source: fstat(2); SO_TYPE and SO_ACCEPTCONN of socket(7).
    """
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return StdinKind.PLAIN
    with _borrowed(fd) as sock:
        if sock.family not in FAMILIES:
            raise SystemFault(
                f"--inetd: standard input is a socket of family {int(sock.family)}; "
                "only IP, Unix and vsock sockets are served"
            )
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
        if number == socket.SOCK_DGRAM:
            return StdinKind.DATAGRAMS
        if number != socket.SOCK_STREAM:
            raise SystemFault(
                f"--inetd: standard input is a socket of type {number}; only streams and datagrams are served"
            )
        is_listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    return StdinKind.LISTENER if is_listening else StdinKind.CONNECTION


class _borrowed:  # noqa: N801 - used as a function
    """A socket object for a descriptor that stays open."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def __enter__(self) -> socket.socket:
        return self._socket

    def __exit__(self, *_: object) -> None:
        self._socket.detach()


# ---- who is connected, by the environment


@dataclass(frozen=True)
class PeerName:
    """What the parent tells of the peer; empty and 0 where it does not."""

    host: str
    port: int
    name: str


_ADDRESSES = (
    ("TCPREMOTEIP", "TCPREMOTEPORT", "TCPREMOTEHOST"),  # ucspi-tcp, s6, and those over TLS
    ("TCP6REMOTEIP", "TCP6REMOTEPORT", "TCP6REMOTEHOST"),  # ucspi-tcp6
    ("REMOTE_ADDR", "REMOTE_PORT", ""),  # systemd, Accept=yes
    ("REMOTE_HOST", "", ""),  # xinetd, which puts the address there
)


def parse_peer(environment: Mapping[str, str]) -> PeerName:
    """Read what inetd, xinetd, tcpserver or systemd say of the client.

    Args:
        environment: theirs; what is no numeric address and no port is passed over.
    """
    found = PeerName("", 0, "")
    for host_key, port_key, name_key in _ADDRESSES:
        host = environment.get(host_key, "")
        if not found.host and _is_numeric(host):
            found = PeerName(host, _port(environment.get(port_key, "")), environment.get(name_key, ""))
    remote = environment.get("REMOTE_HOST", "")
    if found.host and not found.name and remote and not _is_numeric(remote):
        found = PeerName(found.host, found.port, remote)
    return found


def _is_numeric(host: str) -> bool:
    bare, _, scope = host.partition("%")
    try:
        ipaddress.ip_address(bare)
        if scope and not scope.isdecimal():
            socket.if_nametoindex(scope)  # whoever has another name for the interface tells nothing
    except (ValueError, OSError):
        return False
    return True


def _port(text: str) -> int:
    return parse_whole(text, 65_535) or 0
