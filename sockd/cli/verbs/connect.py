# SPDX-License-Identifier: MIT
"""sockctl connect: options, checks, and messages about a connection."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from sockd.cli.verbs import PASSWORD_VARIABLE
from sockd.client.connect import connect
from sockd.client.pumps import converse
from sockd.errors import EX_OK, UsageError, fault, under_key

if TYPE_CHECKING:
    import argparse
    import socket

    from sockd.net.address.address import Address
    from sockd.settings import Duration
    from sockd.settings.relay import SocksUrl


TLS_OPTIONS = ("ca", "server-name", "cert", "key", "insecure")


def run(arguments: argparse.Namespace) -> int:
    """Connect, and return the exit code."""
    address: Address = arguments.address
    timeout: Duration = arguments.timeout
    source: str | None = arguments.source
    if source is not None and address.path:
        raise UsageError(f"--source {source}: a Unix socket has no source address")
    if arguments.proxy_header is not None and address.scheme in ("udp", "unixgram"):
        raise UsageError(f"--proxy-header {arguments.proxy_header}: datagrams cannot carry a PROXY header")
    _check_tls(address, arguments)
    if arguments.via is None:
        sock = connect(address, timeout=timeout, source=source)
    else:
        sock = _connect_via(address, arguments)
    if arguments.proxy_header is not None:
        _introduce(sock, address, version=int(arguments.proxy_header[1:]))
    if not arguments.tls:
        converse(sock, address, timeout=timeout)
        return EX_OK
    from sockd.client.tls import TlsConnection, context  # here, for it takes OpenSSL along

    files = {"ca": arguments.ca, "certificate": arguments.cert, "key": arguments.key}
    made = context(**files, insecure=arguments.insecure)
    tls = TlsConnection(sock, made, arguments.server_name or address.host, str(address), timeout)
    converse(tls.socket, address, timeout=timeout)
    tls.finish()
    return EX_OK


def _check_tls(address: Address, arguments: argparse.Namespace) -> None:
    given = [name for name in TLS_OPTIONS if getattr(arguments, name.replace("-", "_"))]
    if given and not arguments.tls:
        raise UsageError(f"--{given[0]} requires --tls")
    if arguments.tls and address.scheme in ("udp", "unixgram"):
        raise UsageError(f"--tls: {address} is a datagram address; TLS requires a stream")
    if arguments.tls and address.path and not (arguments.server_name or arguments.insecure):
        raise UsageError(f"--tls: {address} has no host name to verify; add --server-name NAME")
    if arguments.key and not arguments.cert:
        raise UsageError("--key requires --cert")


def _connect_via(address: Address, arguments: argparse.Namespace) -> socket.socket:
    """Connect through a SOCKS server; the password comes from the file, the environment or the terminal."""
    from sockd.client.socks import connect_via  # here, for few want it

    via: SocksUrl = arguments.via
    if address.scheme != "tcp":
        raise UsageError(f"{address}: --via supports only tcp:// addresses")
    password = None
    if via.user is not None:
        password = _read_password(via, arguments.via_password)
    elif arguments.via_password is not None:
        raise UsageError(
            f"--via-password {arguments.via_password} needs a user in --via, as in socks5://user@host:port"
        )
    return connect_via(via, address, timeout=arguments.timeout, source=arguments.source, password=password)


def _read_password(via: SocksUrl, path: str | None) -> str:
    if path is not None:
        from sockd.services.socks.users import read_password

        with under_key("--via-password"):
            return read_password(path)
    if PASSWORD_VARIABLE in os.environ:
        return os.environ[PASSWORD_VARIABLE]
    if not sys.stdin.isatty():
        words = f"use --via-password FILE or set {PASSWORD_VARIABLE}"
        raise UsageError(f"--via: no password for {via.user}, and no terminal to prompt on; {words}")
    import getpass

    return getpass.getpass(f"password of {via.user} at {via.address}: ")


def _introduce(sock: socket.socket, address: Address, *, version: int) -> None:
    """Send a PROXY header that describes this connection itself, in one send."""
    from sockd.wire import proxy  # here, for few want it

    ends = (None if isinstance(end, str) else (end[0], end[1]) for end in (sock.getsockname(), sock.getpeername()))
    try:
        sock.send(proxy.encode(version, *ends))  # on a new connection there is room for it
    except OSError as error:
        sock.close()
        raise fault(error, str(address)) from None


__all__ = ["TLS_OPTIONS", "run"]
