# SPDX-License-Identifier: MIT
"""Options of a server socket: which apply to its kind, and what happens when one is refused.

One table, set before bind(): accepted TCP connections inherit all of it on Linux.  A setting that cannot apply to the
kind of socket (keepalive on a Unix path) is skipped; one that applies and that this system does not have is an error
unless it is the default. A Unix stream socket has none: SO_RCVBUF has no effect there, and accepted connections do not
inherit SO_SNDBUF (unix(7)).  Source: socket(7), tcp(7), ip(7), ipv6(7), FAQ II.8, II.16, IV.5 to IV.7, IV.12.
"""

from __future__ import annotations

import enum
import errno
import logging
import math
import socket
import struct
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from sockd.errors import SockdError, SystemFault, fault
from sockd.net.address.sockaddr import AF_VSOCK
from sockd.net.listen.multicast import join
from sockd.settings.listen import ListenSettings
from sockd.values import dataclass, replace

if TYPE_CHECKING:
    from sockd.net.address.sockaddr import Endpoint

logger = logging.getLogger("sockd.sockets")

LINUX = {"IP_FREEBIND": 15, "IPV6_FREEBIND": 78}
"""Options that the socket module does not define: linux/in.h, linux/in6.h."""
LEVELS = {
    "SO": socket.SOL_SOCKET,
    "TCP": socket.IPPROTO_TCP,
    "IP": socket.IPPROTO_IP,
    "IPV6": socket.IPPROTO_IPV6,
}
LONGEST_INTERFACE_BYTES = 15
"""IFNAMSIZ of if.h is 16 with the NUL; the kernel would cut a longer name, and take another interface."""
LINUX_DOUBLES = 2 if sys.platform == "linux" else 1
"""getsockopt() reports twice what was given: the rest is the kernel's own bookkeeping (socket(7))."""


class SocketKind(enum.Flag):
    """The kinds of server sockets."""

    TCP4 = enum.auto()
    TCP6 = enum.auto()
    UDP4 = enum.auto()
    UDP6 = enum.auto()
    UNIX = enum.auto()
    UNIXGRAM = enum.auto()
    VSOCK = enum.auto()
    TCP = TCP4 | TCP6
    UDP = UDP4 | UDP6
    V4 = TCP4 | UDP4
    V6 = TCP6 | UDP6
    INET = TCP | UDP

    @classmethod
    def from_endpoint(cls, endpoint: Endpoint) -> SocketKind:
        """Return the kind of an endpoint."""
        stream = endpoint.type != socket.SOCK_DGRAM
        if endpoint.family == socket.AF_UNIX:
            return cls.UNIX if stream else cls.UNIXGRAM
        if endpoint.family == AF_VSOCK:
            return cls.VSOCK
        if endpoint.family == socket.AF_INET6:
            return cls.TCP6 if stream else cls.UDP6
        return cls.TCP4 if stream else cls.UDP4


@dataclass(frozen=True, slots=True)
class Option:
    """One setsockopt(): the setting it comes from, the kernel's name, and its value; None leaves the kernel's own."""

    key: str
    name: str
    kinds: SocketKind
    value: int | bytes | None

    @property
    def level(self) -> int:
        """Return the protocol level, with which the name begins."""
        return LEVELS[self.name.partition("_")[0]]

    @property
    def number(self) -> int | None:
        """Return the number on this system; None without such an option."""
        own = LINUX.get(self.name) if sys.platform == "linux" else None
        found = getattr(socket, self.name, own)
        return None if found is None else int(found)


def table(settings: ListenSettings, endpoint: Endpoint) -> list[Option]:
    """List every option, whatever kind of socket the endpoint is.

    Args:
        settings: of the listener.
        endpoint: decides what is unset in reuse_address and ipv6_only.
    """
    reuse, v6only, keepalive = settings.reuse_address, settings.ipv6_only, settings.keepalive
    stream = endpoint.type != socket.SOCK_DGRAM
    return [
        Option("reuse_address", "SO_REUSEADDR", SocketKind.INET, stream if reuse is None else reuse),
        Option("reuse_port", "SO_REUSEPORT", SocketKind.INET, settings.reuse_port or None),
        Option("ipv6_only", "IPV6_V6ONLY", SocketKind.V6, not endpoint.dual_stack if v6only is None else v6only),
        Option("free_bind", "IP_FREEBIND", SocketKind.V4, settings.free_bind or None),
        Option("free_bind", "IPV6_FREEBIND", SocketKind.V6, settings.free_bind or None),
        Option("interface", "SO_BINDTODEVICE", SocketKind.INET, _text(settings.interface)),
        Option("broadcast", "SO_BROADCAST", SocketKind.UDP4, settings.broadcast or None),
        Option("mark", "SO_MARK", SocketKind.INET, None if settings.mark is None else struct.pack("=I", settings.mark)),
        Option("receive_buffer", "SO_RCVBUF", SocketKind.INET | SocketKind.UNIXGRAM, settings.receive_buffer),
        Option("send_buffer", "SO_SNDBUF", SocketKind.INET | SocketKind.UNIXGRAM, settings.send_buffer),
        Option("nodelay", "TCP_NODELAY", SocketKind.TCP, settings.nodelay),
        Option("keepalive", "SO_KEEPALIVE", SocketKind.TCP, keepalive.on),
        Option("keepalive", "TCP_KEEPIDLE", SocketKind.TCP, math.ceil(keepalive.idle) if keepalive.on else None),
        Option("keepalive", "TCP_KEEPINTVL", SocketKind.TCP, math.ceil(keepalive.interval) if keepalive.on else None),
        Option("keepalive", "TCP_KEEPCNT", SocketKind.TCP, keepalive.count if keepalive.on else None),
        Option("user_timeout", "TCP_USER_TIMEOUT", SocketKind.TCP, math.ceil(settings.user_timeout * 1000) or None),
        Option("linger", "SO_LINGER", SocketKind.TCP, _linger(settings.linger)),
        Option("defer_accept", "TCP_DEFER_ACCEPT", SocketKind.TCP, _seconds(settings.defer_accept)),
        Option("fast_open", "TCP_FASTOPEN", SocketKind.TCP, settings.fast_open),
    ]


