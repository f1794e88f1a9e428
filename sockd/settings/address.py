# SPDX-License-Identifier: MIT
"""Addresses as people write them: one text form for each, read once (FAQ II.2).

What can be bound or connected of an address is sockd.net.address.address's, which looks names up.  Nothing here does,
but for ports in services(5).
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import sys
from typing import Literal, TypeAlias

from sockd.errors import AddressError, SystemFault
from sockd.lazy import difflib
from sockd.units import parse_whole
from sockd.values import dataclass, replace

Scheme: TypeAlias = Literal["tcp", "udp", "unix", "unixgram", "unixpacket", "vsock", "fd"]
Services: TypeAlias = frozenset[tuple[Scheme, str]]

SCHEMES: tuple[Scheme, ...] = ("tcp", "udp", "unix", "unixgram", "unixpacket", "vsock", "fd")
FORMS = (
    "tcp://HOST:PORT, udp://HOST:PORT, unix:/PATH, unixgram:/PATH, unixpacket:/PATH, vsock:CID:PORT or, "
    "for inherited sockets, fd:NAME or fd:NUMBER"
)
WILDCARDS = ("", "*")
MAX_PORT = 65_535  # RFC 9293, 16 bits
MAX_VSOCK = 2**32 - 2  # vsock(7): the largest CID, and port; 2**32 - 1 is VMADDR_CID_ANY and VMADDR_PORT_ANY
MAX_PATH_BYTES = 107  # unix(7): sun_path has 108 bytes, the last one for the NUL
MAX_HOST_BYTES = 253  # RFC 1035, 255 in wire form
MAX_SCOPE_BYTES = 15  # IFNAMSIZ of if.h is 16 with the NUL
MAX_FD_NAME_BYTES = 255  # sd_listen_fds_with_names(3)
MAX_FD_DIGITS = 7  # fs.nr_open of Linux is 1,048,576 and is seldom raised
OUTPUT_NUMBERS = ("1", "2")
SERVICES_FILE = "/etc/services"  # services(5); only read to suggest a near name


@dataclass(frozen=True)
class Address:
    """An address as written; `str()` gives the same text back.

    `host` is "" or "*" for every address of both families, and an IPv6 address
    without its brackets; of vsock it is the CID, "" for every one of this machine;
    `port` is a number or the name of a service; `path` is
    for unix, unixgram and unixpacket only, behind an @ an abstract name (unix(7));
    `name` is the name or the number of a descriptor that was passed to this
    process, for fd only.
    """

    scheme: Scheme
    host: str = ""
    port: int | str = 0
    path: str = ""
    name: str = ""

    @classmethod
    def read(cls, text: str, services: Services | None) -> Address:
        """Read an address, as `parse` of setting() does."""
        return cls.parse(text, services=services)

    @classmethod
    def parse(cls, text: str, *, services: Services | None = None) -> Address:
        """Read an address.

        Args:
            text: tcp://host:port, udp://host:port, unix:/path, unixgram:/path, unixpacket:/path, vsock:cid:port (as
                systemd and socat write it), fd:name or fd:number.
            services: what known_services() gave, where services(5) can no longer be read, as after chroot(2).

        Raises:
            AddressError: names the text, the part of it, the reason and the remedy.

        Source: FAQ II.2, II.3; RFC 3986 for the brackets, RFC 4007 for the scope.
        """
        for character in text:
            if not character.isprintable() and not "\udc80" <= character <= "\udcff":
                raise _bad(
                    text, f"character {text.index(character) + 1}", f"{character!r} is not allowed in an address"
                )
        if text != text.strip():
            raise _bad(text, "text", "it is surrounded by blanks; remove them")
        scheme, rest = _split_scheme(text)
        if scheme in ("unix", "unixgram", "unixpacket"):
            return cls(scheme, path=_check_path(text, scheme, rest))
        if scheme == "fd":
            return cls(scheme, name=_check_fd_name(text, rest))
        if scheme == "vsock":
            return cls(scheme, *_check_vsock(text, rest))
        host, port = _split_authority(text, scheme, rest)
        return cls(scheme, _check_host(text, host), _check_port(text, scheme, port, services))

    def __str__(self) -> str:
        if self.path:
            return f"{self.scheme}:{self.path}"
        if self.name:
            return f"{self.scheme}:{self.name}"
        if self.scheme == "vsock":
            return f"vsock:{self.host}:{self.port}"
        return f"{self.scheme}://{bracket(self.host)}:{self.port}"

    @property
    def is_abstract(self) -> bool:
        """Whether it is a name of Linux's abstract namespace: no file, no mode, gone with its socket (unix(7))."""
        return self.path.startswith("@")

    def check_bindable(self) -> None:
        """Refuse what can be connected to and not be listened on.

        Raises:
            AddressError: an IPv4 address within an IPv6 one (RFC 4291, 2.5.5.2): a socket of IPv6 alone has none.
        """
        inner = ipaddress.IPv6Address(self.host).ipv4_mapped if ":" in self.host else None
        if inner is not None:
            text = f"{self.host} is an IPv4-mapped address, which is listened on as {inner}"
            raise _bad(str(self), "host", f"{text}; write {replace(self, host=str(inner))}")

    def port_number(self) -> int:
        """Look the port up when it is a service name.

        Raises:
            SystemFault: the name is not, or no longer, in services(5).
        """
        if isinstance(self.port, int):
            return self.port
        try:
            return socket.getservbyname(self.port, self.scheme)
        except OSError:
            raise SystemFault(f"{self}: {self.port} is not a {self.scheme} service of {SERVICES_FILE}") from None

    def numbered(self) -> Address:
        """Look the port up, while services(5) can be read; raises SystemFault as port_number()."""
        return self if isinstance(self.port, int) else replace(self, port=self.port_number())

    def registered_service(self) -> str | None:
        """Name the service that services(5) registers for a port given as a number (FAQ IV.11)."""
        if self.path or self.scheme == "vsock" or not isinstance(self.port, int) or self.port == 0:
            return None
        try:
            return socket.getservbyport(self.port, self.scheme)
        except OSError:
            return None


