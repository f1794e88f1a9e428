# SPDX-License-Identifier: MIT
"""Sockets that whoever started sockd opened for it, and how a listener finds its own.

`fd:NAME` is found by its name in LISTEN_FDNAMES, `fd:NUMBER` by its number; every other
address also takes a passed socket that getsockname(2) says is bound there, and is bound by
us only where none is.  What is taken is examined by the kernel's own answers and put right:
it does not block, no child inherits it, connections get the listener's options.  Its address,
its backlog and a Unix path belong to who bound it: the path is never removed.

A manager that keeps descriptors over a restart (FDSTORE) is given the sockets that we bind
ourselves, under the text of their address, and passes them to the next sockd of this unit, so
that who connects meanwhile waits in the backlog.  An address with port 0 may be that of several
listeners, each with a port of its own: its name says of which service it is, too, and of which of these listeners.
Source: sd_listen_fds(3), systemd.socket(5), getsockopt(2), socket(7).
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import stat
from collections import Counter
from typing import TYPE_CHECKING

from sockd.errors import SockdError, SystemFault
from sockd.lazy import lazily, urls
from sockd.net.address.address import WILDCARDS, resolve_endpoints
from sockd.net.address.sockaddr import AF_VSOCK, IPPROTO_MPTCP, Endpoint
from sockd.process.descriptors import FIRST_OTHER
from sockd.units import parse_whole
from sockd.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sockd.net.address.address import Address
    from sockd.net.listen import bind, options, unix_path
    from sockd.process.socket_activation import Inherited
    from sockd.settings.listen import ListenSettings
else:
    bind = lazily("sockd.net.listen.bind", resident=True)
    options = lazily("sockd.net.listen.options", resident=True)
    unix_path = lazily("sockd.net.listen.unix_path", resident=True)

logger = logging.getLogger("sockd.systemd")

EVERY_HOST = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
MAX_NAME = 255  # of a descriptor: sd_pid_notify_with_fds(3), FDNAME
MAX_NUMBER = 999_999  # of listeners: more than there are descriptors
QUOTED_SAFE = "/[]@!$&'()*+,;=~ "  # printable and neither colon nor percent sign


@dataclass(frozen=True)
class Passed:
    """A descriptor that was passed, and what the kernel says of it.

    Args:
        name: of LISTEN_FDNAMES.
        fd: its number.
        socket: None when it is no socket.
        endpoint: where it is bound; None when it is of no family that is served.
        problem: why it cannot be served; empty when it can.
    """

    name: str
    fd: int
    socket: socket.socket | None = None
    endpoint: Endpoint | None = None
    problem: str = ""

    def __str__(self) -> str:
        where = f", {self.endpoint}" if self.endpoint is not None else ""
        return f"descriptor {self.fd} ({self.name}{where})"

    def close(self) -> None:
        """Close it; again does nothing."""
        if self.socket is not None:
            self.socket.close()
        else:
            os.close(self.fd)


@dataclass(frozen=True)
class LeftOut:
    """One socket of an address that was not opened, and why; empty: it is drained."""

    address: Address
    endpoint: str
    why: str = ""


def examine(name: str, fd: int) -> Passed:
    """Ask the kernel what was passed.

    Source: fstat(2), getsockname(2); SO_TYPE, SO_PROTOCOL and SO_ACCEPTCONN of socket(7).
    """
    mode = os.fstat(fd).st_mode
    if not stat.S_ISSOCK(mode):
        return Passed(name, fd, problem=f"is {_kind(mode)}, not a socket")
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    kind = sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
    if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, AF_VSOCK):
        return Passed(name, fd, sock, problem=f"is of family {_constant_name(sock.family)}, which sockd does not serve")
    is_packets = sock.family == socket.AF_UNIX and kind == socket.SOCK_SEQPACKET
    is_datagrams = sock.family != AF_VSOCK and kind == socket.SOCK_DGRAM
    if kind != socket.SOCK_STREAM and not is_datagrams and not is_packets:
        text = f"is of type {_constant_name(sock.type)}; sockd serves streams (SOCK_STREAM) and datagrams (SOCK_DGRAM)"
        return Passed(name, fd, sock, problem=text)
    where = sock.getsockname()
    bound = os.fsdecode(where) if isinstance(where, bytes) else where
    endpoint = Endpoint(socket.AddressFamily(sock.family), socket.SocketKind(kind), sock.proto, bound)
    return Passed(name, fd, sock, endpoint, _problem(sock, endpoint))


def _problem(sock: socket.socket, endpoint: Endpoint) -> str:
    stream = endpoint.type != socket.SOCK_DGRAM
    has_none = endpoint.family in (socket.AF_UNIX, AF_VSOCK)
    expected = 0 if has_none else socket.IPPROTO_TCP if stream else socket.IPPROTO_UDP
    found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL) if hasattr(socket, "SO_PROTOCOL") else expected
    if found not in (expected, IPPROTO_MPTCP if expected == socket.IPPROTO_TCP else expected):
        text = f"sockd serves TCP ({socket.IPPROTO_TCP}) and UDP ({socket.IPPROTO_UDP})"
        return f"has protocol {found} (SO_PROTOCOL); {text}"
    if stream:
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return ""
        return "does not listen (SO_ACCEPTCONN is 0); to serve a connection, use sockd --inetd"
    bound = bool(endpoint.sockaddr) if isinstance(endpoint.sockaddr, str) else endpoint.port != 0
    return "" if bound else "is not bound, so no client can reach it"


def stored_name(address: Address, service: str, number: int = 0) -> str:
    """Name a socket of ours in the manager's store: the address, and with port 0 its service, without colons.

    Args:
        address, service: of the listener.
        number: of the listener among those with port 0 that have both in common; the first one has it not in its name.
    """
    if not has_any_port(address):
        return urls.quote(str(address), safe=QUOTED_SAFE)[:MAX_NAME]
    which = f" {number}" if number else ""
    return urls.quote(f"{address} {service}", safe=QUOTED_SAFE)[: MAX_NAME - len(which)] + which


def has_any_port(address: Address) -> bool:
    """Tell whether the kernel chooses the port, so that equal addresses are several."""
    return address.scheme in ("tcp", "udp", "vsock") and address.port == 0


def is_stored_name(name: str, address: Address) -> bool:
    """Tell whether a socket of this address, of whatever service, would have this name."""
    own = stored_name(address, "")
    return name.startswith(own) if own.endswith(" ") else name == own


class InheritedSockets:
    """What was passed, until each has found its listener.

    Args:
        given: by the environment.

    Attributes:
        kept: (name, socket) of what the manager shall keep over a restart.
        wanted: how many listeners have an address and a service: what was bound for a service that is served with
            port 0 is for no other.
        drained: the endpoints that are not to be opened, each with the name of its listener (stored_name).
        left_out: what open() has not opened, because it is drained, or optional and cannot be.
    """

    def __init__(self, given: Inherited) -> None:
        self._given = given
        self._all = [examine(name, fd) for name, fd in given.descriptors]
        self._claimed: dict[int, Address] = {}
        self.kept: list[tuple[str, socket.socket]] = []
        self.wanted: Counter[tuple[Address, str]] = Counter()
        self.drained = dict(given.drained)
        self.left_out: list[LeftOut] = []

    def close(self) -> None:
        """Close everything that was passed; again does nothing."""
        for one in self._all:
            if one.socket is not None:
                one.close()

    def open(
        self,
        address: Address,
        settings: ListenSettings,
        *,
        blocks: bool = False,
        beside: Sequence[bind.ServerSocket] = (),
        only: str = "",
        port: int = 0,
        number: int = 0,
    ) -> list[bind.ServerSocket]:
        """Take what was passed for an address, and bind the rest of it.  BLOCKS while a name is looked up.

        Args:
            address: of a [[listen]].
            settings: its own; on a passed socket the options of connections are set.
            blocks: a passed socket is left blocking, for a program has it as well, or will.
            beside: sockets of the address that are open already.
            only: of its endpoints this one, if it is one of them; empty: all.
            port: for port 0, the one that it had before; 0: the kernel chooses.
            number: for port 0, as of stored_name().

        Returns:
            At least one, unless something was left out.

        Raises:
            SystemFault: nothing was passed under this name or number, or what was cannot be served.
            PermissionFault, SystemFault, TemporaryFault: as sockd.net.listen.bind.open_listener.
        """
        try:
            return self._open(address, settings, blocks, beside, only, port, number)
        except SockdError as error:
            if not settings.optional:
                raise
            self.left_out.append(LeftOut(address, str(address), str(error)))
            return []

    def _open(
        self,
        address: Address,
        settings: ListenSettings,
        blocks: bool,
        beside: Sequence[bind.ServerSocket],
        only: str,
        port: int,
        number: int,
    ) -> list[bind.ServerSocket]:
        if address.scheme == "fd":
            return [self._claim(one, address, settings, blocks) for one in self._named(address)]
        found = self._bound_at(address, settings.service, number)
        claimed = [self._claim(one, address, settings, blocks) for one in found]
        if claimed and not address.path and address.host in WILDCARDS:
            return claimed  # every address is as many sockets as whoever passed them thought right

        def wants(endpoint: Endpoint) -> bool:
            """Leave out what is drained."""
            if only and only != str(address):
                return str(endpoint) == only
            if drained := self._find_drained(address, settings.service, number, endpoint, claimed):
                self.left_out.append(LeftOut(address, drained))
            return not drained

        def leave_out(endpoint: Endpoint, error: SockdError) -> None:
            self.left_out.append(LeftOut(address, str(endpoint), str(error)))

        optional = leave_out if settings.optional else None
        where = replace(address, port=port) if port else address
        opened = bind.open_listener(where, settings, beside=[*beside, *claimed], wants=wants, left_out=optional)
        return claimed + [self._kept(one, stored_name(address, settings.service, number)) for one in opened]

    def _find_drained(
        self, address: Address, service: str, number: int, endpoint: Endpoint, claimed: Sequence[bind.ServerSocket]
    ) -> str:
        """Return the drained endpoint that this is, of port 0 with the port that it had; empty: it is none."""
        if str(endpoint) in self.drained:
            return str(endpoint)
        host = _host(endpoint)
        if endpoint.port != 0 or any(_host(one.endpoint) == host for one in claimed):
            return ""
        others = {one.endpoint for one in self.left_out}  # of listeners with the same address
        is_for = self._name_filter(address, service, number)
        same = (one for one, name in self.drained.items() if one not in others and is_for(name))
        return next((one for one in same if one.rpartition(":")[0] == host), "")

    def _name_filter(self, address: Address, service: str, number: int) -> Callable[[str], bool]:
        """Return what tells whether a name is that of a listener, or of one that is served no more.

        Of one service, the listeners before this one have theirs by now: a name that they left is a second one, such as
        of a version that did not number them.
        """
        own, prefix = stored_name(address, service), stored_name(address, "")
        if own == prefix:
            return own.__eq__
        words = {stored_name(address, one).removeprefix(prefix) for _, one in self.wanted}
        count = self.wanted[address, service]

        def is_for(name: str) -> bool:
            if not name.startswith(prefix):
                return False
            word, _, found = name.removeprefix(prefix).partition(" ")
            is_later = number < (parse_whole(found, MAX_NUMBER) or 0) < count
            return not is_later if prefix + word == own else word not in words

        return is_for

    def close_rest(self) -> list[str]:
        """Close what no listener took, and name it in the log; whoever connects there would wait for nobody.

        Returns:
            The names.
        """
        self.drained.clear()  # what is opened from now on is wanted
        rest = [one for one in self._all if one.fd not in self._claimed]
        for one in rest:
            event = {"descriptor": one.fd, "name": one.name, "is": one.problem or str(one.endpoint)}
            logger.warning("closed an inherited socket that matches no listener", extra={"event": event})
            one.close()
            self._all.remove(one)
        return [one.name for one in rest]

    def _claim(self, one: Passed, address: Address, settings: ListenSettings, blocks: bool) -> bind.ServerSocket:
        if one.fd in self._claimed:
            raise SystemFault(f"{address}: {one} already belongs to {self._claimed[one.fd]}; remove one of the two")
        if one.problem or one.socket is None or one.endpoint is None:
            raise SystemFault(f"{address}: {one} {one.problem}")
        self._claimed[one.fd] = address
        one.socket.setblocking(blocks)
        options.set_inherited(one.socket, one.endpoint, settings)
        if is_stored_name(one.name, address):
            self.kept.append((one.name, one.socket))
        owner = self._given.owners.get(one.fd)
        if owner is not None:
            path = unix_path.InheritedPath(*owner.path, self._given.is_lent) if owner.path else None
            return bind.ServerSocket(one.socket, one.endpoint, path, owner.passed, owner.is_ours)
        return bind.ServerSocket(one.socket, one.endpoint, passed=one.name, is_ours=False)

    def _kept(self, one: bind.ServerSocket, name: str) -> bind.ServerSocket:
        """Note a socket for the manager's store; its path lives as long as it does there."""
        if len(self.kept) >= self._given.store:
            return one
        self.kept.append((name, one.socket))
        return replace(one, path=None, is_ours=False)

    # ---- by name and by number

    def _named(self, address: Address) -> list[Passed]:
        found = list(self._with_name(address.name))
        if found:
            return found
        if not address.name.isdecimal():
            raise SystemFault(f"{address}: no socket with this name was passed; {self._remedy()}")
        one = self._inherited(address, int(address.name))
        self._all.append(one)
        return [one]

    def _with_name(self, name: str) -> Iterator[Passed]:
        for one in self._all:
            numbered = name.isdecimal() and one.fd not in self._given.owners
            if name == (str(one.fd) if numbered else one.name):
                yield one

    def _remedy(self) -> str:
        if self._all:
            return (
                f"passed sockets: {', '.join(map(str, self._all))}; FileDescriptorName= "
                "in the socket unit sets their names"
            )
        return f"{self._given.why_none}; start it by its socket unit, systemd-socket-activate or sockctl bind"

    def _inherited(self, address: Address, fd: int) -> Passed:
        """Take a descriptor that a shell, say, left open for us; what we opened ourselves is close-on-exec."""
        try:
            ours = fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        except OSError:
            ours = fcntl.FD_CLOEXEC
        if ours:
            raise SystemFault(f"{address}: no such descriptor was passed; {self._remedy()}")
        if fd >= FIRST_OTHER:
            return examine("inherited", fd)
        one = examine("standard input", fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_OTHER))
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, fd)
        os.close(null)
        return one

    # ---- by where it is bound

    def _bound_at(self, address: Address, service: str, number: int) -> list[Passed]:
        free = [one for one in self._all if one.fd not in self._claimed and one.endpoint is not None]
        if not free:
            return []
        endpoints, own = resolve_endpoints(address, passive=True), stored_name(address, service, number)
        free.sort(key=lambda one: one.name != own)
        is_for = self._name_filter(address, service, number)
        found: list[Passed] = []
        for endpoint in endpoints:
            found += [one for one in free if one not in found and _is_at(one, endpoint, is_for)][:1]
        if address.host in WILDCARDS and not address.path:
            found += [one for one in free if one not in found and _is_everywhere(one, endpoints[0])]
        return found


