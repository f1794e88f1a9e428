# SPDX-License-Identifier: MIT
"""The services that come with sockd.

The C core serves upper, which is the server of the FAQ (appendix A), echo (RFC 862) and discard (RFC 863);
the others are those of RFC 864 to 868 (sockd.services.builtin.small_services), and metrics, the daemon's own numbers
over HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd._sockbuf import lib
from sockd.lazy import lazily
from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.services.builtin import small_services
    from sockd.settings.builtin import BuiltinName
else:
    small_services = lazily("sockd.services.builtin.small_services")


@dataclass(frozen=True)
class CoreService:
    """Served by the C core: its number there, and its answer to a datagram."""

    number: int
    answer: Callable[[bytes], bytes | None]


@dataclass(frozen=True)
class SpeakingService:
    """Served by an object for each connection, and its answer to a datagram."""

    protocol: Callable[[], object]
    answer: Callable[[bytes], bytes | None]


DISCARD: int = lib.SOCKD_SERVE_DISCARD


def _same(datagram: bytes) -> bytes:
    return datagram


def _nothing(_datagram: bytes) -> None:
    return None


def _teller(name: str) -> SpeakingService:
    """Serve what a function of small_services says."""

    def say() -> bytes:
        said: bytes = getattr(small_services, name)()
        return said

    return SpeakingService(lambda: small_services.OneShot(say), lambda _datagram: say())


def _chargen() -> object:
    return small_services.Chargen()


CODE: dict[BuiltinName, CoreService | SpeakingService] = {
    "upper": CoreService(lib.SOCKD_SERVE_UPPER, bytes.upper),
    "echo": CoreService(lib.SOCKD_SERVE_ECHO, _same),
    "discard": CoreService(lib.SOCKD_SERVE_DISCARD, _nothing),
    "chargen": SpeakingService(_chargen, lambda _datagram: small_services.characters()),
    "qotd": _teller("quote"),
    "systat": _teller("users"),
    "daytime": _teller("daytime"),
    "time": _teller("seconds"),
}
"""Of each name in sockd.settings.builtin, but for the pages, which are the daemon's."""
