# SPDX-License-Identifier: MIT
"""Crowds of clients for a handler's own tests, in virtual time, the same for the same seed.

A scenario is a list of steps, made from the seed before anything runs: clients come, send some more of what they say
(in pieces of any size), stop reading for a while, end, close, are reset, are ended as by idle_timeout; time passes; the
service is reloaded.  Whoever was left alone finishes at the end, and then all time passes that anybody waits for.

What is wrong:
- a client that was left alone gets another answer than a client that talks alone, all at once, to the same handler; one
  that was not gets something else than the beginning of it;
- the handler raises what it does not raise alone, and what is no loss of a connection;
- a coroutine is never awaited, or has not ended when all clients have gone;
- something is written to a connection that the handler itself has closed.
A scenario that finds such a thing is made smaller as long as it still finds one.
"""

from __future__ import annotations

import random
import socket
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from sockd.net.connection.connection import Connection
from sockd.net.loop.state_table import StateTable
from sockd.testing.failures import RaisedErrors
from sockd.testing.stage import Link, Stage, make_spec
from sockd.wire.close_reason import CloseReason
from sockd.wire.framing import Line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sockd.services.spec import ServiceSpec

MAX_TURNS = 10_000
"""Without coming to rest, until a handler is said never to."""
MAX_WAKES = 2_000
LONGEST_SECONDS = 3_600.0
"""Of virtual time behind the last step."""
BY_TIME = (CloseReason.FRAME_TIMEOUT, CloseReason.IDLE_TIMEOUT, CloseReason.WRITE_STALL)
SHRINKS = 300
"""Scenarios that are tried to find a smaller one."""
LINES = (b"a\n", b"hello\n", b"\n", b"one two three\r\n", b"x" * 100 + b"\n", b"last without its end")


class Failure(AssertionError):
    """What a simulation has found.

    Attributes:
        seed: of the scenario.
        why: what is wrong, in a line.
        transcript: all that happened in the smallest scenario that was found.
    """

    def __init__(self, seed: int, why: str, transcript: tuple[str, ...]) -> None:
        super().__init__(f"seed {seed}: {why}\n" + "\n".join(transcript))
        self.seed = seed
        self.why = why
        self.transcript = transcript


@dataclass(frozen=True)
class Step:
    """Something that happens: to a client (its number), or to all (-1)."""

    client: int
    verb: str
    amount: int = 0


@dataclass(frozen=True)
class Scenario:
    """Who has what to say, and what happens."""

    says: tuple[bytes, ...]
    steps: tuple[Step, ...]


class ClientPart(Enum):
    """What a client does in a scenario."""

    TALKING = "it says some of what it has to say, and then more"
    FINISHED = "it has said everything"
    DISTURBED = "its connection has ended before that, or by time: what it got may be a part of an answer"


PART = StateTable(
    {
        ClientPart.TALKING: (ClientPart.FINISHED, ClientPart.DISTURBED),
        ClientPart.FINISHED: (ClientPart.DISTURBED,),  # it was too slow in reading
        ClientPart.DISTURBED: (),
    }
)


@dataclass
class _Client:
    says: bytes
    link: Link | None = None
    sent: int = 0
    is_held: bool = False  # it reads nothing
    part: ClientPart = ClientPart.TALKING
    got: bytearray = field(default_factory=bytearray)

    @property
    def is_left_alone(self) -> bool:
        return self.part is not ClientPart.DISTURBED

    def disturb(self) -> None:
        if self.is_left_alone:
            self.part = PART.step(self.part, ClientPart.DISTURBED)


@dataclass
class _Clock:
    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


class _Wrong(Exception):
    pass