def _is_at(one: Passed, wanted: Endpoint, is_for: Callable[[str], bool]) -> bool:
    """Tell whether a socket is bound where one would be bound for a listener, whose names `is_for` knows."""
    found = one.endpoint
    if found is None or (found.family, found.type) != (wanted.family, wanted.type):
        return False
    if isinstance(found.sockaddr, str) or isinstance(wanted.sockaddr, str):
        return found.sockaddr == wanted.sockaddr and not (is_for(one.name) and _is_gone(found))
    same_host = (found.sockaddr[0], found.sockaddr[3:]) == (wanted.sockaddr[0], wanted.sockaddr[3:])
    return same_host and (found.port == wanted.port or (wanted.port == 0 and is_for(one.name)))


def _is_gone(bound: Endpoint) -> bool:
    """Tell whether the path of a Unix socket leads nowhere, as after its directory was made anew."""
    return not bound.is_abstract and not os.path.exists(str(bound.sockaddr))


def _is_everywhere(one: Passed, wanted: Endpoint) -> bool:
    """Tell whether a socket is bound to every address of one family: systemd may have one for each."""
    found = one.endpoint
    if found is None or isinstance(found.sockaddr, str) or found.type != wanted.type or wanted.family == AF_VSOCK:
        return False
    return found.sockaddr[0] in EVERY_HOST and found.port == wanted.port


def _host(endpoint: Endpoint) -> str:
    """Return the text of an endpoint without its port."""
    return str(endpoint).rpartition(":")[0]


def _kind(mode: int) -> str:
    names = ((stat.S_ISREG, "a regular file"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISDIR, "a directory"))
    return next((name for test, name in names if test(mode)), "a device or something else")


def _constant_name(value: int) -> str:
    return getattr(value, "name", str(int(value)))


__all__ = ["InheritedSockets", "LeftOut", "Passed", "examine", "has_any_port", "is_stored_name", "stored_name"]
