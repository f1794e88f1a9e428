# SPDX-License-Identifier: MIT
"""How a service's stream is cut: the names of the framings, the keys of each, and the value that they come to.

One list: FRAMINGS.  What is checked, dumped, documented and made of a name is read from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from sockd.settings.field import KIB, MIB, setting, setting_default
from sockd.units import Size
from sockd.values import dataclass, fields, replace
from sockd.wire.framing import (
    BlankLine,
    Delimiter,
    DotBlock,
    Fixed,
    Framing,
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

FramingName = Literal[
    "line", "strict-line", "delimiter", "nul", "netstring", "prefix", "varint", "octet-count", "fixed", "record",
    "dot-block", "blank-line", "raw",
]  # fmt: skip


LineEnding = Literal["lf", "crlf", "same"]


ByteOrder = Literal["big", "little"]


@dataclass(frozen=True, kw_only=True)
class FramingSettings:
    """[service.NAME] framing = { ... }; which key goes with which type says FRAMINGS."""

    type: FramingName | None = setting(None, help="type of framing", source="")
    max: Size | None = setting(
        None,
        help="maximum payload size; replaces max_frame",
        source="",
        unit="bytes",
        low=1,
        high=1024 * MIB,
    )
    ending: LineEnding | None = setting(
        None,
        help='line: line ending of replies; "same" repeats the ending of the line received',
        source="default lf: RFC 9112 2.2",
    )
    delimiter: str | None = setting(None, help="delimiter: text that ends a frame, 1 to 8 bytes of UTF-8", source="")
    width: int | None = setting(
        None, help="prefix: size of the length field, 1, 2, 3, 4 or 8", source="", unit="bytes", low=1, high=8
    )
    order: ByteOrder | None = setting(
        None, help="prefix: byte order of the length field", source="default big: network byte order"
    )
    includes_header: bool | None = setting(None, help="prefix: the length includes the length field itself", source="")
    mixed: bool | None = setting(
        None, help="octet-count: a frame that does not begin with a digit is a line", source="RFC 6587 3.4.2"
    )
    size: Size | None = setting(
        None, help="fixed: size of every frame", source="", unit="bytes", low=1, high=1024 * MIB
    )
    format: str | None = setting(
        None, help='record: format of Python\'s struct module, such as "!IHd"', source="FAQ II.15"
    )


@dataclass(frozen=True, kw_only=True)
class FrameSettings:
    """The keys of [service.NAME] of a service whose stream sockd cuts into frames."""

    framing: FramingName | FramingSettings | None = setting(
        None, help="how the stream is split into frames: a name, or a table with options", source="", otherwise="line"
    )
    max_frame: Size | None = setting(
        None,
        help="maximum frame size, without delimiter; a longer frame closes the connection",
        source="default 64 KiB: asyncio's StreamReader limit",
        otherwise=Size(64 * KIB),
        unit="bytes",
        low=1,
        high=1024 * MIB,
    )
    goodbye: str | None = setting(
        None,
        help="last frame sent to each connection that a graceful stop, or removal of its listener, closes",
        source="RFC 5321, 3.8, reply 421; default none",
    )


FRAMED = tuple(field.name for field in fields(FrameSettings))

Make: TypeAlias = Callable[[FramingSettings, int, Framing | None], Framing]
"""From the table, the limit, and what the handler's own Service says."""


@dataclass(frozen=True, kw_only=True)
class FramingForm:
    """A type of framing.

    Attributes:
        make: makes its value.
        needs: the key without which it says too little; `example` is a value of it.
        further: keys of its own.
        is_sized: every frame has one size, which is its limit.
    """

    make: Make
    needs: str = ""
    example: str = ""
    further: tuple[str, ...] = ()
    is_sized: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """Its keys, in the order of the alphabet."""
        needed = (self.needs,) if self.needs else ()
        return tuple(sorted((*needed, *self.further, *(() if self.is_sized else ("max",)))))


_ENDINGS: dict[LineEnding, bytes | Literal["same"]] = {"lf": b"\n", "crlf": b"\r\n", "same": "same"}


def _line(given: FramingSettings, limit: int, own: Framing | None) -> Line:
    own_ending = own.ending if isinstance(own, Line) else b"\n"
    return Line(limit, _ENDINGS[given.ending] if given.ending else own_ending)


def _prefix(given: FramingSettings, limit: int, _own: Framing | None) -> Prefix:
    return Prefix(limit, given.width or 0, given.order or "big", bool(given.includes_header))


def _limited_form(kind: Callable[[int], Framing]) -> FramingForm:
    return FramingForm(make=lambda _given, limit, _own: kind(limit))


FRAMINGS: dict[FramingName, FramingForm] = {
    "line": FramingForm(make=_line, further=("ending",)),
    "strict-line": _limited_form(StrictLine),
    "delimiter": FramingForm(
        make=lambda given, limit, _own: Delimiter(limit, (given.delimiter or "").encode()),
        needs="delimiter",
        example='";"',
    ),
    "nul": _limited_form(Nul),
    "netstring": _limited_form(Netstring),
    "prefix": FramingForm(make=_prefix, needs="width", example="4", further=("order", "includes_header")),
    "varint": _limited_form(Varint),
    "octet-count": FramingForm(
        make=lambda given, limit, _own: OctetCount(limit, mixed=bool(given.mixed)), further=("mixed",)
    ),
    "fixed": FramingForm(
        make=lambda given, _limit, _own: Fixed(given.size or 0), needs="size", example="16", is_sized=True
    ),
    "record": FramingForm(
        make=lambda given, _limit, _own: Record(given.format or ""), needs="format", example='"!IHd"', is_sized=True
    ),
    "dot-block": _limited_form(DotBlock),
    "blank-line": _limited_form(BlankLine),
    "raw": FramingForm(make=lambda given, _limit, _own: Raw(given.max) if given.max else Raw()),
}


def resolve_framing(table: FrameSettings, own: Framing | None, default: FramingName | None = None) -> Framing:
    """Decide how a service's stream is cut.

    Args:
        table: of the service, checked.
        own: what the handler's Service says.
        default: where neither says anything; None: lines.
    """
    said = table.framing
    if said is None and own is not None:
        if table.max_frame is None or isinstance(own, Fixed | Record | Raw):
            return own
        return replace(own, max_bytes=table.max_frame)
    given = said if isinstance(said, FramingSettings) else FramingSettings(type=said or default)
    own_limit = own.max_bytes if own is not None and not isinstance(own, Fixed | Record | Raw) else None
    limit = given.max or table.max_frame or own_limit or setting_default(FrameSettings, "max_frame")
    return FRAMINGS[given.type or setting_default(FrameSettings, "framing")].make(given, limit, own)


__all__ = ["FRAMED", "FRAMINGS", "FrameSettings", "FramingForm", "FramingName", "FramingSettings", "resolve_framing"]
