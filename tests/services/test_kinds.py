# SPDX-License-Identifier: MIT
"""Kinds of services: what a name in the configuration comes to, and that each kind is whole and documented."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from sockd.errors import HandlerError
from sockd.net.udp.source import SourcedAnswer
from sockd.services import kinds, resolve
from sockd.services.api import Protocol, Service
from sockd.services.families import ProgramKind, ProxyKind, TableKind, WaitKind
from sockd.services.handlers.datagrams import DatagramCodec
from sockd.services.kinds import KIND_BY_KEY, Kind
from sockd.settings import RelaySettings, SocksSettings
from sockd.settings.address import Address
from sockd.settings.service import KINDS, ServiceSettings
from sockd.settings.tcpmux import read_name
from sockd.wire.framing import Line, Netstring, Raw, Record

ROOT = Path(__file__).parents[2]
EVERY = get_args(Kind)
FAMILIES = (TableKind, ProgramKind, WaitKind, ProxyKind)


def upper(line):
    return line.upper()


def greet(line, connection):
    return line


async def async_upper(line):
    return line.upper()


async def async_greet(line, connection):
    return line


def all_upper(lines):
    return [line.upper() for line in lines]


async def session(reader, writer):
    pass


class Lines(Protocol):
    def line_received(self, line):
        pass


class Bytes(Protocol):
    def data_received(self, data):
        pass


def batch(**options):
    service = Service(**options)
    service.frames(all_upper)
    return service


def function(**options):
    service = Service(**options)
    service.frame(upper)
    return service


def of(found, **table):
    """A spec as of a [service.a] with this handler."""
    from sockd.services import loader

    return resolve._resolve_handler("a", ServiceSettings(**table), loader.as_service(found, "app:x"))


def named(**table):
    return resolve.resolve("a", {"a": ServiceSettings(**table)})


SPECS = {
    "function": (lambda: of(upper), kinds.FunctionKind, "function"),
    "function with its connection": (lambda: of(greet), kinds.FunctionKind, "function connection"),
    "async function": (lambda: of(async_upper), kinds.AsyncFunctionKind, "function"),
    "async function with its connection": (lambda: of(async_greet), kinds.AsyncFunctionKind, "function connection"),
    "batch": (lambda: of(batch()), kinds.BatchKind, "batch"),
    "protocol": (lambda: of(Lines), kinds.ProtocolKind, "protocol"),
    "coroutine": (lambda: of(session), kinds.CoroutineKind, "coroutine"),
    "blocking function": (lambda: of(upper, blocking=True), kinds.BlockingKind, "function blocking"),
    "blocking batch": (lambda: of(batch(blocking=True)), kinds.BlockingKind, "batch blocking"),
    "core": (lambda: resolve.resolve("upper", {}), kinds.BuiltinKind, "core"),
    "speaking": (lambda: named(builtin="qotd"), kinds.BuiltinKind, "protocol"),
    "metrics": (lambda: named(metrics=True), kinds.MetricsKind, "protocol"),
    "metrics by name": (lambda: named(builtin="metrics"), kinds.MetricsKind, "protocol"),
    "program": (lambda: named(exec=("/bin/cat",)), kinds.ExecKind, "program"),
    "program with the socket": (lambda: named(exec=("/bin/cat",), wait=True), kinds.WaitExecKind, "program wait"),
    "tcpmux": (
        lambda: resolve.resolve(
            "a", {"a": ServiceSettings(tcpmux=(read_name("b"),)), "b": ServiceSettings(exec=("/bin/cat",))}
        ),
        kinds.TcpmuxKind,
        "tcpmux",
    ),
    "relay": (lambda: named(relay=RelaySettings(to=(Address.parse("tcp://127.0.0.1:7"),))), kinds.RelayKind, "relay"),
    "socks": (lambda: named(socks=SocksSettings()), kinds.SocksKind, "socks"),
}
"""The words are those that other versions of sockd say: connections move by them."""


@pytest.mark.parametrize("name", SPECS)
def test_a_service_is_of_one_kind(name):
    make, kind, way = SPECS[name]
    spec = make()
    assert type(spec.kind) is kind
    assert spec.way == f"{way} {spec.framing!r}"
    assert len([family for family in FAMILIES if isinstance(spec.kind, family)]) == 1
    assert spec.kind == make().kind or name.startswith(("blocking", "batch"))  # frozen values are compared at a reload


def test_every_kind_is_tried_here():
    assert {kind for _, kind, _ in SPECS.values()} == set(EVERY)


def test_each_key_names_a_kind():
    assert {*KIND_BY_KEY, "handler"} == KINDS.keys()


@pytest.mark.parametrize("name", SPECS)
def test_datagrams_are_answered_by_those_that_say_so(name):
    spec = SPECS[name][0]()
    if not spec.kind.answers_datagrams or isinstance(spec.kind, WaitKind):  # whose program answers
        with pytest.raises(AssertionError, match="answers no datagrams"):
            spec.kind.datagram(DatagramCodec(spec.framing, by_line=False))
    elif name not in ("core", "speaking") and not isinstance(
        answer := spec.kind.datagram(DatagramCodec(spec.framing, by_line=False)), SourcedAnswer
    ):
        assert answer(b"abc\r\n") == b"ABC\r\n"
        assert spec.kind.datagram(DatagramCodec(Raw(), by_line=False))(b"abc\n") == b"ABC\n"
        assert spec.kind.datagram(DatagramCodec(Raw(), by_line=True))(b"a\nb\r\n") == b"A\nB\n"


def test_a_datagram_is_a_record_where_these_are_framed():
    spec = of(function(framing=Record("!H")))
    answer = kinds.FunctionKind(lambda values: (values[0] + 1,)).datagram(DatagramCodec(spec.framing, by_line=False))
    assert answer(b"\0\1") == b"\0\2"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (greet, "a blocking function gets only the frame"),
        (Lines, "a protocol class is called in the loop"),
        (session, "a coroutine is called in the loop"),
        (async_upper, "a coroutine is called in the loop"),
    ],
)
def test_what_cannot_block_is_named(found, words):
    with pytest.raises(HandlerError, match=words):
        of(found, blocking=True)


def test_a_coroutine_reads_lines_or_bytes():
    service = Service(framing=Netstring(10))
    service.session(session)
    with pytest.raises(HandlerError, match="not frames of Netstring"):
        of(service)


def test_framings_by_kind():
    assert isinstance(of(Bytes).framing, Raw)
    assert isinstance(of(Lines).framing, Line)
    assert all(isinstance(SPECS[name][0]().framing, Raw) for name in ("program", "relay", "socks"))


def test_how_many_may_be_served_at_once():
    assert named(exec=("/bin/cat",)).max_connections == 64
    assert named(exec=("/bin/cat",), max_instances=3).max_connections == 3
    assert named(exec=("/bin/cat",), wait=True).max_connections == 1
    assert (
        named(socks=SocksSettings()).max_connections,
        of(upper).max_connections,
        of(upper, max_connections=5).max_connections,
    ) == (4096, None, 5)


# ---- documented


def rows():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| `(\w+Kind)` \| `(\w+)` \| `(\w+)` \| ([^|]*) \|", text, re.MULTILINE)
    return {name: (key, family, set(ways.split(", "))) for name, key, family, ways in found}


@pytest.mark.skipif(not (ROOT / "docs").exists(), reason="the tests stand alone, without docs/")
def test_each_kind_has_its_row_in_the_documents():
    made = [make() for make, _, _ in SPECS.values()]
    expected = {}
    for kind in EVERY:
        ways = {one.kind.way.removesuffix(" connection") for one in made if type(one.kind) is kind}
        (family,) = (one.__name__ for one in FAMILIES if issubclass(kind, one))
        expected[kind.__name__] = (kind.key or "handler", family, ways)
    assert rows() == expected
