"""sockd: the production home for small network services on Unix.

A name is imported when it is first asked for, so that `import sockd.buffer`
brings nothing of the daemon with it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sockd.errors import Close
    from sockd.net.connection import Connection
    from sockd.services.service import LineProtocol, Protocol, Service
    from sockd.wire.framing import Line, Raw
    from sockd.wire.state import CloseReason

__all__ = ["Close", "CloseReason", "Connection", "Line", "LineProtocol", "Protocol", "Raw", "Service"]

_HOMES = {
    "Close": "sockd.errors",
    "CloseReason": "sockd.wire.state",
    "Connection": "sockd.net.connection",
    "Line": "sockd.wire.framing",
    "LineProtocol": "sockd.services.service",
    "Protocol": "sockd.services.service",
    "Raw": "sockd.wire.framing",
    "Service": "sockd.services.service",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
