# SPDX-License-Identifier: MIT
"""Honest clients beside the storm: they ask over every listener, compare every answer, and wait no longer than BOUND_S.

A connection is asked several times; some stay for as long as the storm lasts.  Where a program is upgraded or workers
change, a connection that ends in order between two questions is made anew; one that ends behind a question, or with a
reset, is a fault.
"""

from __future__ import annotations

import random
import re
import socket
import struct
import threading
import time
from collections import Counter, deque
from contextlib import suppress

from storm import at_once, frames, headers
from storm.gate import Gate
from storm.peers import Listener, Talk, World, opened
from storm.services import FRAMINGS, MUTE, PASSWORD, USER

BOUND_S = 10.0
"""From a question to its answer; a reload of 290 listeners takes a fifth of a second, and the machine may be busy."""
QUESTIONS = 4
"""On one connection, one after the other."""
AT_ONCE_SHARE = 0.3
"""Of the connections: those whose client says all at once, and ends."""
KEPT = 12
"""Connections that each honest thread comes back to."""


class Wrong(AssertionError):
    """An honest client was not served as it has to be."""


class Conversation:
    """One honest connection, up to where frames are exchanged."""

    def __init__(self, world: World, listener: Listener, chance: random.Random, number: int) -> None:
        self.listener = listener
        self._world = world
        self._chance = chance
        self._number = number
        self._accepted = b""
        self.asked = 0
        self.header = b""
        self.talk = opened(listener, BOUND_S)
        try:
            self._introduce()
        except (OSError, Wrong) as error:
            self.talk.close()
            raise Wrong(f"introduction{self.said}: {type(error).__name__}: {error}") from error

    @property
    def said(self) -> str:
        return f" behind {self.header!r}" if self.header else ""

    def _introduce(self) -> None:
        talk, way = self.talk, self.listener.way
        if "proxy" in way:
            self.header = self._chance.choice(headers.honest_headers(self._number))
            at = self._chance.randrange(len(self.header))
            talk.raw(self.header[:at])
            talk.raw(self.header[at:])
        if "tls" in way:
            talk.secure(self._world.context("" if "client-ca" in way else None))
        if "starttls" in way:
            self.ask(b"y00")
            talk.secure(self._world.context())
        if self.listener.kind.startswith("socks"):
            self._socks()

    def _socks(self) -> None:
        talk, port = self.talk, self._world.target
        host = self._chance.choice(("127.0.0.1", b"localhost", b"127.0.0.1"))
        if "users" in self.listener.kind:
            self._exchange(b"\5\1\2", b"\5\2")
            self._exchange(headers.login(USER, PASSWORD), b"\1\0")
        elif isinstance(host, str) and self._chance.random() < 0.5:
            talk.send(headers.socks4(host, port, user=b"honest"))
            self._expect(b"\0\x5a")
            self._take(6)
            return
        else:
            self._exchange(b"\5\1\0", b"\5\0")
        talk.send(headers.socks5(host, port))
        self._expect(b"\5\0\0\1")
        self._take(6)

    def _exchange(self, said: bytes, answer: bytes) -> None:
        self.talk.send(said)
        self._expect(answer)

    def _take(self, size: int) -> bytes:
        while len(self._accepted) < size:
            piece = self.talk.receive()
            if not piece:
                raise Wrong(f"an end after {self._accepted!r:.200}, where {size} bytes were to come")
            self._accepted += piece
        taken, self._accepted = self._accepted[:size], self._accepted[size:]
        return taken

    def _expect(self, answer: bytes) -> None:
        accepted = self._take(len(answer))
        if accepted != answer:
            raise Wrong(f"{accepted + self._accepted!r:.200} came in place of {answer!r:.200}")

    # ---- questions

    @property
    def is_kept(self) -> bool:
        """Whether it can be asked again."""
        return self.listener.kind not in ("qotd", "daytime", "time", "chargen")

    def ask(self, payload: bytes) -> None:
        kind, framing = self.listener.kind, FRAMINGS[self.listener.framing][1]
        self.asked += 1
        match kind:
            case "discard" | "chargen" | "qotd" | "daytime" | "time":
                self._small(kind)
            case "metrics":
                self._page()
            case "socks" | "socks-users" | "relay" | "relay-rude" | "relay-headed" | "exec" | "echo":
                self.talk.send(payload)
                self._expect(payload)
            case _:
                self.talk.send(frames.wire_of(framing, payload))
                self._expect(frames.answer_of(kind, framing, payload))

    def _small(self, kind: str) -> None:
        if kind == "discard":
            self.talk.send(b"anything\n")
            return
        said = self._take({"chargen": 1000, "qotd": 5, "daytime": 10, "time": 4}[kind])
        if kind == "time" and abs(struct.unpack("!I", said)[0] - 2_208_988_800 - time.time()) > 5:
            raise Wrong(f"the time is {said!r}")

    def _page(self) -> None:
        path = self._chance.choice(("/live", "/ready", "/metrics", "/status.json", "/"))
        request = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode()
        (self._send_again if self.asked > 1 else self.talk.send)(request)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._take(1)
        if not head.startswith(b"HTTP/1.1 200 "):
            raise Wrong(f"{path}: {head!r:.100}")
        self._take(int(re.search(rb"Content-Length: (\d+)", head)[1]))

    def _send_again(self, request: bytes) -> None:
        """Send a further request; on a new connection, where the old one was closed at that very moment.

        An upgrade does so between two requests, and whoever has sent a GET meanwhile repeats it (RFC 9112, 9.3.1).
        """
        with suppress(ConnectionError):
            self.talk.send(request)
            self._accepted = self.talk.receive()
        if not self._accepted:
            self.talk.close()
            self.talk = opened(self.listener, BOUND_S)
            self._introduce()
            self.talk.send(request)

    def finish(self) -> None:
        """End our side; the daemon ends its own, and says nothing more."""
        if self.is_kept:
            self.talk.end()
            while piece := self.talk.receive():
                if self.listener.kind not in ("raw-session",):
                    raise Wrong(f"{piece!r:.100} behind the end")
        self.talk.close()

    def has_ended(self) -> bool:
        """Tell whether the daemon has ended it in order, with nothing said."""
        self.talk.sock.setblocking(False)
        try:
            return self._accepted == b"" and not self.talk.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return False  # a reset is to be found by asking
        finally:
            self.talk.sock.settimeout(BOUND_S)