def bracket(host: str) -> str:
    """Put an IPv6 address into brackets (RFC 3986); leave every other host as it is."""
    return f"[{host}]" if ":" in host else host


def _bad(text: str, part: str, reason: str) -> AddressError:
    return AddressError(f"not an address: {text!r}: {part}: {reason}")


def _split_scheme(text: str) -> tuple[Scheme, str]:
    head, colon, rest = text.partition(":")
    for scheme in SCHEMES:
        if colon and head == scheme:
            return scheme, rest
    near = difflib.get_close_matches(head.lower(), SCHEMES, n=1) if colon else []
    if "://" in text or near:
        meant = f"; did you mean {near[0]}:{rest}" if near else ""
        raise _bad(text, "scheme", f"unknown scheme {head!r}{meant}; known: {FORMS}")
    raise _bad(text, "scheme", f"no scheme{_guess(text)}; an address is {FORMS}")


def _guess(text: str) -> str:
    for candidate in (f"unix:{text}", f"tcp://{text}", f"tcp://:{text}", f"tcp://{text}:PORT"):
        try:
            Address.parse(candidate.replace("PORT", "0"))
        except AddressError:
            continue
        return f"; did you mean {candidate}"
    return ""


def _check_path(text: str, scheme: Scheme, path: str) -> str:
    try:
        size = len(os.fsencode(path))
    except UnicodeEncodeError:
        encoding = sys.getfilesystemencoding()
        raise _bad(text, "path", f"{path!r} cannot be written in {encoding}; set LC_ALL=C.UTF-8") from None
    if not path:
        reason = f"empty; write {scheme}:/PATH"
    elif path.startswith("//"):
        reason = f"begins with two slashes; did you mean {scheme}:/{path.lstrip('/')}"
    elif path == "@":
        reason = f"empty; write {scheme}:@NAME"
    elif path.startswith("@") and size <= MAX_PATH_BYTES:
        return path
    elif not path.startswith(("/", "@")):
        reason = f"{path!r} is relative, and a daemon changes its working directory; begin it with /"
    elif path.endswith("/"):
        reason = f"{path!r} is a directory; name a file in it"
    elif size > MAX_PATH_BYTES:
        reason = f"{size} bytes, at most {MAX_PATH_BYTES} are allowed (unix(7)); choose a shorter one"
    else:
        return path
    raise _bad(text, "path", reason)


