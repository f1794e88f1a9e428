# SPDX-License-Identifier: MIT
"""How the time of each parser of strangers' bytes grows: inputs that double, up to its limit, take twice as long.

Seen to fail with a pass over the rest of the input for each of its bytes, in the parsers of HTTP and PROXY headers; and
with one over all notes, or over the rest of an error, for each of them in an answer of the control socket.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import itertools
import json
import sys
import time

import pytest

from sockd.buffer import BufferFull, FrameError, ReceiveBuffer
from sockd.config.load import loads
from sockd.config.toml import parse as parse_toml
from sockd.errors import ConfigurationError
from sockd.net.tls.context import MAX_NAMES, best_match, certificate_names, lower
from sockd.wire import control, http, proxy, socks_address, socks_client, socks_server
from sockd.wire.control import ControlError, read_answer, read_question, read_trusted
from sockd.wire.framing import (
    BlankLine,
    Delimiter,
    DotBlock,
    Fixed,
    Line,
    Netstring,
    Nul,
    OctetCount,
    Prefix,
    StrictLine,
    Varint,
)
from sockd.wire.socks_address import SocksError, literal, parse_datagram
from sockd.wire.socks_client import SocksClient, SocksRefusal
from sockd.wire.socks_server import Negotiation

MOST = 2.2
FLOOR_S = 0.001
"""Less is noise: clocks, caches, a turn of the collector."""
TRIES, BEST_OF = 5, 5
MIB = 1 << 20
REFUSALS = (BufferFull, ControlError, FrameError, SocksError, SocksRefusal, ConfigurationError)
REFUSALS += (http.RequestError, proxy.ProxyError)


def seconds(function, argument):
    """The least CPU time of several calls; what is refused is refused in that time."""
    best = float("inf")
    gc.disable()  # a turn of the collector looks at all that there is, whoever made it
    try:
        for _ in range(BEST_OF):
            begun = time.thread_time()
            with contextlib.suppress(REFUSALS):
                function(argument)
            best = min(best, time.thread_time() - begun)
    finally:
        gc.enable()
    return best


def growth(function, make, sizes):
    """Rows of (size, seconds, growth since the size before); None where it is too little to tell."""
    rows, before = [], None
    for size in sizes:
        took = seconds(function, make(size))
        grown = took / before if before and before >= FLOOR_S else None
        rows.append((size, took, grown))
        before = took
    return rows


def doubling(first, last):
    sizes = [first]
    while sizes[-1] * 2 <= last:
        sizes.append(sizes[-1] * 2)
    return sizes


# ---- what reads, and what it is given


def framed(framing, piece=None):
    def read(data):
        buffer = ReceiveBuffer(framing, max_bytes=8 * MIB)
        for at in range(0, len(data), piece or len(data) or 1):
            buffer.feed(data[at : at + (piece or len(data))])
            for _ in buffer:
                pass

    return read


def head(lines):
    return b"GET / HTTP/1.1\nHost: a\n" + b"".join(line + b"\n" for line in lines)


def v2(block):
    return proxy.V2_SIGNATURE + b"\x21\x11" + len(block).to_bytes(2, "big") + block


def tlv(kind, value):
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


def nested(depth):
    block = b""
    for _ in range(depth):
        block = tlv(proxy.SSL, bytes(5) + block)
    return v2(bytes(12) + block)


def byte_by_byte(data):
    """As ProxyHeaders receives one."""
    accepted, least = bytearray(), 0
    for at in range(len(data)):
        accepted += data[at : at + 1]
        if len(accepted) >= least:
            if proxy.parse(bytes(accepted)) is not None:
                return
            least = proxy.least(bytes(accepted))


def negotiate(data):
    one = Negotiation()
    for at in range(len(data)):
        one.feed(data[at : at + 1])


def be_proxied(data):
    """As a client of a SOCKS server."""
    client = SocksClient("example.org", 80, user="u", password="p")
    client.begin()
    for at in range(len(data)):
        client.feed(data[at : at + 1])


def names(certificate):
    found = certificate_names(certificate)[:MAX_NAMES]
    wanted = {lower(name) for name in found[: MAX_NAMES // 2]}
    for name in found:
        best_match(name, wanted)


def certificate(count):
    alternative = tuple(("DNS", f"{'a.' * 60}{number}.example.org") for number in range(count))
    return {"subjectAltName": alternative, "subject": ((("commonName", "x" * 64),),)}


def text_of(function):
    return lambda text: function(text, name="sockd.toml")


LINE, FIELDS = http.LINE_BYTES, http.FIELDS
LISTEN = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\n'
FIELD = b"x-name: " + b"v" * 100
CASES = {
    # PROXY: 64 KiB at most (section 2.2), 128 TLVs
    "proxy v1: a line": (proxy.parse, lambda n: b"PROXY UNKNOWN " + b"x" * n, doubling(8, 128)),
    "proxy v2: a large TLV": (proxy.parse, lambda n: v2(bytes(12) + tlv(4, bytes(n))), doubling(512, 32768)),
    "proxy v2: empty TLVs": (proxy.parse, lambda n: v2(bytes(12) + tlv(4, b"") * n), doubling(16, 16384)),
    "proxy v2: nested TLVs": (proxy.parse, nested, doubling(16, 4096)),
    "proxy v2: a sum": (
        proxy.parse,
        lambda n: v2(bytes(12) + tlv(3, bytes(4)) + tlv(4, bytes(n))),
        doubling(512, 32768),
    ),
    "proxy v2: byte by byte": (byte_by_byte, lambda n: v2(bytes(12) + tlv(4, bytes(n))), doubling(512, 32768)),
    # HTTP: 8 KiB a line, 100 fields
    "http: a request line": (
        http.parse,
        lambda n: b"GET /" + b"a" * n + b" HTTP/1.1\nHost: a\n",
        doubling(256, 4 * LINE),
    ),
    "http: blanks in a request line": (
        http.parse,
        lambda n: b"GET " + b" " * n + b" HTTP/1.1\n",
        doubling(256, 4 * LINE),
    ),
    "http: a field": (http.parse, lambda n: head([b"x: " + b"v" * n]), doubling(256, 4 * LINE)),
    "http: blanks in a field": (
        http.parse,
        lambda n: head([b"x:" + b" " * n + b"v" + b"\t" * n]),
        doubling(256, 4 * LINE),
    ),
    "http: blanks before a colon": (http.parse, lambda n: head([b"x" + b" " * n + b": v"]), doubling(256, 4 * LINE)),
    "http: fields": (http.parse, lambda n: head([FIELD] * n), doubling(4, 8 * FIELDS)),
    "http: a host": (
        http.parse,
        lambda n: b"GET http://" + b"a." * n + b":1/ HTTP/1.1\nHost: a\n",
        doubling(256, LINE),
    ),
    "http: words": (
        lambda data: http.parse(data).words("connection"),
        lambda n: head([b"connection:" + b"," * n]),
        doubling(256, LINE // 2),
    ),
    # SOCKS: a few hundred bytes
    "socks 4a: a user and a name": (
        negotiate,
        lambda n: b"\4\1\0\1\0\0\0\1" + b"u" * n + b"\0" + b"n" * n,
        doubling(16, 256),
    ),
    "socks 5: methods": (negotiate, lambda n: b"\5" + bytes([min(n, 255)]) + bytes(min(n, 255)), doubling(16, 256)),
    "socks: a number for an address": (literal, lambda n: "0" * n + "1", doubling(16, 4096)),
    "socks 5: a datagram": (
        parse_datagram,
        lambda n: b"\0\0\0\3" + bytes([min(n, 255)]) + b"n" * n + b"\0\x50" + bytes(n),
        doubling(16, 32768),
    ),
    "socks 5: a server's reply": (
        be_proxied,
        lambda n: b"\5\2\1\0\5\0\0\3" + bytes([min(n, 255)]) + b"n" * min(n, 255) + b"\0\x50",
        doubling(16, 256),
    ),
    # control: 20 MiB of a plan; here up to 4, and of objects what the caches of a processor hold
    "control: a text": (
        read_question,
        lambda n: json.dumps({"verb": "plan", "text": "x" * n}).encode(),
        doubling(4096, 4 * MIB),
    ),
    "control: escapes": (read_question, lambda n: b'{"verb": "' + rb"\u0061" * n + b'"}', doubling(4096, MIB)),
    "control: words": (
        read_question,
        lambda n: json.dumps({"verb": "plan"} | {f"w{i}": i for i in range(n)}).encode(),
        doubling(512, 16384),
    ),
    "control: depth": (read_question, lambda n: b"[" * n, doubling(64, MIB)),
    "control: objects in objects": (read_question, lambda n: b'{"a":' * n, doubling(64, MIB)),
    "control: a number": (read_question, lambda n: b'{"verb": ' + b"1" * n + b"}", doubling(64, MIB)),
    "control: an answer": (
        read_answer,
        lambda n: b'{"ok": true, "result": [' + b"[]," * n + b"1]}",
        doubling(1024, 32768),
    ),
    "control: a text for an answer": (
        read_answer,
        lambda n: b'{"ok": true, "result": "' + rb"\u0061" * n + b'"}',
        doubling(4096, MIB),
    ),
    "control: notes of an answer": (
        read_answer,
        lambda n: b'{"ok": true, "result": 1, "notes": [' + b'"x",' * n + b'"x"]}',
        doubling(1024, 32768),
    ),
    "control: an error for an answer": (
        read_answer,
        lambda n: b'{"ok": false, "exit": 69, "error": "' + b"x" * n + b'"}',
        doubling(4096, 4 * MIB),
    ),
    "control: an answer that was cut": (
        read_answer,
        lambda n: b'{"ok": true, "result": [' + b"[]," * n,
        doubling(1024, 32768),
    ),
    "control: among processes": (
        lambda line: read_trusted(line, ("count",)),
        lambda n: json.dumps({"verb": "count", "of": ["x"] * n}).encode(),
        doubling(1024, 32768),
    ),
    # certificates: 1,000 names
    "certificate: names": (names, certificate, doubling(64, 32768)),
    # configurations: 16 MiB; here up to 1/4
    "toml: dotted keys": (text_of(parse_toml), lambda n: ".".join(["a"] * n) + " = 1\n", doubling(8, 65536)),
    "toml: many dotted keys": (
        text_of(parse_toml),
        lambda n: "".join(f"{'a.' * 20}k{i} = 1\n" for i in range(n)),
        doubling(64, 2048),
    ),
    "toml: tables": (
        text_of(parse_toml),
        lambda n: "".join(f"[a.b.t{i}]\nx = 1\n" for i in range(n)),
        doubling(64, 4096),
    ),
    "toml: arrays in arrays": (text_of(parse_toml), lambda n: "a = " + "[" * n, doubling(8, 65536)),
    "toml: a long text": (text_of(parse_toml), lambda n: 'a = "' + "x" * n + '"\n', doubling(4096, MIB)),
    "toml: quotes": (text_of(parse_toml), lambda n: "a = '''" + "\n'" * n + "'''\n", doubling(4096, MIB)),
    "toml: listeners": (lambda text: loads(text, name="x"), lambda n: LISTEN * n, doubling(32, 2048)),
    "toml: mistakes": (lambda text: loads(text, name="x"), lambda n: LISTEN + "wrong = 1\n" * n, doubling(32, 8192)),
}
BODY = {
    "line": (Line(MIB), lambda n: b"\n" * n),
    "line, one": (Line(4 * MIB), lambda n: b"x" * n),
    "strict line": (StrictLine(4 * MIB), lambda n: b"\r" * n),
    "delimiter": (Delimiter(4 * MIB, b"aaaaaaab"), lambda n: b"a" * n),
    "nul": (Nul(4 * MIB), lambda n: b"\0" * n),
    "netstring": (Netstring(4 * MIB), lambda n: b"0:," * (n // 3)),
    "netstring, digits": (Netstring(4 * MIB), lambda n: b"9" * n),
    "prefix": (Prefix(4 * MIB, 2), lambda n: b"\0\0" * (n // 2)),
    "varint": (Varint(4 * MIB), lambda n: b"\0" * n),
    "octet count": (OctetCount(4 * MIB), lambda n: b"1 x" * (n // 3)),
    "fixed": (Fixed(1), lambda n: b"x" * n),
    "dot block": (DotBlock(4 * MIB), lambda n: b"..\r\n" * (n // 4)),
    "dot blocks": (DotBlock(4 * MIB), lambda n: b".\r\n" * (n // 3)),
    "blank line": (BlankLine(4 * MIB), lambda n: b"x\n" * (n // 2)),
    "blank lines": (BlankLine(4 * MIB), lambda n: b"\n" * n),
}
for name, (framing, make) in BODY.items():
    CASES[f"framing {name}"] = (framed(framing), make, doubling(32768, MIB // 2))
    CASES[f"framing {name}, in pieces"] = (framed(framing, 61), make, doubling(16384, MIB // 4))


@pytest.fixture
def multiplexer():
    return "any"


def test_every_parser_grows_with_its_input_and_no_faster(figure):
    wrong = []
    for name, (function, make, sizes) in CASES.items():
        worst = 0.0
        for _ in range(TRIES):  # others use this machine as well
            rows = growth(function, make, sizes)
            worst = max((grown for *_, grown in rows if grown is not None), default=0.0)
            if worst <= MOST:
                break
        size, took, _ = rows[-1]
        told = f"{worst:.2f}" if worst else "below 1 ms"
        figure(f"{name:36}", f"{told:>10} a doubling; {size:>8} in {took * 1000:8.2f} ms")
        if worst > MOST:
            wrong.append(
                (name, [(size, f"{took * 1000:.2f} ms", grown and round(grown, 2)) for size, took, grown in rows])
            )
    assert wrong == []


PARSERS = ("read", "parse", "least", "feed")
"""How functions are named that a peer's bytes are given to."""