def simulate(
    found: object,
    seed: int = 0,
    conversations: Sequence[bytes] | None = None,
    *,
    clients: int = 5,
    steps: int = 40,
    check: Callable[[bytes, bytes], object] | None = None,
) -> tuple[str, ...]:
    """Play a scenario against a handler.

    Args:
        found: a function, a protocol class, a sockd.Service, or `module:attribute`.
        seed: of the scenario: the same seed is the same scenario, and the same transcript.
        conversations: what a client may have to say; lines of all kinds if None.
        clients: at most, of which each says one of these.
        steps: of the scenario.
        check: called with what a client said and what it got, in place of the comparison with one that talks alone:
            for services whose clients hear of each other.  What it raises, or a false value, is a failure.

    Returns:
        The transcript.

    Raises:
        Failure: something is wrong; it has the smallest scenario that was found.
        HandlerError, ValueError: it is no handler; conversations are needed, for it is not of lines, or are not bytes.
    """
    spec = make_spec(found)
    if conversations is None and not isinstance(spec.framing, Line):
        raise ValueError(f"conversations: say what clients of {spec.framing!r} send")
    if conversations is None:
        conversations = _default_conversations(random.Random(seed))  # noqa: S311 - no secret
    if not conversations or not all(isinstance(one, bytes) for one in conversations):
        raise ValueError('conversations: a list of what clients send, such as [b"a\\n", b"b\\n"]')
    scenario = _made(random.Random(seed), conversations, clients, steps)  # noqa: S311 - repeatable, not secret
    player = _Player(spec, check)
    transcript, why = player.play(scenario)
    if why is None:
        return transcript
    smallest = _shrunk(player, scenario)
    transcript, smaller_why = player.play(smallest)
    raise Failure(seed, smaller_why or why, transcript)


def _default_conversations(chance: random.Random) -> list[bytes]:
    """Return some lines each; the last one of some has no end."""
    lines, last = LINES[:-1], (b"", LINES[-1])
    return [b"".join(chance.choice(lines) for _ in range(1 + n)) + chance.choice(last) for n in range(4)]


def _made(chance: random.Random, conversations: Sequence[bytes], clients: int, count: int) -> Scenario:
    says = tuple(chance.choice(conversations) for _ in range(chance.randint(2, max(2, clients))))
    steps = []
    for _ in range(count):
        client, dice = chance.randrange(len(says)), chance.random()
        if dice < 0.70:
            size = chance.choice((1, 1, 2, 3, chance.randint(1, 20), 10_000))
            steps.append(Step(client, "send", size))
        elif dice < 0.76:
            steps.append(Step(client, "hold"))
        elif dice < 0.82:
            steps.append(Step(client, "read"))
        elif dice < 0.87:
            steps.append(Step(client, "end"))
        elif dice < 0.93:
            steps.append(Step(-1, "time", chance.choice((1, 10, 100, 1000, 60_000))))
        elif dice < 0.97:
            steps.append(Step(client, chance.choice(("reset", "close", "timeout"))))
        else:
            steps.append(Step(-1, "reload"))
    return Scenario(says, tuple(steps))


