"""A few pages over HTTP/1.1, for the daemon to tell of itself: GET and HEAD, no body, one answer after the other.

What a page holds is asked for at the moment it is wanted.  A request that is wrong gets its answer, and the
connection ends.  Source: RFC 9110, RFC 9112.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from sockd.services.service import Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.connection import Connection

    Pages = Callable[[str], "Page | None"]

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/1\.([0-9])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"
"""Nothing from elsewhere, and nothing from here but the page itself and its numbers."""


@dataclass(frozen=True)
class Page:
    """An answer."""

    body: str
    type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK


class Http(Protocol):
    """One connection.

    Args:
        pages: gives the page of a path, None where there is none.
    """

    def __init__(self, pages: Pages = lambda _path: None) -> None:
        self._pages = pages

    def connection_made(self, transport: Connection) -> None:
        """Keep the transport."""
        self._transport = transport

    def frame_received(self, head: bytes) -> None:
        """Answer one request, whose head this is."""
        lines = head.replace(b"\r\n", b"\n").lstrip(b"\n").split(b"\n")
        request = _REQUEST_LINE.fullmatch(lines[0])
        fields = [_FIELD.fullmatch(line) for line in lines[1:] if line]
        if request is None or None in fields:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        given = {field[1].lower(): field[2] for field in fields if field is not None}
        method, target, minor = request[1], request[2].decode("latin-1"), int(request[3])
        if b"transfer-encoding" in given or given.get(b"content-length", b"0") != b"0":
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        if method not in (b"GET", b"HEAD"):
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "Allow: GET, HEAD")
            return
        wish = given.get(b"connection", b"").lower()
        keep = b"close" not in wish if minor else b"keep-alive" in wish
        page = self._pages(target.partition("?")[0]) or Page("there is no such page\n", status=HTTPStatus.NOT_FOUND)
        self._answer(page, "Connection: keep-alive" if keep else "Connection: close", with_body=method == b"GET")
        if not keep:
            self._transport.close()

    def _refuse(self, status: HTTPStatus, *fields: str) -> None:
        self._answer(Page(f"{status.phrase}\n", status=status), "Connection: close", *fields, with_body=True)
        self._transport.close()

    def _answer(self, page: Page, *fields: str, with_body: bool) -> None:
        body = page.body.encode("utf-8", "replace")
        head = [
            f"HTTP/1.1 {page.status.value} {page.status.phrase}",
            f"Content-Type: {page.type}",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            f"Content-Security-Policy: {_POLICY}",
            *fields,
        ]
        self._transport.write("\r\n".join([*head, "", ""]).encode() + (body if with_body else b""))


__all__ = ["Http", "Page"]
