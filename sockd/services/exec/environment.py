# SPDX-License-Identifier: MIT
"""The environment of a program: what UCSPI and inetd programs look for.  Source: tcp-environ(5), CGI/1.1."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from sockd.net.address.sockaddr import SocketAddress
from sockd.net.kernel import peer_credentials

if TYPE_CHECKING:
    from collections.abc import Callable


def build_environment(
    sock: socket.socket, peer: SocketAddress, find_name: Callable[[str], str | None] = lambda host: None
) -> tuple[str, ...]:
    """Describe a connection for a program.

    Args:
        sock: connected.
        peer: as accept() gave it, or a proxy or the parent has told.
        find_name: the confirmed name of a numeric address, if it is known.

    Returns:
        NAME=value of PROTO, TCP*, UNIX* or VSOCK*, REMOTE_ADDR and REMOTE_PORT; an IPv4 client of a socket
        for both families has its IPv4 address.

    Source: http://cr.yp.to/ucspi-tcp/environment.html, the UNIX protocol of ucspi-unix, systemd.socket(5).
    """
    local = SocketAddress.from_sockaddr(sock.getsockname())
    is_unix = sock.family == socket.AF_UNIX and not peer.host
    if local.cid >= 0:
        pairs = _vsock(local, peer)
    else:
        pairs = _unix(sock, local, peer) if is_unix else _tcp(local, peer, find_name)
    return tuple(f"{name}={value}" for name, value in pairs.items())


def describe_listener(sock: socket.socket) -> tuple[str, ...]:
    """Describe a listening or datagram socket for a program: as of a connection, without its client.

    Returns:
        NAME=value of PROTO (TCP, UDP, UNIX or VSOCK), and of where it is bound.
    """
    local = SocketAddress.from_sockaddr(sock.getsockname())
    if sock.family == socket.AF_UNIX:
        return ("PROTO=UNIX", f"UNIXLOCALPATH={local.unix_name}")
    if local.cid >= 0:
        return ("PROTO=VSOCK", f"VSOCKLOCALCID={local.cid}", f"VSOCKLOCALPORT={local.port}")
    proto = "UDP" if sock.type == socket.SOCK_DGRAM else "TCP"
    return (f"PROTO={proto}", f"{proto}LOCALIP={plain_host(local.host)}", f"{proto}LOCALPORT={local.port}")


def _tcp(local: SocketAddress, peer: SocketAddress, find_name: Callable[[str], str | None]) -> dict[str, str]:
    pairs = {"PROTO": "TCP"}
    for end, address in (("LOCAL", local), ("REMOTE", peer)):
        if not address.host:  # not known
            continue
        pairs |= {f"TCP{end}IP": plain_host(address.host), f"TCP{end}PORT": str(address.port)}
        if name := find_name(address.host):
            pairs[f"TCP{end}HOST"] = name.lower()
    if peer.host:
        pairs |= {"REMOTE_ADDR": pairs["TCPREMOTEIP"], "REMOTE_PORT": pairs["TCPREMOTEPORT"]}
    return pairs


def _vsock(local: SocketAddress, peer: SocketAddress) -> dict[str, str]:
    pairs = {"PROTO": "VSOCK", "VSOCKLOCALCID": str(local.cid), "VSOCKLOCALPORT": str(local.port)}
    pairs |= {"VSOCKREMOTECID": str(peer.cid), "VSOCKREMOTEPORT": str(peer.port)}
    return pairs | {"REMOTE_ADDR": f"vsock:{peer.cid}", "REMOTE_PORT": str(peer.port)}


def plain_host(host: str) -> str:
    """Return an address without the prefix that IPv4 has on a socket for both families (RFC 4291, 2.5.5.2)."""
    return host[7:] if host.startswith("::ffff:") and "." in host else host


def _unix(sock: socket.socket, local: SocketAddress, peer: SocketAddress) -> dict[str, str]:
    pairs = {"PROTO": "UNIX", "UNIXLOCALPATH": local.unix_name}
    if path := peer.unix_name:
        pairs |= {"UNIXREMOTEPATH": path, "REMOTE_ADDR": path}
    with suppress(OSError):
        if (credentials := peer_credentials(sock)) is not None:
            pid, uid, gid = str(credentials.pid), str(credentials.uid), str(credentials.gid)
            pairs |= {"UNIXREMOTEPID": pid, "UNIXREMOTEEUID": uid, "UNIXREMOTEEGID": gid}
    return pairs


__all__ = ["build_environment", "describe_listener", "plain_host"]
