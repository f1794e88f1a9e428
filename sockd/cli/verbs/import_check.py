# SPDX-License-Identifier: MIT
"""`sockctl import --check-against`: what would differ on this host if sockd served in place of what listens now.

Each address of the result is compared with the sockets of this host, by protocol, port and host; and each socket of an
inetd that no address of the result covers is named.  Nothing is bound or changed.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from sockd.lazy import psutil
from sockd.log.escape import printable
from sockd.net.address.address import resolve_endpoints
from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sockd.net.address.sockaddr import Endpoint
    from sockd.settings import Settings

SUPERSERVERS = ("xinetd", "inetd", "inetutils-inetd", "openbsd-inetd", "tcpserver", "busybox")
"""Names of processes that sockd is to serve in place of."""
ANY = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - compared with, never bound
SAME, NEW, WIDER, NARROWER, OCCUPIED, LOST = "same", "new", "wider", "narrower", "occupied", "lost"


@dataclass(frozen=True)
class HostSocket:
    """A socket that listens or receives on this host.

    Attributes:
        protocol: tcp, udp, or unix for all kinds with a path.
        family: 4, 6, or 0 with a path.
        host: address in numbers, or the path.
        port: 0 with a path.
        pid: of its process; 0: not visible.
        program: name of that process.
    """

    protocol: str
    family: int
    host: str
    port: int
    pid: int
    program: str

    @property
    def is_superservers(self) -> bool:
        """Whether sockd is to serve in its place."""
        return self.program in SUPERSERVERS

    @property
    def holder(self) -> str:
        """Name its process, as its user may have named it: for a terminal."""
        return f"{printable(self.program) or 'a process that is not visible'}{f' (pid {self.pid})' if self.pid else ''}"

    def __str__(self) -> str:
        if self.protocol == "unix":
            return f"unix:{printable(self.host)}"
        host = f"[{self.host}]" if self.family == 6 else self.host
        return f"{self.protocol}://{host}:{self.port}"


@dataclass(frozen=True)
class Difference:
    """A line of the report: an address, its service, one of SAME to LOST, and what that means."""

    address: str
    service: str
    word: str
    text: str


def compare(settings: Settings, found: Sequence[HostSocket]) -> list[Difference]:
    """Compare the listeners of a configuration with the sockets of a host.

    Args:
        settings: checked.
        found: the sockets.

    Returns:
        A line for each address, then one for each socket of an inetd that is not served any more.
    """
    lines, covered = [], set[HostSocket]()
    for listen in settings.listen:
        for address in listen.every:
            ends = resolve_endpoints(address, passive=True)
            places = [place for one in ends for place in _places(one, v6only=bool(listen.ipv6_only))]
            there = [one for one in found if any(_same_port(one, place) for place in places)]
            covered |= {*there}
            word, text = _judge(places, there)
            lines.append(Difference(str(address), listen.service, word, text))
    rest = [one for one in found if one.is_superservers and one not in covered]
    lines += [
        Difference(str(one), "-", LOST, f"{one.holder} listens there, and no service of the result does")
        for one in sorted(rest, key=str)
    ]
    return lines


Place = tuple[str, int, str, int]
"""Protocol, family, host and port."""


def _places(endpoint: Endpoint, *, v6only: bool) -> Iterator[Place]:
    if endpoint.family == socket.AF_UNIX:
        yield "unix", 0, str(endpoint.sockaddr), 0
        return
    protocol = "tcp" if endpoint.type == socket.SOCK_STREAM else "udp"
    host, port = str(endpoint.sockaddr[0]), endpoint.port
    yield protocol, 6 if endpoint.family == socket.AF_INET6 else 4, host, port
    if endpoint.dual_stack and not v6only:
        yield protocol, 4, ANY[4], port


def _same_port(one: HostSocket, place: Place) -> bool:
    """Tell whether a socket has the protocol and port of a place, or its path."""
    return (one.protocol, one.port) == (place[0], place[3]) and (one.protocol != "unix" or one.host == place[2])


def _judge(places: Sequence[Place], there: Sequence[HostSocket]) -> tuple[str, str]:
    others = [one for one in there if not one.is_superservers and _excludes(one, places)]
    if others:
        return OCCUPIED, f"{others[0].holder} has {others[0]}: stop it, or remove the service"
    now = [one for one in there if one.is_superservers]
    if not now:
        return NEW, "nobody listens there now: it would become reachable"
    wanted, have = {place[1:3] for place in places}, {(one.family, one.host) for one in now}
    if (6, ANY[6]) in have and not any(family == 4 for family, _ in have):
        have.add((4, ANY[4]))  # a socket for both families, as far as /proc tells
    more, less = [*_beyond(wanted, have)], [*_beyond(have, wanted)]
    if more:
        return WIDER, f"{now[0].holder} listens on {_hosts(have)} alone: it would become reachable on {_hosts(more)}"
    if less:
        return NARROWER, f"{now[0].holder} listens on {_hosts(less)}, too"
    return SAME, f"{now[0].holder} listens there"


def _excludes(one: HostSocket, places: Iterable[Place]) -> bool:
    """Tell whether one of the places cannot be bound beside a socket."""
    for _, family, host, _ in places:
        if one.family == family and (one.host == host or ANY.get(family) in (one.host, host)):
            return True
        if one.family == 6 and one.host == ANY[6] and family == 4:
            return True
    return False


def _beyond(first: Iterable[tuple[int, str]], second: set[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Yield the hosts of the first that the second does not cover."""
    return ((family, host) for family, host in first if not {(family, host), (family, ANY.get(family, ""))} & second)


def _hosts(hosts: Iterable[tuple[int, str]]) -> str:
    words = {(4, ANY[4]): "every IPv4 address", (6, ANY[6]): "every IPv6 address"}
    return " and ".join(words.get(one, one[1]) for one in sorted(hosts))


def host_sockets() -> list[HostSocket]:
    """Return the sockets of this host that listen or receive; those of other users only as far as visible."""
    found = []
    for row in psutil.net_connections("inet"):
        is_stream = row.type == socket.SOCK_STREAM
        if not row.laddr or (is_stream and row.status != "LISTEN") or (not is_stream and row.raddr):
            continue
        family = 6 if row.family == socket.AF_INET6 else 4
        found.append(
            HostSocket(
                "tcp" if is_stream else "udp", family, row.laddr.ip, row.laddr.port, row.pid or 0, _program(row.pid)
            )
        )
    with_path = (row for row in psutil.net_connections("unix") if row.laddr)
    return found + [HostSocket("unix", 0, str(row.laddr), 0, row.pid or 0, _program(row.pid)) for row in with_path]


def _program(pid: int | None) -> str:
    try:
        return str(psutil.Process(pid).name()) if pid else ""
    except psutil.Error:
        return ""


__all__ = ["SAME", "Difference", "HostSocket", "compare", "host_sockets"]