def _check_fd_name(text: str, name: str) -> str:
    """Check a number of a descriptor, or a name as sd_listen_fds_with_names(3) has them."""
    if not name:
        reason = "empty; write fd:NAME as in FileDescriptorName=, or fd:NUMBER"
    elif name.startswith("//"):
        reason = f"begins with two slashes; did you mean fd:{name.lstrip('/')}"
    elif not name.isascii() or ":" in name or len(name) > MAX_FD_NAME_BYTES:
        reason = (
            f"{name!r} is not a valid name; use 1 to {MAX_FD_NAME_BYTES} printable ASCII characters without a colon"
        )
    elif name in OUTPUT_NUMBERS:
        reason = f"{name} is an output of sockd itself; inherited sockets are 0, or 3 and up"
    elif name.isdecimal() and name != "0" and name.startswith("0"):
        reason = f"{name} begins with a zero; remove it"
    elif name.isdecimal() and len(name) > MAX_FD_DIGITS:
        reason = f"{name} is out of range; a descriptor has at most {MAX_FD_DIGITS} digits"
    else:
        return name
    raise _bad(text, "descriptor", reason)


def _check_vsock(text: str, rest: str) -> tuple[str, int]:
    """Read CID:PORT, `:PORT` or `*:PORT`; port 0 is chosen by the kernel."""
    cid, colon, port = rest.partition(":")
    if rest.startswith("//"):
        raise _bad(text, "scheme", f"begins with two slashes; did you mean vsock:{rest.lstrip('/')}")
    if not colon:
        raise _bad(text, "port", f"no port; did you mean vsock::{cid} (every CID of this machine), or vsock:{cid}:PORT")
    numbers = []
    for part, word in (("CID", "0" if cid in WILDCARDS else cid), ("port", port)):
        number = parse_whole(word, MAX_VSOCK)
        if number is None:
            raise _bad(text, part, f"{word!r} is not a number of 0 to {MAX_VSOCK} (vsock(7))")
        numbers.append(number)
    return "" if cid in WILDCARDS else str(numbers[0]), numbers[1]


def _split_authority(text: str, scheme: Scheme, rest: str) -> tuple[str, str]:
    if not rest.startswith("//"):
        raise _bad(text, "scheme", f"no // after {scheme}:; did you mean {scheme}://{rest.lstrip('/')}")
    rest = rest[2:]
    for character, what in (("@", "a user"), ("?", "a query"), ("#", "a fragment"), ("/", "a path")):
        if character in rest:
            place = f"character {text.index(character, len(scheme) + 3) + 1}"
            raise _bad(text, place, f"{character!r} belongs to {what}, which {scheme} does not have; remove it")
    if rest.startswith("["):
        return _split_brackets(text, scheme, rest)
    host, colon, port = rest.rpartition(":")
    if not colon:
        raise _bad(text, "port", f"no port; did you mean {scheme}://{rest}:PORT")
    if ":" in host:
        meant = f"{scheme}://[{host}]:{port}" if _is_ipv6(host) else f"{scheme}://[ADDRESS]:PORT"
        raise _bad(text, "host", f"more than one colon; write an IPv6 address in brackets: {meant}")
    return host, port