def set_options(sock: socket.socket, endpoint: Endpoint, settings: ListenSettings) -> Endpoint:
    """Set all that apply, before bind().

    Args:
        sock: of the endpoint's family and type.
        endpoint: what will be bound.
        settings: of the listener.

    Returns:
        The endpoint, with the effective dual_stack.

    Raises:
        PermissionFault, SystemFault: one is refused; names address, option, errno and remedy.
    """
    kind = SocketKind.from_endpoint(endpoint)
    for option in table(settings, endpoint):
        if kind in option.kinds and option.value is not None:
            _set(sock, endpoint, option, option.value, settings)
    join(sock, endpoint, settings.multicast)
    if settings.ipv6_only is None or kind not in SocketKind.V6:
        return endpoint
    return replace(endpoint, dual_stack=not settings.ipv6_only and endpoint.sockaddr[0] == "::")


CONNECTION_OPTIONS = ("nodelay", "keepalive", "user_timeout")
"""Options of a connection that can be set after bind()."""


def set_inherited(sock: socket.socket, endpoint: Endpoint, settings: ListenSettings) -> None:
    """Set the options of connections on an inherited socket: a connection, or a listening socket.

    One that is refused is left unchanged, because the socket works without it.
    """
    kind = SocketKind.from_endpoint(endpoint)
    for option in table(settings, endpoint):
        if option.key in CONNECTION_OPTIONS and kind in option.kinds and option.value is not None:
            with suppress(OSError, SockdError):
                _set(sock, endpoint, option, option.value, settings)


def _set(sock: socket.socket, endpoint: Endpoint, option: Option, value: int | bytes, settings: ListenSettings) -> None:
    number = option.number
    is_default = getattr(settings, option.key) == getattr(ListenSettings(), option.key)
    if number is None:
        if is_default:
            return
        raise SystemFault(f"{endpoint}: {option.key}: this system has no {option.name}; remove {option.key}")
    try:
        if option.key == "interface" and len(bytes(value)) > LONGEST_INTERFACE_BYTES:
            raise OSError(errno.ENODEV, "the name is too long")
        sock.setsockopt(option.level, number, value)
    except OSError as error:
        if settings.mptcp and is_default and error.errno in (errno.ENOPROTOOPT, errno.EOPNOTSUPP):
            return  # MPTCP has fewer options than TCP
        raise _explain(error, endpoint, option, settings) from None
    if isinstance(value, int) and option.key in ("receive_buffer", "send_buffer"):
        _check_size(sock.getsockopt(option.level, number) // LINUX_DOUBLES, endpoint, option, value)


def _check_size(given: int, endpoint: Endpoint, option: Option, asked: int) -> None:
    if given < asked:
        limit = "net.core.rmem_max" if option.key == "receive_buffer" else "net.core.wmem_max"
        event = {"address": str(endpoint), "option": option.key, "asked_bytes": int(asked), "given_bytes": given}
        logger.warning("the kernel gives a smaller buffer; raise %s", limit, extra={"event": event})


def _explain(error: OSError, endpoint: Endpoint, option: Option, settings: ListenSettings) -> SockdError:
    cause = fault(error, f"{endpoint}: {option.key} ({option.name})")
    remedy = f"remove {option.key}"
    if error.errno == errno.EPERM and option.key == "mark":
        remedy = f"it needs root, CAP_NET_ADMIN or CAP_NET_RAW (socket(7)); {remedy}"
    elif error.errno == errno.EPERM and option.key == "interface":
        remedy = f"it needs root or CAP_NET_RAW (socket(7)); {remedy}"
    elif error.errno == errno.ENODEV:
        here = ", ".join(name for _, name in socket.if_nameindex())
        remedy = f"this host has no interface {settings.interface!r}, only {here}"
    return type(cause)(f"{cause}; {remedy}")


def _text(name: str | None) -> bytes | None:
    return name.encode() if name else None


def _seconds(time: float | None) -> int | None:
    return None if time is None else math.ceil(time)


def _linger(seconds: float | None) -> bytes | None:
    """Return struct linger; None for off, which is the kernel's own."""
    return None if seconds is None else struct.pack("ii", 1, math.ceil(seconds))
