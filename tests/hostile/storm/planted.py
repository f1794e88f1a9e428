# SPDX-License-Identifier: MIT
"""Defects of sockd's own, planted from outside: an internal function raises, once, for one victim.

STORM_PLANTED in the daemon's environment names rows of PLACES.  Handlers import this module, so that it is done before
the first byte; what is installed stays as it is.  A function that has another name by now ends the start, so that
a test cannot pass by planting nothing.

The victim is whoever comes from victim_of(place), or sends WORD or NUMBER where there is no connection.
"""

from __future__ import annotations

import importlib
import os
import socket
from contextlib import suppress

WORD = b"planted"
NUMBER = 66_066


class Planted(Exception):
    """What the planted defect raises."""


def _comes_from(fd: int, victim: str) -> bool:
    with suppress(OSError), socket.socket(fileno=os.dup(fd)) as sock:
        name = sock.getpeername()
        return isinstance(name, tuple) and name[0] == victim
    return False


def by_descriptor(victim, _self, fd, *_):
    return _comes_from(fd, victim)


def by_row(victim, self, id, *_):
    return _comes_from(self._table.info(id).fd, victim)


def by_event(victim, self, _index, id, part, _offset, _size, count):
    """Frames of the victim, and of nobody else in the same event: that would cost all of them."""
    rows = [id] if id >= 0 else [row for row, _ in self._table.turn.parts(part, count)]
    return all(by_row(victim, self, row) for row in rows)


def by_arrival(victim, _self, arrival, *_):
    return _comes_from(arrival.sock.fileno(), victim)


def by_socket(victim, self, *_):
    return self._socket.fileno() >= 0 and _comes_from(self._socket.fileno(), victim)


def by_words(_victim, _self, words, *_):
    return words.get("id") == NUMBER


def by_datagram(_victim, _self, datagram, *_):
    return WORD in datagram


def by_frames(_victim, _self, job, *_):
    return any(WORD in frame for frame in job.frames)


PLACES = {
    "header": ("sockd.net.listen.proxy_protocol", "ProxyHeaders", "_readable", by_descriptor),
    "timer": ("sockd.net.listen.proxy_protocol", "ProxyHeaders", "_drop", by_descriptor),
    "rules": ("sockd.net.listen.steps", "AdmissionStep", "run", by_arrival),
    "handshake": ("sockd.net.tls.handshake", "Handshakes", "_ready", by_descriptor),
    "stream": ("sockd.net.tls.filter", "TlsFilter", "open", by_row),
    "accepted": ("sockd.services.handlers.connection", "PerConnectionHandler", "accepted", by_row),
    "frames": ("sockd.services.handlers.connection", "PerConnectionHandler", "frames", by_event),
    "closed": ("sockd.services.handlers.connection", "PerConnectionHandler", "closed", by_row),
    "function": ("sockd.services.handlers.function", "FunctionHandler", "frames", by_event),
    "session": ("sockd.services.handlers.coroutine", "CoroutineHandler", "accepted", by_row),
    "pool": ("sockd.services.handlers.blocking", "BlockingHandler", "_answered", by_frames),
    "socks": ("sockd.services.socks.client", "SocksSession", "_readable", by_socket),
    "verb": ("sockd.daemon.control.commands", "ControlCommands", "_close", by_words),
    "datagram": ("sockd.net.udp.listener", "DatagramListener", "_serve", by_datagram),
}
"""By name: module, class and function, and which of its calls is the victim's."""


def victim_of(place: str) -> str:
    """Return the address of a place's victim, which is nobody else's."""
    return f"127.66.0.{1 + [*PLACES].index(place)}"


def plant(name: str) -> None:
    """Have the function of a place raise, the first time that it is called for the victim."""
    module, owner, function, is_victims = PLACES[name]
    kind = getattr(importlib.import_module(module), owner)
    right = getattr(kind, function)
    if hasattr(right, "left"):
        return  # handlers are imported again by a reload
    left, victim = [1], victim_of(name)

    def wrong(self, *arguments, **more):
        if left and is_victims(victim, self, *arguments):
            left.clear()
            raise Planted(name)
        return right(self, *arguments, **more)

    wrong.__code__ = wrong.__code__.replace(co_qualname=f"planted {name}")  # the log has a line for each
    wrong.left = left
    setattr(kind, function, wrong)


for name in os.environ.get("STORM_PLANTED", "").split():
    plant(name)