def _split_brackets(text: str, scheme: Scheme, rest: str) -> tuple[str, str]:
    host, bracket, port = rest[1:].partition("]")
    if not bracket:
        raise _bad(text, "host", "the bracket is not closed; write ] after the address")
    if not _is_ipv6(host):
        raise _bad(text, "host", f"{host!r} is not an IPv6 address, and only those are written in brackets")
    if not port.startswith(":"):
        wrong = f"{port!r} after the bracket" if port else "no port"
        raise _bad(text, "port", f"{wrong}; write {scheme}://[{host}]:PORT")
    return host, port[1:]


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    scope = host.partition("%")[2]
    return len(os.fsencode(scope)) <= MAX_SCOPE_BYTES and not re.search(r"[\s/]", scope)


def _check_host(text: str, host: str) -> str:
    if ":" in host:
        if ipaddress.IPv6Address(host).is_link_local and "%" not in host:
            raise _bad(text, "host", f"{host} is link-local and needs its interface: [{host}%eth0] (RFC 4007)")
    elif re.fullmatch(r"[0-9.]+", host):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise _bad(text, "host", f"{host} is not an IPv4 address; write four numbers 0 to 255") from None
    elif host not in WILDCARDS:
        _check_name(text, host)
    return host


def _check_name(text: str, host: str) -> None:
    try:
        encoded = host.encode("idna")
    except UnicodeError as error:
        raise _bad(text, "host", f"{host!r} is not a host name: {error}") from None
    if len(encoded) > MAX_HOST_BYTES:
        raise _bad(text, "host", f"{len(encoded)} bytes, a host name has at most {MAX_HOST_BYTES} (RFC 1035)")
    wrong = re.search(rb"[^A-Za-z0-9._-]", encoded)
    if wrong or encoded[:1] in (b"-", b"."):
        character = (wrong[0] if wrong else encoded[:1]).decode()
        raise _bad(text, "host", f"{character!r} cannot {'be in' if wrong else 'begin'} a host name (RFC 1123)")


def known_services() -> Services:
    """List the services of services(5), to have them when it can no longer be read."""
    return frozenset((scheme, name) for scheme in SCHEMES[:2] for name in _service_names(scheme))


def _check_port(text: str, scheme: Scheme, port: str, services: Services | None) -> int | str:
    if not port:
        raise _bad(text, "port", f"empty; a port is 0 to {MAX_PORT} or a service name")
    if re.fullmatch(r"[+-]?[0-9]+", port, re.ASCII):
        if port.isdecimal() and (port == "0" or port[0] != "0") and len(port) <= 5 and int(port) <= MAX_PORT:
            return int(port)
        zero = port.isdecimal() and port[0] == "0"
        reason = "begins with a zero; remove it" if zero else f"is out of range; a port is 0 to {MAX_PORT}"
        raise _bad(text, "port", f"{port} {reason}")
    if services is not None and (scheme, port) in services:
        return port
    try:
        socket.getservbyname(port, scheme)
    except (OSError, UnicodeError):
        raise _bad(text, "port", _unknown_service(scheme, port)) from None
    return port


def _unknown_service(scheme: Scheme, name: str) -> str:
    other = "udp" if scheme == "tcp" else "tcp"
    try:
        socket.getservbyname(name, other)
    except (OSError, UnicodeError):
        near = difflib.get_close_matches(name.lower(), _service_names(scheme), n=5)
        near.sort(key=lambda other: sorted(other) != sorted(name))  # letters that changed places come first
        meant = f"; did you mean {near[0]}" if near else ""
        return (
            f"{name!r} is not a {scheme} service of {SERVICES_FILE}{meant}; a port is a service name or 0 to {MAX_PORT}"
        )
    return f"{name!r} is a service of {other} only; write {other}://, or the number"


def _service_names(scheme: Scheme) -> list[str]:
    try:
        with open(SERVICES_FILE, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return []
    rows = (line.partition("#")[0].split() for line in text.splitlines())
    return [name for row in rows if len(row) > 1 and row[1].endswith(f"/{scheme}") for name in (row[0], *row[2:])]


__all__ = ["FORMS", "MAX_PORT", "SCHEMES", "WILDCARDS", "Address", "Scheme", "Services", "bracket", "known_services"]
