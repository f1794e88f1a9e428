# SPDX-License-Identifier: MIT
"""The client that a planted defect is meant for: does what leads to it, and tells what it cost."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

from storm import frames, headers
from storm.peers import Listener, Talk, World
from storm.planted import NUMBER, WORD, victim_of
from storm.services import FRAMINGS

if TYPE_CHECKING:
    from storm.watched import Watched

WITHIN_S = 8.0
"""Until what is wrong has cost the victim its connection; a PROXY header is waited for 3 s."""
ROWS = {
    "header": "lines+tcp4+proxy",
    "timer": "lines+tcp4+proxy",
    "rules": "lines+tcp4+rules",
    "handshake": "lines+tcp4+tls",
    "stream": "lines+tcp4+tls",
    "accepted": "lines+tcp4",
    "frames": "lines+tcp4",
    "closed": "lines+tcp4",
    "function": "function-line+tcp4",
    "session": "session+tcp4",
    "pool": "blocking-line-same+tcp4",
    "socks": "socks-users+tcp4",
    "datagram": "blocking-line+udp4",  # a function is called by C, where nothing can be planted
}


def play(place: str, world: World, daemon: Watched) -> str:
    """Be the victim of a planted defect; return what is wrong with what came of it, empty for nothing."""
    if place == "verb":
        answer = daemon.ask("close", id=NUMBER)
        return "" if answer["ok"] is False and answer["exit"] else f"the answer is {answer}"
    listener = next(one for one in world.listeners if one.name == ROWS[place])
    with socket.socket(listener.family, listener.type) as sock:
        sock.settimeout(WITHIN_S)
        sock.bind((victim_of(place), 0))
        sock.connect(listener.sockaddr)
        if place == "datagram":
            return _datagram(sock)
        talk = Talk(sock)
        try:
            return _come_to_it(place, world, listener, talk)
        except ConnectionError:
            return ""  # that is what it costs


def _come_to_it(place: str, world: World, listener: Listener, talk: Talk) -> str:
    framing = FRAMINGS[listener.framing][1]
    question = frames.wire_of(framing, b"s00 " + WORD)
    if place == "timer":
        return _ends(talk)
    if "proxy" in listener.way:
        talk.raw(b"PROXY TCP4 %b 192.0.2.1 1 1\r\n" % victim_of(place).encode())
    if "tls" in listener.way:
        talk.secure(world.context())
    if place == "socks":
        question = b"\5\1\2" + headers.login(b"alice", b"secret")
    talk.send(question)
    if place != "closed":
        return _ends(talk, b"\5\2" if place == "socks" else question)
    if talk.receive() != question:
        return "no answer before the end"
    talk.end()
    return _ends(talk)


def _ends(talk: Talk, answer: bytes = b"") -> str:
    """Take nothing but an end; or the right answer, where the callback that failed has been called once more."""
    try:
        said = talk.receive()
    except TimeoutError:
        return f"not ended within {WITHIN_S} s"
    return f"{said!r:.100} came" if said and not (answer and said.startswith(answer)) else ""


def _datagram(sock: socket.socket) -> str:
    """The planted one is not answered, the next one is."""
    sock.send(b"s00 " + WORD)
    sock.send(b"s00 next")
    said = sock.recv(1000)
    return "" if said == b"s00 next" else f"{json.dumps(said.decode('latin-1'))} came"
