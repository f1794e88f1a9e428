"""sockd: the production home for small network services on Unix."""

from sockd.errors import Close
from sockd.net.connection import Connection
from sockd.services.service import LineProtocol, Protocol, Service
from sockd.wire.framing import Line, Raw
from sockd.wire.state import CloseReason

__all__ = ["Close", "CloseReason", "Connection", "Line", "LineProtocol", "Protocol", "Raw", "Service"]
