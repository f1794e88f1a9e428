# SPDX-License-Identifier: MIT
"""sockd: the production home for small network services on Unix.

A name is imported when it is first used, so that `import sockd.buffer` loads nothing of the daemon.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sockd.errors import Close
    from sockd.net.connection.connection import Connection
    from sockd.services.api import LineProtocol, Protocol, Service
    from sockd.wire.close_reason import CloseReason
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

__all__ = [
    "BlankLine",
    "Close",
    "CloseReason",
    "Connection",
    "Delimiter",
    "DotBlock",
    "Fixed",
    "Line",
    "LineProtocol",
    "Netstring",
    "Nul",
    "OctetCount",
    "Prefix",
    "Protocol",
    "Raw",
    "Record",
    "Service",
    "StrictLine",
    "Varint",
]

_HOMES = {
    "Close": "sockd.errors",
    "CloseReason": "sockd.wire.close_reason",
    "Connection": "sockd.net.connection.connection",
    "LineProtocol": "sockd.services.api",
    "Protocol": "sockd.services.api",
    "Service": "sockd.services.api",
    **dict.fromkeys(
        (
            "BlankLine",
            "Delimiter",
            "DotBlock",
            "Fixed",
            "Line",
            "Netstring",
            "Nul",
            "OctetCount",
            "Prefix",
            "Raw",
            "Record",
            "StrictLine",
            "Varint",
        ),
        "sockd.wire.framing",
    ),
}


if not TYPE_CHECKING:  # a type checker would take any name for one that is there

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
