"""From what the configuration says of a framing to the framing: it goes before what the handler's Service says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from sockd import settings as defaults
from sockd.settings import FramingSettings
from sockd.wire.framing import (
    BlankLine,
    Delimiter,
    DotBlock,
    Fixed,
    Line,
    Netstring,
    Nul,
    OctetCount,
    Prefix,
    Raw,
    Record,
    StrictLine,
    Varint,
)

if TYPE_CHECKING:
    from sockd.settings import FramingName, ServiceSettings
    from sockd.wire.framing import Framing

_OF_LIMIT: dict[str, type[StrictLine | Nul | Netstring | Varint | DotBlock | BlankLine]] = {
    "strict-line": StrictLine,
    "nul": Nul,
    "netstring": Netstring,
    "varint": Varint,
    "dot-block": DotBlock,
    "blank-line": BlankLine,
}
_ENDINGS: dict[str, bytes | Literal["same"]] = {"lf": b"\n", "crlf": b"\r\n", "same": "same"}


def framing_of(table: ServiceSettings, own: Framing | None, default: FramingName) -> Framing:
    """Decide how a service's stream is cut.

    Args:
        table: of the service; sockd.config has checked it.
        own: what the handler's Service says.
        default: where neither says anything.
    """
    said = table.framing
    if said is None and own is not None:
        if table.max_frame is None or isinstance(own, Fixed | Record | Raw):
            return own
        return replace(own, max_bytes=table.max_frame)
    given = said if isinstance(said, FramingSettings) else FramingSettings(type=said or default)
    return _made(given, table.max_frame, own)


def _made(given: FramingSettings, max_frame: int | None, own: Framing | None) -> Framing:
    kind = given.type or defaults.DEFAULT_FRAMING
    own_limit = own.max_bytes if own is not None and not isinstance(own, Fixed | Record | Raw) else None
    limit = given.max or max_frame or own_limit or defaults.DEFAULT_MAX_FRAME
    if kind == "raw":
        return Raw(given.max) if given.max else Raw()
    if kind == "line":
        own_ending = own.ending if isinstance(own, Line) else b"\n"
        return Line(limit, _ENDINGS[given.ending] if given.ending else own_ending)
    if kind == "delimiter":
        return Delimiter(limit, (given.delimiter or "").encode())
    if kind == "prefix":
        return Prefix(limit, given.width or 0, given.order or "big", bool(given.includes_header))
    if kind == "octet-count":
        return OctetCount(limit, mixed=bool(given.mixed))
    if kind == "fixed":
        return Fixed(given.size or 0)
    if kind == "record":
        return Record(given.format or "")
    return _OF_LIMIT[kind](limit)