def _shrunk(player: _Player, scenario: Scenario) -> Scenario:
    """Leave out clients, then steps, as long as something is still wrong."""
    left = SHRINKS
    is_smaller = True
    while is_smaller and left > 0:
        is_smaller = False
        for smaller in _smaller(scenario):
            left -= 1
            if left <= 0:
                break
            if player.play(smaller)[1] is not None:
                scenario, is_smaller = smaller, True
                break
    return scenario


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    for client in range(len(scenario.says) if len(scenario.says) > 1 else 0):
        steps = [step for step in scenario.steps if step.client != client]
        moved = [Step(one.client - (one.client > client), one.verb, one.amount) for one in steps]
        yield Scenario(scenario.says[:client] + scenario.says[client + 1 :], tuple(moved))
    size = max(1, len(scenario.steps) // 2)
    while scenario.steps:
        for at in range(0, len(scenario.steps), size):
            yield Scenario(scenario.says, scenario.steps[:at] + scenario.steps[at + size :])
        if size == 1:
            return
        size //= 2


class _Player:
    """Plays scenarios, and knows what clients get that talk alone."""

    def __init__(self, spec: ServiceSpec, check: Callable[[bytes, bytes], object] | None) -> None:
        self._spec = spec
        self._check = check
        self._alone: dict[bytes, tuple[bytes, frozenset[str]]] = {}

    def play(self, scenario: Scenario) -> tuple[tuple[str, ...], str | None]:
        """Return the transcript, and what is wrong."""
        for says in scenario.says:
            if says not in self._alone:
                self._alone[says] = self._answer(says)
                if self._check is None and self._alone[says] != self._answer(says):
                    problem = "a client that talks alone gets another answer the second time: something is kept"
                    return (f"client says {says!r}",), problem
        run = _Run(self._spec, scenario, frozenset().union(*(self._alone[says][1] for says in scenario.says)))
        wrong = run.play()
        if wrong is None:
            judged = (self._judge(number, client) for number, client in enumerate(run.clients))
            wrong = next((one for one in judged if one), None)
        return tuple(run.transcript), wrong

    def _answer(self, says: bytes) -> tuple[bytes, frozenset[str]]:
        run = _Run(self._spec, Scenario((says,), (Step(0, "send", len(says) or 1),)), None)
        run.play()
        return bytes(run.clients[0].got), frozenset(run.raised)

    def _judge(self, number: int, client: _Client) -> str | None:
        got, expected = bytes(client.got), self._alone[client.says][0]
        if self._check is not None:
            is_right = not client.is_left_alone or self._check(client.says, got) is not False
            return None if is_right else f"client {number} got {got!r}, and the check says no"
        if client.is_left_alone and got != expected:
            hint = "; if clients of this service affect each other, pass check="
            return f"client {number} got {got!r}, alone {expected!r}{hint}"
        if not expected.startswith(got):
            return f"client {number} got {got!r}, which is not the beginning of {expected!r}"
        return None


class _Run:
    """One scenario on a stage of its own.

    Args:
        allowed: what the handler may raise; None: anything.

    Attributes:
        raised: what it has raised.
    """

    _stage: Stage

    def __init__(self, spec: ServiceSpec, scenario: Scenario, allowed: frozenset[str] | None) -> None:
        self._scenario = scenario
        self._allowed = allowed
        self._clock = _Clock()
        self._spec = spec
        self.clients = [_Client(says) for says in scenario.says]
        self.transcript: list[str] = []
        self.raised: set[str] = set()
        self._late: list[bytes] = []

    def play(self) -> str | None:
        """Play it; return what is wrong."""
        size = len(self.clients) + 1
        with RaisedErrors() as failures, warnings.catch_warnings(record=True) as warned, self._watched():
            warnings.simplefilter("always")
            stage = self._stage = Stage(self._spec, size, self._clock)
            try:
                for step in self._scenario.steps:
                    self._step(step)
                self._finish()
            except _Wrong as wrong:
                return str(wrong)
            finally:
                with suppress(Exception):
                    stage.close()
            self.raised = failures.raised
            return self._verdict(failures, [str(one.message) for one in warned])

    def _verdict(self, failures: RaisedErrors, warned: list[str]) -> str | None:
        if self._allowed is None:
            return None
        for problem in sorted(failures.raised - self._allowed - failures.losses):
            return f"the handler raised {problem}"
        for problem in warned:
            if "never awaited" in problem:
                return problem
        if self._late:
            return f"written behind the handler's own close: {self._late[0]!r}"
        return self._unfinished or None

    _unfinished = ""

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Note what is written to connections that the handler has closed."""
        late, write_checked = self._late, Connection.write_checked

        def watched(connection: Connection, data: bytes) -> None:
            if data and connection.is_closing() and connection.close_reason is CloseReason.CLOSED:
                late.append(bytes(data))
            write_checked(connection, data)

        Connection.write_checked = watched  # type: ignore[assignment,method-assign]  # while it runs
        try:
            yield
        finally:
            Connection.write_checked = write_checked  # type: ignore[method-assign]  # as it was

    # ---- steps

    def _note(self, *words: object) -> None:
        self.transcript.append(f"{self._clock.now - 1_000:9.3f} " + " ".join(map(str, words)))

    def _step(self, step: Step) -> None:
        if step.verb == "time":
            self._pass(step.amount / 1000)
        elif step.verb == "reload":
            self._note("reload")
            self._stage.reload()
        else:
            client = self.clients[step.client]
            if client.part is not ClientPart.TALKING:
                return
            if client.link is None:
                self._note(f"client {step.client} connects")
                client.link = self._stage.connect()
                self._run_until_idle()
            getattr(self, f"_{step.verb}")(step.client, client, client.link, step.amount)
        self._run_until_idle()

    def _send(self, number: int, client: _Client, link: Link, amount: int) -> None:
        piece = client.says[client.sent : client.sent + amount]
        if piece and not link.has_ended:
            self._note(f"client {number} sends {piece!r}")
            with suppress(BrokenPipeError, ConnectionResetError, BlockingIOError):
                client.sent += link.sock.send(piece)

    def _hold(self, number: int, client: _Client, _link: Link, _amount: int) -> None:
        self._note(f"client {number} stops reading")
        client.is_held = True

    def _read(self, _number: int, client: _Client, _link: Link, _amount: int) -> None:
        client.is_held = False

    def _end(self, number: int, client: _Client, link: Link, _amount: int) -> None:
        client.is_held = False
        for _ in range(MAX_TURNS):
            if client.sent >= len(client.says) or link.has_ended:
                break
            self._send(number, client, link, len(client.says))
            self._run_until_idle()
        if not link.has_ended:
            self._note(f"client {number} ends")
            with suppress(OSError):
                link.sock.shutdown(socket.SHUT_WR)
        client.part = PART.step(client.part, ClientPart.FINISHED)

    def _reset(self, number: int, client: _Client, link: Link, _amount: int) -> None:
        self._note(f"client {number} is reset")
        self._stage.connections.abort(link.id, CloseReason.RESET)
        client.disturb()

    def _close(self, number: int, client: _Client, link: Link, _amount: int) -> None:
        self._note(f"client {number} closes")
        link.sock.close()
        client.disturb()

    def _timeout(self, number: int, client: _Client, link: Link, _amount: int) -> None:
        self._note(f"client {number} is ended by idle_timeout")
        self._stage.connections.shut(link.id, CloseReason.IDLE_TIMEOUT)
        client.disturb()

    def _finish(self) -> None:
        """Let all finish, then all time pass that anybody waits for, then all be gone."""
        for number, client in enumerate(self.clients):
            if client.part is ClientPart.TALKING:
                self._step(Step(number, "end"))
        self._pass(LONGEST_SECONDS)
        for client in self.clients:
            if client.link is not None:
                client.link.sock.close()
        self._run_until_idle()
        self._pass(LONGEST_SECONDS)
        for client in self.clients:
            if client.link is not None and client.link.reason in BY_TIME:
                client.disturb()
        if self._stage.connections.groups.at_work:
            self._unfinished = "coroutines have not ended when all clients have gone"

    # ---- time

    def _run_until_idle(self) -> None:
        links = [one.link for one in self.clients if one.link is not None and not one.is_held]
        if not self._stage.run_until_idle(*links, max_turns=MAX_TURNS):
            raise _Wrong(f"the handler does not come to rest in {MAX_TURNS} turns")
        for number, client in enumerate(self.clients):
            link = client.link
            if link is not None and link.accepted:
                self._note(f"client {number} gets {bytes(link.accepted)!r}")
                client.got += link.accepted
                link.accepted.clear()

    def _pass(self, seconds: float) -> None:
        """Let time pass, from one moment at which something is due to the next."""
        end = self._clock.now + seconds
        for _ in range(MAX_WAKES):
            due = self._stage.loop.next_due
            if due is None or due > end:
                break
            self._clock.now = max(self._clock.now, due)
            self._run_until_idle()
        if seconds < LONGEST_SECONDS:
            self._clock.now = end


__all__ = ["Failure", "simulate"]
