# SPDX-License-Identifier: MIT
"""The head of an HTTP/1.1 request: read strictly, for what two programs can read in two ways is refused.

One pass over lines of bounded length and number.  A bare LF ends a line as CR LF does (RFC 9112, 2.2: a recipient
may); a bare CR, a folded line, a blank before a colon do not pass.  Nothing here knows a page or a socket.

Source: RFC 9110, RFC 9112; "section" below means of the latter.
"""

from __future__ import annotations

import ipaddress
import re
from http import HTTPStatus

from sockd.values import dataclass

LINE_BYTES = 8192
"""Of a request line (section 3 recommends 8000 at least) and of a field."""
FIELDS = 100
"""In one head; as Apache's LimitRequestFields."""
BLANK_LINES = 8
"""Before a request line; section 2.2 asks for one, which old clients send behind a body."""

_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_NO_TEXT = re.compile(rb"[^\t\x20-\x7e\x80-\xff]")  # RFC 9110, 5.5: field-vchar, SP and HTAB
_NO_TARGET = re.compile(rb"[^\x21-\x7e]")
_VERSION = re.compile(rb"HTTP/([0-9])\.([0-9])")
_ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")  # RFC 3986, 3.2.2 and 3.2.3


class RequestError(ValueError):
    """The bytes are no request, or one that is not served; the text says why.

    Attributes:
        status: of the reply.
    """

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class HttpRequest:
    """A head that is whole and right.

    Attributes:
        method: as sent; methods are case-sensitive.
        path: of the target, without its query; empty where the target is none of origin and absolute form.
        minor: 0 or more, of HTTP/1.x.
        host: that is asked, lower case, without its port, an IPv6 address in brackets; empty: none is named.
        fields: (name in lower case, value), in their order.
    """

    method: str
    path: str
    minor: int
    host: str
    fields: tuple[tuple[str, str], ...]

    def values(self, name: str) -> list[str]:
        """Return the values of every field of a name (lower case)."""
        return [value for found, value in self.fields if found == name]

    def words(self, name: str) -> set[str]:
        """Return the elements of a field that is a list of words (RFC 9110, 5.6.1), lower case."""
        return {word.strip(" \t").lower() for value in self.values(name) for word in value.split(",")}


def parse(head: bytes) -> HttpRequest:
    """Parse a head: its lines, the last one terminated like all, without the blank line after them.

    Raises:
        RequestError: 400, 414, 431 or 505.
    """
    first, *others = [line.removesuffix(b"\r") for line in head.removesuffix(b"\n").split(b"\n")]
    if len(first) > LINE_BYTES:
        raise RequestError(HTTPStatus.REQUEST_URI_TOO_LONG, f"a request line of {len(first)} bytes")
    if len(others) > FIELDS:
        raise RequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"{len(others)} header fields")
    method, target, minor = _request_line(first)
    fields = tuple(map(_field, others))
    named = [value for name, value in fields if name == "host"]
    if len(named) > 1 or (minor > 0 and not named):  # section 3.2
        raise _bad(f"{len(named)} Host fields")
    host = request_host(named[0]) if named else ""
    authority, path = _target(target)
    return HttpRequest(method, path, minor, host if authority is None else request_host(authority), fields)


def _bad(why: str) -> RequestError:
    return RequestError(HTTPStatus.BAD_REQUEST, why)


def _request_line(line: bytes) -> tuple[str, str, int]:
    words = line.split(b" ")
    version = _VERSION.fullmatch(words[-1])
    if len(words) != 3 or version is None or not _is_token(words[0]) or not words[1] or _NO_TARGET.search(words[1]):
        raise _bad("no request line")
    if version[1] != b"1":
        raise RequestError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, f"version {words[2].decode()}")
    return words[0].decode(), words[1].decode(), int(version[2])


def _is_token(word: bytes) -> bool:
    return bool(word) and not word.translate(None, _TOKEN)


def _field(line: bytes) -> tuple[str, str]:
    """Read a field; one that begins with a blank (obs-fold, section 5.2) has no name, nor one with a blank in it."""
    if len(line) > LINE_BYTES:
        raise RequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a header field of {len(line)} bytes")
    name, colon, value = line.partition(b":")
    if not colon or not _is_token(name) or _NO_TEXT.search(value):
        raise _bad("no header field")
    return name.decode().lower(), value.strip(b" \t").decode("latin-1")


def _target(target: str) -> tuple[str | None, str]:
    """Return the authority, None if there is none, and the path of a request's target (section 3.2)."""
    if target.startswith("/"):
        return None, target.partition("?")[0]
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:  # authority-form and asterisk-form, of CONNECT and OPTIONS
        return None, ""
    if not absolute[1]:
        raise _bad("no host in the target")  # RFC 9110, 4.2.1
    return absolute[1], absolute[2].partition("?")[0] or "/"


# ---- whom a request is for


def request_host(text: str) -> str:
    """Return the host of `host[:port]`, lower case.

    Raises:
        RequestError: it is none.
    """
    found = _HOST.fullmatch(text)
    if found is None:
        raise _bad("no host in Host")
    return found[1].lower()


def names_this_machine(host: str, machine: str) -> bool:
    """Return whether a request that arrived on a loopback address names this machine.

    A browser that shows a page of `evil.example` may be led to connect to 127.0.0.1 under that name (DNS rebinding),
    and would let the page read the reply; it cannot be made to send another name.  A name without a dot does not exist
    in the public DNS (RFC 7085): a health check's own, or a name of the local network.

    Args:
        host: of request_host(); an empty one is no browser's.
        machine: its name, as gethostname(2) gives it.
    """
    if "." not in host and ":" not in host:
        return True
    name = host.removesuffix(".")
    if name in ("localhost", machine.lower()) or name.endswith(".localhost"):  # RFC 6761, 6.3
        return True
    return is_loopback(name.removeprefix("[").removesuffix("]"))


def is_loopback(address: str) -> bool:
    """Tell whether a text is an address of loopback in numbers, an IPv4-mapped one included."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


__all__ = [
    "BLANK_LINES",
    "FIELDS",
    "LINE_BYTES",
    "HttpRequest",
    "RequestError",
    "is_loopback",
    "names_this_machine",
    "parse",
    "request_host",
]