class Honest:
    """Threads that ask.

    Args:
        world: what there is.
        seed: of the dice.
        may_end: tells whether connections that stay may be ended in order (an upgrade of workers, a reload of them).
    """

    def __init__(self, world: World, seed: str, threads: int = 4, *, may_end: bool = False) -> None:
        self._world = world
        self._seed = seed
        self._may_end = may_end
        self.gate = Gate()
        self.answers: Counter = Counter()
        self.waits: deque = deque(maxlen=200_000)
        self.slowest: dict[str, float] = {}
        self.wrong: list[str] = []
        for number in range(threads):
            threading.Thread(target=self._run, args=(number,), daemon=True).start()

    def _run(self, number: int) -> None:
        chance = random.Random(f"{self._seed} honest {number}")
        count = number * 1_000_000
        pattern = self._world.honest_rows
        served = [one for one in self._world.listeners if _is_for_honest(one) and re.search(pattern, one.name)]
        while True:
            kept: deque = deque()
            with self.gate:
                while self.gate.is_open:
                    for listener in chance.sample(served, len(served)):
                        count += 1
                        self._guarded(listener, self._visit, listener, chance, count, kept)
                        if not self.gate.is_open:
                            break
                while kept:
                    one = kept.popleft()
                    self._guarded(one.listener, one.finish)

    def _guarded(self, listener: Listener, call, *arguments) -> None:
        began = time.time()
        try:
            call(*arguments)
        except (OSError, Wrong, ValueError) as error:
            if len(self.wrong) < 50:
                when = time.strftime("%H:%M:%S", time.gmtime(began))
                self.wrong.append(f"{when} {listener.name} at {listener.address}: {type(error).__name__}: {error}")

    def _visit(self, listener: Listener, chance, count: int, kept: deque) -> None:
        if listener.type == socket.SOCK_DGRAM:
            self._timed(listener, lambda: _datagram(self._world, listener, count))
            return
        if at_once.is_for(listener) and chance.random() < AT_ONCE_SHARE:
            if wrong := self._timed(listener, lambda: at_once.ask(self._world, listener, chance, count, BOUND_S)):
                raise Wrong(wrong)
            return
        one = self._timed(listener, lambda: Conversation(self._world, listener, chance, count))
        try:
            for at in range(QUESTIONS if one.is_kept else 1):
                self._timed(listener, lambda at=at: one.ask(b"s00 honest %d" % (count * 10 + at)))
        except (OSError, Wrong) as error:
            one.talk.close()
            raise Wrong(f"question {one.asked}{one.said}: {type(error).__name__}: {error}") from error
        stays = one.is_kept and not {"rules"} & listener.way and listener.kind not in ("exec", "metrics")
        if stays and chance.random() < 0.3:
            kept.append(one)
            self._look_after(kept, chance)
        else:
            self._timed(listener, one.finish)

    def _look_after(self, kept: deque, chance) -> None:
        """Ask those that stay once more, and let the oldest go."""
        for one in list(kept):
            if self._may_end and one.has_ended():
                one.talk.close()
                kept.remove(one)
                continue
            try:
                self._timed(one.listener, lambda one=one: one.ask(b"s00 still %d" % chance.randrange(1000)))
            except (OSError, Wrong) as error:
                kept.remove(one)
                one.talk.close()
                raise Wrong(
                    f"{one.listener.name}, kept, question {one.asked}: {type(error).__name__}: {error}"
                ) from error
        while len(kept) > KEPT:
            self._timed(kept[0].listener, kept.popleft().finish)

    def _timed(self, listener: Listener, call):
        began = time.monotonic()
        result = call()
        took = time.monotonic() - began
        self.answers[listener.kind] += 1
        self.waits.append(took)
        if took > self.slowest.get(listener.kind, 0):
            self.slowest[listener.kind] = took
        return result

    def percentile(self, share: float) -> float:
        waits = sorted(self.waits)
        return waits[int(share * (len(waits) - 1))] if waits else 0.0


