# SPDX-License-Identifier: MIT
# Seen failing with a pipeline that only closes the socket where a step raises, with places that are given back twice,
# and with a TlsStep that makes handshakes for who is gone.
"""The way from accept() to a service, without a socket: what each step decides, and what is held meanwhile."""

from __future__ import annotations

import socket
from collections import Counter
from ipaddress import ip_network

import pytest

from sockd.net.address.sockaddr import SocketAddress
from sockd.net.listen.admission import Admission
from sockd.net.listen.overload import Quota, Refusing
from sockd.net.listen.pipeline import AcceptedConnection, AcceptPipeline, Passage, Places
from sockd.net.listen.refusal import RefusalReason, Refusals
from sockd.net.listen.steps import AdmissionStep, HeaderStep, OwnerStep, RoomStep, TableStep, TlsStep
from sockd.net.loop.defects import Defects
from sockd.settings.listen import ListenSettings

PEER = SocketAddress(socket.AF_INET, "192.0.2.7", 1234)
CLIENT = SocketAddress(socket.AF_INET, "198.51.100.9", 4321)
LOCAL = SocketAddress(socket.AF_UNIX)


class FakeSocket:
    is_closed = False

    def close(self):
        self.is_closed = True


class Later:
    """A source of headers, of handshakes, or an owner: it waits until it is told how it went."""

    def __init__(self, *, wanted=True):
        self.wanted, self.done, self.received = wanted, None, []

    def expects(self, _peer):
        return self.wanted

    def receive(self, sock, peer, done):
        self.received.append((sock, peer))
        self.done = done

    start = give = receive


class Table:
    """The connection table, as far as a step knows it."""

    def __init__(self, *, size=8):
        self.rows, self.size, self.secured, self.tls = [], size, {}, self

    def add(self, sock, group, client, proxied):
        if len(self.rows) == self.size:
            return None
        self.rows.append((sock, group, client, proxied))
        return len(self.rows) - 1

    def secure(self, id, stream):
        self.secured[id] = stream


class Wire:
    def stream(self):
        return "stream"


class Raises:
    def __init__(self, error):
        self.error = error

    def run(self, _one, _way):
        raise self.error


class Says:
    def __init__(self, passage):
        self.passage = passage

    def run(self, _one, _way):
        return self.passage


class Loop:
    def __init__(self):
        self.clock = lambda: 1000.0
        self.defects = Defects(self.clock)


class Way:
    """A pipeline and all that it counts."""

    def __init__(self, *steps, most=2, **settings):
        self.loop = Loop()
        self.own, self.of_service = Quota(most), Quota(None)
        self.admission = Admission(ListenSettings(**settings), self.loop.clock)
        self.places = Places((self.of_service, self.own), self.admission)
        self.refused, self.lost, self.freed = [], [], 0
        self.pipeline = AcceptPipeline(
            steps,
            self.places,
            self.loop,
            refuse=self.refused.append,
            count=lambda one, reason: self.lost.append(reason),
            free=self.free,
            address="here",
        )

    def free(self):
        self.freed += 1

    def admitted(self, *steps):
        """Return a way whose first step is admission by its own rules."""
        self.pipeline._steps = (AdmissionStep(self.admission), *steps)
        return self

    def go(self, peer=PEER):
        one = AcceptedConnection(FakeSocket(), peer, peer)
        self.pipeline.advance(one)
        return one

    @property
    def open(self):
        assert self.own.count == self.of_service.count
        return self.own.count


# ---- the pipeline


def test_each_step_is_taken_once_and_in_order():
    seen = []

    class Step:
        def __init__(self, name):
            self.name = name

        def run(self, _one, _way):
            seen.append(self.name)
            return Passage.SERVED if self.name == "c" else Passage.NEXT

    Way(*map(Step, "abc")).go()
    assert seen == ["a", "b", "c"]


def test_what_a_step_raises_costs_its_connection_alone(caplog):
    way = Way(Raises(OSError(12, "no memory")))
    assert way.go().sock.is_closed
    assert "connection dropped" in caplog.messages
    assert (way.open, way.freed, way.loop.defects.count, way.lost) == (0, 1, 0, [RefusalReason.ERROR])


@pytest.mark.parametrize("error", [ValueError("a defect"), SystemExit(1), KeyboardInterrupt()])
def test_a_defect_of_a_step_is_counted_and_costs_its_connection_alone(error):
    way = Way(Raises(error))
    assert way.go().sock.is_closed
    assert (way.open, way.freed, way.loop.defects.count) == (0, 1, 1)


def test_a_place_is_given_back_once_however_often_a_connection_ends():
    way = Way(Says(Passage.WAIT), max_connections_per_source=1)
    one = way.go()
    way.places.hold(one)
    way.places.hold(one)
    assert way.open == 1
    for _ in range(3):
        way.pipeline.ended(one)
    assert (way.open, way.freed) == (0, 3)


def test_a_refused_connection_holds_nothing():
    way = Way(max_connections_per_source=1).admitted(Says(Passage.REFUSED))
    for _ in range(3):  # each would be one too many of its source if the one before counted
        one = way.go()
        assert (one.refusal, one.source) == (None, "")
    assert len(way.refused) == 3


def test_who_is_gone_is_closed_and_told_of(caplog):
    caplog.set_level("INFO")

    class Gone:
        def run(self, one, way):
            return way.gone(one)

    way = Way(Gone())
    assert way.go().sock.is_closed
    assert "client left before it was served" in caplog.messages
    assert (way.freed, way.lost) == (1, [RefusalReason.GONE])