def parsers():
    """Names and code of all of them under sockd.wire."""
    for module in (control, http, proxy, socks_address, socks_client, socks_server):
        places = [module, *(one for one in vars(module).values() if inspect.isclass(one))]
        for place in places:
            for name, one in vars(place).items():
                if inspect.isfunction(one) and one.__module__ == module.__name__ and name.startswith(PARSERS):
                    yield f"{module.__name__}.{one.__qualname__}", one.__code__


def test_each_parser_has_a_case():
    """Seen to fail for datagrams of SOCKS, its client, and what processes of a daemon say to one another."""
    called = set()

    def note(frame, event, _):
        if event == "call":
            called.add(frame.f_code)

    before = sys.getprofile()
    for function, make, sizes in CASES.values():
        argument = make(sizes[-1 if sizes[-1] <= 4096 else 0])
        sys.setprofile(note)
        try:
            with contextlib.suppress(REFUSALS):
                function(argument)
        finally:
            sys.setprofile(before)
    known = dict(parsers())
    assert len(known) > 8
    assert {name for name, code in known.items() if code not in called} == set()


def test_the_cases_are_those_that_there_are():
    """A framing without a case would be missed."""
    kinds = {type(framing) for framing, _ in BODY.values()}
    from sockd.wire import framing as module

    known = {one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__}
    left_out = {"_Bounded", "Raw", "Datagram", "Packet", "Record"}  # nothing is looked for; Record is Fixed
    assert {one.__name__ for one in known - kinds} <= left_out | {"Framing"}
    assert len(list(itertools.chain(CASES))) == len(CASES)