def _is_for_honest(listener: Listener) -> bool:
    """Tell whether an honest client is to be answered; by IPv6 it would share its source's limits with hostile ones."""
    return listener.kind not in MUTE and not ("rules" in listener.way and listener.scheme == "tcp6")


DATAGRAM_TRIES = 5


def _datagram(world: World, listener: Listener, count: int) -> None:
    """Ask by datagram; one that is lost, as UDP may, is asked again."""
    framing = FRAMINGS[listener.framing][1]
    question = b"s00 honest %d" % count
    if listener.framing == "record":
        question = frames.wire_of(framing, question)
    with socket.socket(listener.family, listener.type) as sock:
        sock.settimeout(BOUND_S / DATAGRAM_TRIES)
        if listener.family == socket.AF_UNIX:
            sock.bind("")  # an abstract name, so that it can be answered
        for _ in range(DATAGRAM_TRIES):
            try:
                sock.sendto(question, listener.sockaddr)
                if listener.kind == "discard":
                    return
                said = sock.recv(65_536)
            except (TimeoutError, BlockingIOError):
                continue
            if listener.kind in ("chargen", "qotd", "daytime", "time"):
                return
            if said != (question.upper() if listener.kind == "upper" else question):
                raise Wrong(f"{said!r:.100} came in place of {question!r:.100}")
            return
    raise Wrong(f"no answer to {DATAGRAM_TRIES} datagrams")


__all__ = ["Honest", "Talk", "Wrong"]
