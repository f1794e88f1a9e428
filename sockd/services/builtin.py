"""The services that come with sockd and need no Python for a line: the C core serves them.

upper is the server of the FAQ (appendix A); echo is RFC 862, discard RFC 863.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sockd._sockbuf import lib

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.settings import FramingName


@dataclass(frozen=True)
class Builtin:
    """A built-in service: its number in the C core, its framing, its answer to a datagram."""

    serve: int
    framing: FramingName
    datagram: Callable[[bytes], bytes | None]


DISCARD: int = lib.SB_SERVE_DISCARD


def _same(datagram: bytes) -> bytes:
    return datagram


def _nothing(_datagram: bytes) -> None:
    return None


BUILTINS: dict[str, Builtin] = {
    "upper": Builtin(lib.SB_SERVE_UPPER, "line", bytes.upper),
    "echo": Builtin(lib.SB_SERVE_ECHO, "raw", _same),
    "discard": Builtin(lib.SB_SERVE_DISCARD, "raw", _nothing),
}
