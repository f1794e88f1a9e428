# SPDX-License-Identifier: MIT
"""Rules of a [[listen]] table."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from sockd.config.check_exec import check_wait_listen
from sockd.config.check_service import not_handler
from sockd.config.convert import Problem
from sockd.settings.builtin import BUILTINS
from sockd.settings.networks import ClientCid, ClientName
from sockd.settings.tls import NO_HOST_CERTIFICATE
from sockd.text import KeyPath, dotted, nearest, quote, show, suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sockd.settings.address import Address
    from sockd.settings.listen import ListenSettings
    from sockd.settings.service import ServiceSettings

_MAX_INTERFACE_BYTES = 15  # IFNAMSIZ of if.h is 16 with the NUL; the kernel would cut a longer name


EXAMPLE = 'address = "tcp://127.0.0.1:7007" and service = "upper"'

_STREAMS_ONLY = (
    "hours", "max_load", "total_rate", "greeting_files", "banner_files", "hosts_access", "deny_time", "ident",
)  # fmt: skip
"""Keys for connections: datagrams are judged one by one, wait for nothing, and their senders can be forged."""
_ALSO_WAIT = ("hours", "max_load")
"""Keys that also say when a program gets a socket for datagrams."""


def check_listeners(listeners: Iterable[ListenSettings], services: Mapping[str, ServiceSettings]) -> Iterator[Problem]:
    """Check the listeners.

    Args:
        listeners: as read.
        services: the [service] tables by their names.

    Returns:
        The problems, each with the path of its key.
    """
    seen: dict[Address, str] = {}
    for index, listen in enumerate(listeners):
        path: KeyPath = ("listen", index)
        if listen.address is None and not listen.addresses:
            yield Problem(path, f"has no address; write {EXAMPLE}", missing=("address", "addresses"))
        if listen.address is not None and listen.addresses:
            yield Problem((*path, "addresses"), "is set together with address; set exactly one of the two")
        for where, address in _addresses(path, listen):
            is_chosen = not (address.path or address.name or address.port)  # by the kernel, another one for each
            first = dotted(where) if is_chosen else seen.setdefault(address, dotted(where))
            if first != dotted(where):
                yield Problem(where, f"{show(str(address))} is a duplicate of {first}", str(address))
        if not listen.service:
            text = 'has no service; write service = "upper", the name of a [service] table, or "module:attribute"'
            yield Problem(path, text, missing=("service",))
        elif reason := why_not_service(listen.service, services):
            yield Problem((*path, "service"), f"{show(listen.service)} {reason}", listen.service)
        waits = (table := services.get(listen.service)) is not None and bool(table.wait)
        if waits:
            yield from check_wait_listen(path, listen)
        yield from _check_admission(path, listen)
        yield from _check_proxies(path, listen)
        yield from check_kinds(path, listen, waits=waits)
        yield from _check_cids(path, listen)
        yield from _check_hosts_access(path, listen)
        yield from _check_access(path, listen)
        yield from check_tls(path, listen)
        if listen.interface is not None and (reason := _not_interface(listen.interface)):
            yield Problem((*path, "interface"), f"{show(listen.interface)} {reason}", listen.interface)


def check_kinds(path: KeyPath, listen: ListenSettings, *, waits: bool) -> Iterator[Problem]:
    """Name the keys that one of the addresses cannot have, because of the kind of its socket.

    Args:
        path: of the table.
        listen: as read; that of a passed socket with the address that it is found to have.
        waits: whether a program accepts or receives by itself.
    """
    yield from _check_proxied(path, listen)
    yield from _check_streams_only(path, listen, waits=waits)
    yield from _check_encrypted(path, listen)
    if waits and any(address.scheme == "vsock" for address in listen.every):
        for key in ("allow", "deny"):
            if getattr(listen, key):
                yield Problem((*path, key), "does not apply to a vsock of a service with wait = true; remove it")


def _check_admission(path: KeyPath, listen: ListenSettings) -> Iterator[Problem]:
    if listen.banner and listen.at_limit == "reset":
        text = 'is never sent, because at_limit is "reset"; write at_limit = "refuse", or remove it'
        yield Problem((*path, "banner"), f"{show(listen.banner)} {text}", listen.banner)
    for key in ("greeting_files", "banner_files"):
        for index, file in enumerate(getattr(listen, key)):
            if not os.path.isabs(file):
                text = f"is not an absolute path; write {show(os.path.abspath(file))}"
                yield Problem((*path, key, index), f"{show(file)} {text}", file)
    if any(not character.isprintable() for character in listen.banner):
        text = "contains an unprintable character; a banner is one line, and sockd appends the newline"
        yield Problem((*path, "banner"), f"{show(listen.banner)} {text}", listen.banner)


def _check_hosts_access(path: KeyPath, listen: ListenSettings) -> Iterator[Problem]:
    """Hold the table of hosts.allow and hosts.deny against what its rules can name."""
    if (table := listen.hosts_access) is None:
        return
    here = (*path, "hosts_access")
    if not table.daemon:
        text = 'is missing; write daemon = "in.fingerd", the name of the service in the rules'
        yield Problem((*here, "daemon"), text, missing=("daemon",))
    elif re.search(r"[\s,:@]", table.daemon):
        text = "contains a blank, a comma, a colon or an @, which a name in hosts.allow cannot have"
        yield Problem((*here, "daemon"), f"{show(table.daemon)} {text}", table.daemon)
    for key in ("allow", "deny"):
        if not os.path.isabs(file := getattr(table, key)):
            yield Problem((*here, key), f"{show(file)} is not an absolute path", file)


def _check_streams_only(path: KeyPath, listen: ListenSettings, *, waits: bool) -> Iterator[Problem]:
    """Name the keys that datagrams cannot have: they are judged one by one, and wait for nothing."""
    datagrams = next((one for one in listen.every if one.scheme in ("udp", "unixgram")), None)
    if datagrams is None:
        return
    for key in _STREAMS_ONLY:
        if getattr(listen, key) not in (None, ()) and not (waits and key in _ALSO_WAIT):
            text = f"applies to connections, and {show(str(datagrams))} is a datagram address; remove it"
            yield Problem((*path, key), text)
    for key in ("allow", "deny"):
        for index, client in enumerate(getattr(listen, key)):
            if isinstance(client, ClientName):
                text = f"is a name, and datagrams of {show(str(datagrams))} are judged by address; write networks"
                yield Problem((*path, key, index), f"{show(client)} {text}", client)


def _check_cids(path: KeyPath, listen: ListenSettings) -> Iterator[Problem]:
    """Hold rules about clients of vsock against the addresses."""
    has_vsock = any(address.scheme in ("vsock", "fd") for address in listen.every)
    for key in ("allow", "deny"):
        for index, client in enumerate(getattr(listen, key)):
            if isinstance(client, ClientCid) and not has_vsock:
                text = "is a client of vsock, and this listener has no vsock address; remove it"
                yield Problem((*path, key, index), f"{show(str(client))} {text}", str(client))


def _check_proxies(path: KeyPath, listen: ListenSettings) -> Iterator[Problem]:
    """Check the networks of trusted proxies, at least one of which is required."""
    if listen.proxy_protocol is None:
        return
    here = (*path, "proxy_protocol")
    if not listen.proxy_protocol.from_:
        text = 'names no trusted proxy; write from = ["10.0.0.1"], or "unix:" for Unix sockets'
        yield Problem((*here, "from"), text, missing=("from",))
    if listen.ident is not None:
        text = "asks the client's host about its connection to this one, and behind a proxy it has none; remove it"
        yield Problem((*path, "ident"), text)


def _check_proxied(path: KeyPath, listen: ListenSettings) -> Iterator[Problem]:
    """Check that proxies can send a header to each address."""
    for where, address in _addresses(path, listen) if listen.proxy_protocol is not None else ():
        if address.scheme == "vsock":
            reason = "is a vsock, over which no proxy sends a header; give it a [[listen]] of its own"
            yield Problem(where, f"{show(str(address))} {reason}", str(address))
        if address.scheme in ("udp", "unixgram", "unixpacket"):
            reason = "is a datagram address, and datagrams have no PROXY header; give it a [[listen]] of its own"
            yield Problem(where, f"{show(str(address))} {reason}", str(address))


def _check_access(path: KeyPath, listen: ListenSettings) -> Iterator[Problem]:
    """Hold mode, owner and group, which only a Unix socket's path has, against the addresses."""
    if listen.mode is not None and not re.fullmatch("0?[0-7]{3}", listen.mode):
        text = 'is no mode in octal; write one such as "0660" (owner and group) or "0666" (everybody)'
        yield Problem((*path, "mode"), f"{show(listen.mode)} {text}", listen.mode)
    has_path = any((address.path and not address.is_abstract) or address.scheme == "fd" for address in listen.every)
    for key in ("mode", "owner", "group"):
        value = getattr(listen, key)
        if value is not None and not has_path:
            text = "is for the path of a Unix socket, and this listener has none; remove it"
            yield Problem((*path, key), f"{show(value)} {text}", value)


