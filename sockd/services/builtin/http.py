# SPDX-License-Identifier: MIT
"""A few pages over HTTP/1.1, for the metrics service: GET and HEAD, no body, one reply after the other.

Pages are computed when they are requested.  An invalid request gets a reply, and the connection is closed.  Of
requests that arrive together one is answered per turn of the loop, and none while more than high_water of replies is
unsent, so that a client with many requests delays no other.

A request to a loopback address is only answered if its Host leads there: a browser must not be led to these pages
under a foreign name (sockd.wire.http, names_this_machine).  Source: RFC 9110, RFC 9112.
"""

from __future__ import annotations

import socket
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from sockd.services.api import Protocol
from sockd.values import dataclass
from sockd.wire.http import BLANK_LINES, RequestError, is_loopback, names_this_machine, parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.connection.connection import Connection
    from sockd.wire.http import HttpRequest

    Later = Callable[[Callable[["Page | None"], None]], None]
    Pages = Callable[[str], "Page | Later | None"]

ALLOWED = ("GET", "HEAD")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"
"""Nothing from elsewhere, and nothing from here but the page itself and its numbers."""


@dataclass(frozen=True)
class Page:
    """An answer."""

    body: str
    type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK


class HttpProtocol(Protocol):
    """One connection.

    Args:
        pages: gives the page of a path, None where there is none; a function is called with what is to be told it,
            later, and until then nothing more is read.
    """

    _transport: Connection

    def __init__(self, pages: Pages = lambda _path: None) -> None:
        self._pages = pages
        self._blank = 0
        self._has_ended = False

    def connection_made(self, transport: Connection) -> None:
        """Keep the transport."""
        self._transport = transport

    def frame_received(self, head: bytes) -> None:
        """Answer one request, whose head this is; the next one is looked at in another turn."""
        try:
            if self._is_blank(head):
                return
            self._serve(parse(head))
        except RequestError as error:
            fields = [f"Allow: {', '.join(ALLOWED)}"] if error.status is HTTPStatus.METHOD_NOT_ALLOWED else []
            page = Page(f"{error}\n", status=error.status)
            self._answer(page, "Connection: close", *fields, with_body=not head.startswith(b"HEAD "))
            self._transport.close()

    def _is_blank(self, head: bytes) -> bool:
        self._blank = 0 if head else self._blank + 1
        if self._blank > BLANK_LINES:
            raise RequestError(HTTPStatus.BAD_REQUEST, "blank lines in place of a request")
        return not head

    def _serve(self, request: HttpRequest) -> None:
        self._check(request)
        words = request.words("connection")
        keep = "close" not in words if request.minor else "keep-alive" in words
        deliver = partial(self._deliver, keep=keep, with_body=request.method == "GET")
        self._transport.pause_reading()
        page = self._pages(request.path)
        if callable(page):
            page(deliver)
        else:
            deliver(page)

    def connection_lost(self, exc: Exception | None) -> None:
        """Answer no more."""
        self._has_ended = True

    def _deliver(self, page: Page | None, *, keep: bool, with_body: bool) -> None:
        """Reply, and continue with the next request, if there is one, in another turn."""
        if self._has_ended:
            return
        page = page or Page("there is no such page\n", status=HTTPStatus.NOT_FOUND)
        self._answer(page, f"Connection: {'keep-alive' if keep else 'close'}", with_body=with_body)
        if keep:
            self._transport.call_later(0, self._transport.resume_reading)
        else:
            self._transport.close()

    def _check(self, request: HttpRequest) -> None:
        """Raise RequestError for what is not supported."""
        if request.method not in ALLOWED:
            raise RequestError(HTTPStatus.METHOD_NOT_ALLOWED, f"only {' and '.join(ALLOWED)} are served")
        if request.values("transfer-encoding") or set(request.values("content-length")) - {"0"}:
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "a request must not have a body")
        if not request.path:
            raise RequestError(HTTPStatus.BAD_REQUEST, "no path in the target")
        if self._is_on_loopback() and not names_this_machine(request.host, socket.gethostname()):
            raise RequestError(
                HTTPStatus.MISDIRECTED_REQUEST,
                "on loopback, Host must be localhost, a loopback address, the name "
                "of this machine, or a name without a dot",
            )

    def _is_on_loopback(self) -> bool:
        """Return whether it arrived on a loopback address, from a client that chose the name itself.

        A proxy that began with a PROXY header is no browser; nor has one come here that was shown our certificate.
        """
        about = self._transport.get_extra_info
        local = about("sockname")
        is_ours = about("proxied") is not None or about("ssl_object") is not None
        return isinstance(local, tuple) and not is_ours and is_loopback(local[0])

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


__all__ = ["HttpProtocol", "Later", "Page", "Pages"]