# ---- the steps


def test_room_is_refused_where_there_is_none():
    way = Way(RoomStep(), HeaderStep(headers := Later()), most=1)
    way.go()
    assert way.go().refusal is RefusalReason.FULL
    assert len(headers.received) == 1  # nobody waits for the header of who is refused


def test_a_header_is_waited_for_with_a_place_and_names_the_client():
    way = Way(HeaderStep(headers := Later()), Says(Passage.SERVED))
    one = way.go()
    assert (way.open, headers.received) == (1, [(one.sock, PEER)])
    headers.done(CLIENT, "told")
    assert (one.client, one.proxied, way.open, one.step) == (CLIENT, "told", 1, 2)


def test_a_header_that_does_not_come_gives_the_place_back():
    way = Way(HeaderStep(headers := Later()), Raises(AssertionError("nobody goes on")))
    one = way.go()
    headers.done(None, None)
    assert (one.sock.is_closed, way.open, way.freed, way.lost) == (True, 0, 1, [RefusalReason.PROXY])


def test_who_is_no_proxy_goes_on_by_its_own_name():
    way = Way(HeaderStep(Later(wanted=False)), Says(Passage.SERVED))
    assert way.go().client is PEER
    assert way.open == 0


@pytest.mark.parametrize(
    ("settings", "refusal"),
    [
        ({"deny": (ip_network("192.0.2.0/24"),)}, RefusalReason.DENIED),
        ({"allow": (ip_network("10.0.0.0/8"),)}, RefusalReason.DENIED),
        ({"max_connections_per_source": 1}, RefusalReason.PER_SOURCE),
        ({}, None),
    ],
)
def test_admission_holds_the_rules_against_the_client(settings, refusal):
    way = Way(**settings).admitted(Says(Passage.SERVED))
    first, second = way.go(), way.go()
    assert second.refusal is refusal
    assert (second.source == "") == bool(refusal)
    assert first.source == ("" if refusal is RefusalReason.DENIED else PEER.host)


def test_a_client_without_an_address_is_judged_by_the_proxy_that_named_it():
    way = Way(deny=(ip_network("192.0.2.0/24"),))
    one = AcceptedConnection(FakeSocket(), PEER, LOCAL)
    assert AdmissionStep(way.admission).run(one, way.pipeline) is Passage.REFUSED


def test_a_handshake_is_waited_for_with_a_place():
    way = Way(TlsStep(handshakes := Later(), lambda _: False), Says(Passage.SERVED))
    one = way.go()
    sock = one.sock
    assert (way.open, handshakes.received) == (1, [(sock, PEER)])
    handshakes.done("wire")
    assert (one.sock, one.secured, one.step) == (sock, "wire", 2)


def test_a_handshake_that_fails_gives_the_place_back():
    way = Way(TlsStep(handshakes := Later(), lambda _: False), Raises(AssertionError("nobody goes on")))
    way.go()
    handshakes.done(None)
    assert (way.open, way.freed, way.lost) == (0, 1, [RefusalReason.TLS])


def test_no_handshake_is_made_with_who_is_gone():
    way = Way(TlsStep(handshakes := Later(), lambda _: True))
    assert way.go().sock.is_closed
    assert handshakes.received == []


def test_the_table_gets_what_is_known_of_a_connection():
    table, let_in, asked = Table(), [], []
    way = Way(max_connections_per_source=5)
    way.admitted(TableStep(table, 7, way.admission, lambda: let_in.append(1), asked.append))
    one = way.go()
    assert table.rows == [(one.sock, 7, PEER, None)]
    assert (let_in, asked, way.open) == ([1], [PEER.host], 1)
    way.admission.ended(0)  # it counts for its source until then
    assert way.go().refusal is None


def test_a_table_that_is_full_refuses():
    way = Way()
    way.admitted(TableStep(Table(size=0), 7, way.admission, lambda: pytest.fail("nobody is let in"), None))
    assert way.go().refusal is RefusalReason.DAEMON_FULL
    assert way.open == 0


def test_a_secured_connection_is_noted_as_one():
    way, table = Way(), Table()
    step = TableStep(table, 7, way.admission, lambda: None, None)
    one = AcceptedConnection(FakeSocket(), PEER, PEER, secured=Wire())
    assert step.run(one, way.pipeline) is Passage.SERVED
    assert table.secured == {0: "stream"}


def test_an_owner_has_a_place_until_it_says_that_it_is_done():
    owner, let_in = Later(), []
    way = Way(OwnerStep(owner, lambda: let_in.append(1), lambda _: AssertionError("it is not encrypted")))
    way.go()
    assert (way.open, let_in) == (1, [1])
    owner.done()
    assert (way.open, way.freed) == (0, 1)


# ---- refusing


class Rejected:
    def __init__(self):
        self.told = []

    def reject(self, sock, peer, banner):
        self.told.append((sock, peer, banner))


def test_refusals_are_counted_by_the_reason_and_told_as_the_settings_say():
    rejected, refused = Rejected(), Counter()
    refusing = Refusing(
        ListenSettings(banner="full", at_limit="close"),
        rejected,
        Refusals(refused, Counter(), "here", "upper", lambda _seconds, _then: None),
    )
    for why in (RefusalReason.DENIED, RefusalReason.DENIED, RefusalReason.FULL):
        one = AcceptedConnection(FakeSocket(), PEER, CLIENT, refusal=why)
        refusing.refuse(one)
    assert refused == {"denied": 2, "full": 1}
    assert rejected.told[-1] == (one.sock, CLIENT, b"full\n")
