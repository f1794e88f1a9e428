# SPDX-License-Identifier: MIT
"""Honest clients that say all they have to say at once, their end with it: nothing of it is lost, and all is answered.

Where there is TLS that is what comes behind the handshake; its end is FIN, with close_notify or without.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from storm import frames, headers
from storm.peers import opened
from storm.services import FRAMINGS, PASSWORD, USER

if TYPE_CHECKING:
    import random

    from storm.peers import Listener, Talk, World

COUNT = 5
"""Questions."""
RELAYED = ("socks", "socks-users", "relay", "relay-rude", "relay-headed", "exec", "echo")
"""Kinds whose bytes come back as they are."""
SILENT = ("discard", "chargen", "qotd", "daytime", "time", "metrics")
"""Kinds that are asked in other ways."""
BOUND = b"\0A\0P\0?"
"""In what is expected: the address and the port that a SOCKS server connects from, whichever."""


def is_for(listener: Listener) -> bool:
    is_stream = listener.type == socket.SOCK_STREAM
    return is_stream and listener.kind not in SILENT and "starttls" not in listener.way


def ask(world: World, listener: Listener, chance: random.Random, number: int, bound: float) -> str:
    """Ask, and return what is wrong with the answer; empty for nothing."""
    said, answer = _conversation(world, listener, chance, number)
    header = chance.choice(headers.honest_headers(number)) if "proxy" in listener.way else b""
    talk = opened(listener, bound)
    try:
        if "tls" in listener.way:
            talk.raw(header)
            talk.secure(world.context("" if "client-ca" in listener.way else None))
            has_notify = chance.random() < 0.5
            talk.raw(talk.sealed(said) + (talk.farewell() if has_notify else b""))
            talk.sock.shutdown(socket.SHUT_WR)
        else:
            talk.sock.sendall(header + said, socket.MSG_MORE)  # so that FIN is in the same segment
            talk.sock.shutdown(socket.SHUT_WR)
        accepted = _all(talk, len(answer))
    except OSError as error:
        accepted = repr(error).encode()
    finally:
        talk.close()
    if _is(accepted, answer):
        return ""
    return f"{accepted!r:.200} came in place of {answer!r:.200}, all of it asked at once behind {header!r}"


def _conversation(world: World, listener: Listener, chance: random.Random, number: int) -> tuple[bytes, bytes]:
    """Return what is said and what has to be answered."""
    framing = FRAMINGS[listener.framing][1]
    count = 1 if listener.framing == "raw" else chance.randrange(1, COUNT)
    payloads = [b"s00 at once %d" % (number + at) for at in range(count)]
    if listener.kind in RELAYED:
        said = answer = b"".join(payloads)
    else:
        said = b"".join(frames.wire_of(framing, one) for one in payloads)
        answer = b"".join(frames.answer_of(listener.kind, framing, one) for one in payloads)
    if listener.kind == "raw-session":
        answer += b"end"
    if listener.kind == "socks-users":
        login = b"\5\1\2" + headers.login(USER, PASSWORD)
        return login + _request(world, chance) + said, b"\5\2\1\0\5\0\0\1" + BOUND + answer
    if listener.kind == "socks":
        return b"\5\1\0" + _request(world, chance) + said, b"\5\0\5\0\0\1" + BOUND + answer
    return said, answer


def _request(world: World, chance: random.Random) -> bytes:
    return headers.socks5(chance.choice(("127.0.0.1", b"localhost")), world.target)


def _all(talk: Talk, size: int) -> bytes:
    """Take what comes, up to the end, or up to more than is right."""
    accepted = b""
    while len(accepted) <= size and (piece := talk.receive()):
        accepted += piece
    return accepted


def _is(accepted: bytes, answer: bytes) -> bool:
    """Compare, but for the address that a SOCKS server tells."""
    at = answer.find(BOUND)
    if at < 0:
        return accepted == answer
    return (
        len(accepted) == len(answer)
        and accepted[:at] == answer[:at]
        and accepted[at + len(BOUND) :] == answer[at + len(BOUND) :]
    )