def _not_interface(name: str) -> str:
    """Return why a text cannot be the name of an interface; empty when it can."""
    size = len(os.fsencode(name))
    if not 1 <= size <= _MAX_INTERFACE_BYTES:
        return f"has {size} bytes; an interface name has 1 to {_MAX_INTERFACE_BYTES} (IFNAMSIZ)"
    wrong = re.search(r"[\s/:]", name)
    return f"contains {show(wrong[0])}, which an interface name cannot contain" if wrong else ""


def _addresses(path: KeyPath, listen: ListenSettings) -> Iterator[tuple[KeyPath, Address]]:
    if listen.address is not None:
        yield (*path, "address"), listen.address
    yield from (((*path, "addresses", index), one) for index, one in enumerate(listen.addresses))


def why_not_service(name: str, tables: Iterable[str]) -> str:
    """Return why a name is not that of a service, and what is possible; empty if it is one.

    Args:
        tables: names of the [service] tables.
    """
    known = [*tables, *(builtin for builtin in BUILTINS if builtin not in tables)]
    if name in known:
        return ""
    if ":" in name:
        return not_handler(name)
    module, dot, attribute = name.rpartition(".")
    if dot and not nearest(name, known):
        return f"is not a service; did you mean {quote(f'{module}:{attribute}')}? (a handler is module:attribute)"
    meant = suggest(name, known) or '; a handler is module:attribute, such as "app:greet"'
    return f"is not a service; known: {', '.join(known)}{meant}"


