# SPDX-License-Identifier: MIT
"""The services that come with sockd: one list of their names, and what else is known of each without its code.

sockd.services.builtin implements them, one for each name here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sockd.values import dataclass

if TYPE_CHECKING:
    from sockd.settings.framing import FramingName

BuiltinName = Literal["upper", "echo", "discard", "chargen", "qotd", "systat", "daytime", "time", "metrics"]


@dataclass(frozen=True)
class BuiltinInfo:
    """What is known of a built-in service.

    Attributes:
        framing: of its stream, unless its table says another.
        source: what describes it.
        inetd: the names that inetd and xinetd have for the same `internal` service.
    """

    framing: FramingName
    source: str
    inetd: tuple[str, ...] = ()


BUILTINS: dict[BuiltinName, BuiltinInfo] = {
    "upper": BuiltinInfo("line", "FAQ App. A"),
    "echo": BuiltinInfo("raw", "RFC 862", ("echo",)),
    "discard": BuiltinInfo("raw", "RFC 863", ("discard", "sink", "null")),
    "chargen": BuiltinInfo("raw", "RFC 864", ("chargen", "ttytst")),
    "qotd": BuiltinInfo("raw", "RFC 865"),
    "systat": BuiltinInfo("raw", "RFC 866"),
    "daytime": BuiltinInfo("raw", "RFC 867", ("daytime",)),
    "time": BuiltinInfo("raw", "RFC 868", ("time", "timserver")),
    "metrics": BuiltinInfo("blank-line", "docs/operations.md"),
}

INETD_BUILTINS = {name: builtin for builtin, info in BUILTINS.items() for name in info.inetd}
"""What an `internal` service of inetd is here."""


__all__ = ["BUILTINS", "INETD_BUILTINS", "BuiltinInfo", "BuiltinName"]
