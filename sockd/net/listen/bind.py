# SPDX-License-Identifier: MIT
"""Server sockets: made, bound and named when it fails (FAQ II.4, IV.1, IV.5).

Every socket is non-blocking and close-on-exec, has its protocol named (never 0) and
its options set before bind(); none is left open by a failure.  Who may take a Unix
path is decided in sockd.net.listen.unix_path, who holds an address in sockd.net.listen.address_in_use.
To open blocks: names are looked up, and a failure reads every process of the host.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

from sockd.errors import SockdError, SystemFault, fault
from sockd.net.address.address import resolve_endpoints
from sockd.net.address.sockaddr import AF_VSOCK, IPPROTO_MPTCP, PORT_ANY
from sockd.net.listen.address_in_use import describe_holder
from sockd.net.listen.options import set_options
from sockd.net.listen.path_access import PathAccess
from sockd.net.listen.unix_path import UnixPath, claimed
from sockd.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sockd.net.address.address import Address
    from sockd.net.address.sockaddr import Endpoint
    from sockd.settings.listen import ListenSettings


logger = logging.getLogger("sockd.listener")

SHARED_PORT_TRIES = 32  # a port the kernel chose for one address is seldom taken on the next one
NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # an IPv6 address of a host whose IPv6 is off
VSOCK_HINTS = {
    errno.EAFNOSUPPORT: "this kernel has no vsock; load the module vhost_vsock on a host, "
    "vmw_vsock_virtio_transport in a virtual machine, or vsock_loopback for this machine alone (vsock(7))",
    errno.EADDRNOTAVAIL: "this machine has no such CID; write vsock::PORT for every one that it has",
}
HINTS = {
    errno.EADDRNOTAVAIL: "no interface of this host has it",
    errno.EAFNOSUPPORT: "this host does not have this address family",
}
PATH_HINTS = {
    errno.EACCES: "uid {uid} may not create it in {directory}; use another directory, or chown or chmod this one",
    errno.EROFS: "use a directory of a file system that can be written",
    errno.ENOENT: "its directory does not exist; create it: install -d -m 755 {directory}",
    errno.ENOTDIR: "its directory is not a directory",
}


@dataclass(frozen=True, slots=True)
class ServerSocket:
    """An open server socket, where it is bound (the real port), the path it owns, the name it was passed under.

    One that is not ours alone is held by whoever passed it, who goes on with it when we end.
    """

    socket: socket.socket
    endpoint: Endpoint
    path: UnixPath | None = None
    passed: str = ""
    is_ours: bool = True

    def __str__(self) -> str:
        return str(self.endpoint)

    def problem(self) -> str:
        """Say why no client can find it: its path has gone, or is another's; empty when all is well.

        Where the path cannot be looked at, as behind a drop of rights, it is taken for well.
        """
        path = self.endpoint.sockaddr
        if not isinstance(path, str) or not path.startswith("/"):
            return ""
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return "its path has been removed"
        except OSError:
            return ""
        if self.path is None or (found.st_dev, found.st_ino) == (self.path.device, self.path.inode):
            return ""
        return "its path belongs to another socket"

    def close(self) -> None:
        """Remove the path if it still is ours, then close the socket; again does nothing."""
        if self.path is not None and self.socket.fileno() >= 0:
            self.path.unlink_if_ours()
        self.socket.close()


def open_listener(
    address: Address,
    settings: ListenSettings,
    *,
    beside: Sequence[ServerSocket] = (),
    wants: Callable[[Endpoint], bool] = lambda _endpoint: True,
    left_out: Callable[[Endpoint, SockdError], None] | None = None,
) -> list[ServerSocket]:
    """Open every endpoint of an address, or none.  BLOCKS while a name is looked up.

    Args:
        address: with port 0 the kernel chooses one port, the same for all endpoints.
        settings: the backlog and the options; those that do not apply to the kind of socket are passed over.
        beside: sockets of this address that are open already; their endpoints are left alone.
        wants: tells of which endpoints; the others are left alone, too.
        left_out: called with each that cannot be opened, which is no failure then; None: one failure is that of all.

    Returns:
        At least one, with those beside, unless some were left out.  An IPv6 address that this host does not have is
        left out when the name has others (`::1 localhost` in /etc/hosts of a host without IPv6).

    Raises:
        PermissionFault: EACCES or EPERM, of bind() or of an option.
        TemporaryFault: the name cannot be looked up now, or another process keeps the directory of a Unix path locked.
        SystemFault: everything else; an address in use is named with its holder.
            In each case whatever had been opened is closed.

    Source: socket(7), listen(2), udp(7), sockd.net.listen.options, FAQ II.4, III.3, IV.5.
    """
    endpoints = resolve_endpoints(address, passive=True)
    for left in reversed(range(SHARED_PORT_TRIES)):
        with ExitStack() as opened:
            try:
                listening = _open_all([one for one in endpoints if wants(one)], opened, settings, beside, left_out)
            except _PortInUse as used:
                if left:
                    continue
                raise explain(used.error, used.endpoint) from None
            opened.pop_all()
            return listening
    raise AssertionError("unreachable")  # pragma: no cover


class _PortInUse(Exception):
    """The port that the kernel chose for the first endpoint is in use on a later one."""

    def __init__(self, error: OSError, endpoint: Endpoint) -> None:
        super().__init__(str(endpoint))
        self.error = error
        self.endpoint = endpoint


def _open_all(
    endpoints: list[Endpoint],
    opened: ExitStack,
    settings: ListenSettings,
    beside: Sequence[ServerSocket],
    left_out: Callable[[Endpoint, SockdError], None] | None,
) -> list[ServerSocket]:
    listening = list(beside)
    there = [(one.endpoint.family, one.endpoint.sockaddr) for one in beside]
    missing: OSError | None = None
    for written in endpoints:
        chosen = written.port == 0 and bool(listening)
        endpoint = written.with_port(listening[0].endpoint.port) if chosen else written
        if (endpoint.family, endpoint.sockaddr) in there:
            continue
        try:
            one = _open(endpoint, settings)
        except OSError as error:
            if chosen and error.errno == errno.EADDRINUSE:
                raise _PortInUse(error, endpoint) from None
            if _left_out(error, endpoint, endpoints):
                missing = error
            elif left_out is None:
                raise explain(error, endpoint) from None
            else:
                left_out(endpoint, explain(error, endpoint))
            continue
        except SockdError as error:  # of a Unix path
            if left_out is None:
                raise
            left_out(endpoint, error)
            continue
        opened.callback(one.close)
        listening.append(one)
    if not listening and missing is not None:
        if left_out is None:
            raise explain(missing, endpoints[0])
        left_out(endpoints[0], explain(missing, endpoints[0]))
    return listening[len(beside) :]


def _left_out(error: OSError, endpoint: Endpoint, endpoints: list[Endpoint]) -> bool:
    return endpoint.family == socket.AF_INET6 and error.errno in NOT_HERE and len(endpoints) > 1


def _open(endpoint: Endpoint, settings: ListenSettings) -> ServerSocket:
    sock = _socket(endpoint, settings)
    try:
        sock.setblocking(False)
        endpoint = set_options(sock, endpoint, settings)
        if endpoint.family == socket.AF_UNIX and not endpoint.is_abstract:
            return _open_path(sock, endpoint, settings)
        _bind(sock, endpoint)
        if endpoint.type != socket.SOCK_DGRAM:
            sock.listen(settings.backlog)
        return ServerSocket(sock, endpoint if endpoint.is_abstract else replace(endpoint, sockaddr=sock.getsockname()))
    except BaseException:
        sock.close()
        raise


def _socket(endpoint: Endpoint, settings: ListenSettings) -> socket.socket:
    """Return a socket, close-on-exec (PEP 446); of MPTCP where that is wanted and possible."""
    if settings.mptcp and endpoint.proto == socket.IPPROTO_TCP:
        try:
            return socket.socket(endpoint.family, endpoint.type, IPPROTO_MPTCP)
        except OSError as error:
            event = {"address": str(endpoint), "error": os.strerror(error.errno or 0)}
            logger.warning("MPTCP not available, using TCP", extra={"event": event})
    return socket.socket(endpoint.family, endpoint.type, endpoint.proto)


def _bind(sock: socket.socket, endpoint: Endpoint) -> None:
    is_any = endpoint.family == AF_VSOCK and endpoint.port == 0  # where 0 is a port like any other
    sock.bind(endpoint.with_port(PORT_ANY).sockaddr if is_any else endpoint.sockaddr)


def _open_path(sock: socket.socket, endpoint: Endpoint, settings: ListenSettings) -> ServerSocket:
    path, access = str(endpoint.sockaddr), PathAccess.from_settings(settings)
    with claimed(endpoint):
        mode = access.shut(sock) if access else 0
        sock.bind(path)
        owned = UnixPath.record(path)
        try:
            if access:
                access.apply(path, mode)
            if endpoint.type != socket.SOCK_DGRAM:
                sock.listen(settings.backlog)
        except BaseException:
            owned.unlink_if_ours()
            raise
    return ServerSocket(sock, endpoint, owned)


def explain(error: OSError, endpoint: Endpoint) -> SockdError:
    """Turn a refusal into words: the address, the errno, and who holds it or what to do."""
    cause = fault(error, str(endpoint))
    code = error.errno or 0
    if code == errno.EADDRINUSE:
        return SystemFault(f"{cause}; {describe_holder(endpoint)}")
    if code == errno.EACCES and 0 < endpoint.port < 1024:
        return type(cause)(f"{cause}; ports below 1024 need root or CAP_NET_BIND_SERVICE (capabilities(7))")
    hints = VSOCK_HINTS if endpoint.family == AF_VSOCK else PATH_HINTS if endpoint.family == socket.AF_UNIX else HINTS
    directory = os.path.dirname(str(endpoint).partition(":")[2])
    hint = hints.get(code, "").format(directory=directory, uid=os.geteuid())
    return type(cause)(f"{cause}; {hint}") if hint else cause


def bind_problem(address: Address, settings: ListenSettings) -> str:
    """Say what stands in the way of an address; empty when nothing does.  BLOCKS while a name is looked up."""
    try:
        for endpoint in resolve_endpoints(address, passive=True):
            if isinstance(endpoint.sockaddr, str) and not endpoint.is_abstract:
                PathAccess.from_settings(settings)
                _try_path(endpoint.sockaddr, endpoint)
            else:
                _try(endpoint, settings)
    except OSError as error:
        return str(explain(error, endpoint))
    except SockdError as error:
        return str(error)
    return ""


def _try(endpoint: Endpoint, settings: ListenSettings) -> None:
    with socket.socket(endpoint.family, endpoint.type, endpoint.proto) as sock:
        endpoint = set_options(sock, endpoint, settings)
        _bind(sock, endpoint)


def _try_path(path: str, endpoint: Endpoint) -> None:
    directory = os.path.dirname(path) or "."
    if not os.path.isdir(directory):
        raise FileNotFoundError(2, "No such file or directory")
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(13, "Permission denied")


__all__ = ["ServerSocket", "bind_problem", "explain", "open_listener"]
