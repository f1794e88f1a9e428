# SPDX-License-Identifier: MIT
"""Packets for handlers: the connections of sockets that keep packets apart (SOCK_SEQPACKET, unix(7)).

A packet is a frame, so the framing of the service is replaced; and what a handler writes at once is one packet,
whichever of its methods it calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sockd.errors import HandlerError
from sockd.net.connection.write_buffer import as_bytes
from sockd.values import replace
from sockd.wire.framing import Packet, Record

if TYPE_CHECKING:
    from sockd.services.handlers.transport import Transport
    from sockd.services.spec import ServiceSpec
    from sockd.wire.framing import Framing


def packet_spec(spec: ServiceSpec) -> ServiceSpec:
    """Return a service as it serves packets: no longer than its frames."""
    return replace(spec, framing=Packet.like(spec.framing))


def check_packets(address: object, spec: ServiceSpec) -> None:
    """Refuse a service that cannot serve packets.

    Raises:
        HandlerError: names both.
    """
    subject = f"{address}: service {spec.name} cannot serve unixpacket"
    if not spec.kind.serves_packets:
        raise HandlerError(f"{subject}; a function, a protocol class or a program can. Write unix:")
    if isinstance(spec.framing, Record):
        raise HandlerError(f"{subject} with the framing record; unpack each packet in the handler")
    if getattr(spec.kind, "policy", None) is not None:
        raise HandlerError(f"{subject} with too_long or unfinished: a packet comes whole; remove them, or write unix:")


def packet_transport(kind: type[Transport]) -> type[Transport]:
    """Return a class of connections of which each call of write() or reply() sends a packet."""

    def write(self: Transport, data: bytes | bytearray | memoryview) -> None:
        if data := as_bytes(data):
            kind.write(self, self._codec.encode(data))

    def reply(self: Transport, frame: object) -> None:
        kind.write(self, self._codec.encode(frame))

    def payload(self: Transport, data: bytes) -> bytes:
        return data[Packet.width :]

    def set_framing(self: Transport, framing: Framing) -> None:
        raise ValueError(f"{framing!r}: each packet of this connection is a frame")

    members = {"write": write, "reply": reply, "payload": payload, "set_framing": set_framing}
    return cast("type[Transport]", type(kind.__name__, (kind,), {"__slots__": (), **members}))


__all__ = ["check_packets", "packet_spec", "packet_transport"]