MAX_ALPN_BYTES = 255
"""RFC 7301, 3.1: opaque ProtocolName<1..2^8-1>."""


def check_tls(path: KeyPath, listen: ListenSettings) -> Iterator[Problem]:
    """Check what can be checked before any file is read."""
    tls, here = listen.tls, (*path, "tls")
    if tls is None:
        return
    if not tls.certificate:
        yield Problem((*here, "certificate"), 'is missing; write certificate = "/path"', missing=("certificate",))
    files = {"certificate": tls.certificate, "key": tls.key, "client_ca": tls.client_ca}
    for key, file in files.items():
        if file and not os.path.isabs(file):
            yield Problem((*here, key), f"{show(file)} is not an absolute path", file)
    for index, other in enumerate(tls.others):
        if not os.path.isabs(other.path):
            yield Problem((*here, "others", index), f"{show(str(other))} {NO_HOST_CERTIFICATE}", str(other))
    if tls.client_names and tls.client_ca is None:
        text = "requires client_ca, the authority that issued the certificates; add client_ca"
        yield Problem((*here, "client_names"), text)
    for index, text in enumerate(tls.alpn):
        if not (text.isascii() and 0 < len(text) <= MAX_ALPN_BYTES):
            yield Problem((*here, "alpn", index), f"{show(text)} is not 1 to {MAX_ALPN_BYTES} ASCII characters", text)


def _check_encrypted(path: KeyPath, listen: ListenSettings) -> Iterator[Problem]:
    """Check that each address can have TLS."""
    for address in listen.every if listen.tls is not None else ():
        if address.scheme in ("udp", "unixgram", "unixpacket"):
            text = (
                f"applies to streams, and {show(str(address))} is a datagram address; give it a [[listen]] of its own"
            )
            yield Problem((*path, "tls"), text)


__all__ = ["EXAMPLE", "MAX_ALPN_BYTES", "check_kinds", "check_listeners", "check_tls", "why_not_service"]
