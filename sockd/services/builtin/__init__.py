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

    from sockd.settings.service import FramingName


@dataclass(frozen=True)
class Builtin:
    """A built-in service: its number in the C core or its protocol class, its framing, its answer to a datagram."""

    serve: int
    framing: FramingName
    datagram: Callable[[bytes], bytes | None] | None
    protocol: Callable[[], object] | None = None


DISCARD: int = lib.SB_SERVE_DISCARD


def _same(datagram: bytes) -> bytes:
    return datagram


def _nothing(_datagram: bytes) -> None:
    return None


def _teller(say: Callable[[], bytes]) -> Builtin:
    return Builtin(0, "raw", lambda _datagram: say(), partial(small_services.OneShot, say))


BUILTINS: dict[str, Builtin] = {
    "upper": Builtin(lib.SB_SERVE_UPPER, "line", bytes.upper),
    "echo": Builtin(lib.SB_SERVE_ECHO, "raw", _same),
    "discard": Builtin(lib.SB_SERVE_DISCARD, "raw", _nothing),
    "chargen": Builtin(0, "raw", lambda _datagram: small_services.characters(), small_services.Chargen),
    "qotd": _teller(small_services.quote),
    "systat": _teller(small_services.users),
    "daytime": _teller(small_services.daytime),
    "time": _teller(small_services.seconds),
    "metrics": Builtin(0, "blank-line", None, HttpProtocol),
}
