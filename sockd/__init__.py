# SPDX-License-Identifier: MIT
"""sockd: the production home for small network services on Unix.

A handler is a function that answers a line; `sockd --listen tcp://127.0.0.1:7000=app:greet` serves it:

    def greet(line: bytes) -> bytes:
        return b"hello " + line

Raise `Close` to send a last reply and close the connection.  A function of two arguments receives its `Connection` as
well, a class of callbacks is a `Protocol` or a `LineProtocol`, and a `Service` adds limits, hooks, coroutines and one
of the framings: `Line` (the default), `StrictLine`, `Delimiter`, `Nul`, `Netstring`, `Prefix`, `Varint`, `OctetCount`,
`Fixed`, `Record`, `DotBlock`, `BlankLine`, `Raw`.  A `CloseReason` says why a connection has ended.

`sockd.testing` tests handlers without a network; `sockd.buffer` is the framings without the daemon.

`sockd.__version__` is the version, such as "1.2.3".

A name is imported when it is first used, so that `import sockd.buffer` loads nothing of the daemon.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sockd._version import __version__ as __version__
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
    "__version__": "sockd._version",
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
    return sorted({*globals(), *_HOMES})
