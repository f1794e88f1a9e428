# SPDX-License-Identifier: MIT
"""The services that come with sockd.

The C core serves upper, which is the server of the FAQ (appendix A), echo (RFC 862) and discard (RFC 863);
the others are those of RFC 864 to 868 (sockd.services.builtin.small_services), and metrics, the daemon's own numbers
over HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sockd._sockbuf import lib
from sockd.services.builtin import small_services
from sockd.services.builtin.http import HttpProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.settings.builtin import BuiltinName


@dataclass(frozen=True)
class Builtin:
    """What serves a built-in: its number in the C core or its protocol class, and its answer to a datagram."""

    serve: int
    datagram: Callable[[bytes], bytes | None] | None
    protocol: Callable[[], object] | None = None


DISCARD: int = lib.SOCKD_SERVE_DISCARD


def _same(datagram: bytes) -> bytes:
    return datagram


def _nothing(_datagram: bytes) -> None:
    return None


def _teller(say: Callable[[], bytes]) -> Builtin:
    return Builtin(0, lambda _datagram: say(), partial(small_services.OneShot, say))


CODE: dict[BuiltinName, Builtin] = {
    "upper": Builtin(lib.SOCKD_SERVE_UPPER, bytes.upper),
    "echo": Builtin(lib.SOCKD_SERVE_ECHO, _same),
    "discard": Builtin(lib.SOCKD_SERVE_DISCARD, _nothing),
    "chargen": Builtin(0, lambda _datagram: small_services.characters(), small_services.Chargen),
    "qotd": _teller(small_services.quote),
    "systat": _teller(small_services.users),
    "daytime": _teller(small_services.daytime),
    "time": _teller(small_services.seconds),
    "metrics": Builtin(0, None, HttpProtocol),
}
"""Of each name in sockd.settings.builtin."""
