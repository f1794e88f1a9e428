# SPDX-License-Identifier: MIT
"""Mutated input for the parsers of sockd.wire that see bytes of strangers: SOCKS and PROXY.

    python tests/fuzz/parsers.py [--runs N] [--seed N] [socks | proxy | datagram | name]...

Each run takes a good input, spoils it and asks three things: whole and cut anywhere come to the same, nothing
but the parser's own error is raised, and what is kept is bounded.  A failure prints the input and what is
needed to see it again; the same seed makes the same inputs.
"""

from __future__ import annotations

import argparse
import random
import socket
import sys
import time

from sockd.wire import proxy
from sockd.wire.socks_address import SocksError, literal, parse_datagram
from sockd.wire.socks_server import Greeting, Login, Method, Negotiation, SocksRequest, State

LONGEST = 1024  # bytes of an input
LONGEST_SOCKS_MESSAGE = 8 + 256 + 256  # the head of SOCKS 4, a user id and a name with their NULs
READING = (State.VERSION, State.REQUEST_4, State.GREETING, State.LOGIN, State.REQUEST_5)
REPORT_EVERY = 1_000_000

V4 = bytes.fromhex("0401 0050 c0000207") + b"user\0"
V4A = bytes.fromhex("0401 0050 00000001") + b"user\0example.org\0"
V4_BIND = bytes.fromhex("0402 0015 c0000207") + b"\0"
GREETINGS = (b"\5\1\0", b"\5\2\0\2", b"\5\1\2", b"\5\3\0\1\2", b"\5\0")
LOGIN = b"\1\5alice\6secret"
REQUESTS = (
    bytes.fromhex("05010001 c0000207 0050"),
    bytes.fromhex("05010003 0b") + b"example.org" + b"\0\x50",
    bytes.fromhex("05010003 09") + b"127.0.0.1" + b"\0\x50",
    bytes.fromhex("05020004") + bytes(15) + b"\1\0\x50",
    bytes.fromhex("05030003 01") + b"0" + b"\0\0",
)
SIGNATURE = proxy.V2_SIGNATURE
INET = bytes([192, 0, 2, 7, 10, 0, 0, 1, 0x9C, 0x40, 0, 25])
SEEDS = {
    "socks": (
        V4, V4A, V4_BIND,
        *(greeting + request for greeting in GREETINGS for request in REQUESTS),
        *(greeting + LOGIN + request + b"GET / HTTP/1.0\r\n\r\n" for greeting in GREETINGS for request in REQUESTS),
    ),
    "proxy": (
        b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 25\r\n",
        b"PROXY TCP6 2001:db8::7 ::ffff:10.0.0.1 40000 25\r\nhello",
        b"PROXY UNKNOWN\r\n",
        SIGNATURE + bytes.fromhex("2111000c") + INET,
        SIGNATURE + bytes.fromhex("21210024") + INET * 3,
        SIGNATURE + bytes.fromhex("213100d8") + b"/run/a".ljust(108, b"\0") * 2,
        SIGNATURE + bytes.fromhex("20000000"),
        SIGNATURE + bytes.fromhex("21110013") + INET + bytes.fromhex("03 0004 00000000"),
        SIGNATURE + bytes.fromhex("2111001f") + INET + bytes.fromhex("200010 01 00000000 210007") + b"TLSv1.3\4",
        SIGNATURE + bytes.fromhex("21110011") + INET + bytes.fromhex("01 0002") + b"h2",
        SIGNATURE + bytes.fromhex("2111001c") + INET + bytes.fromhex("20000d 00 00000000 200005 00 00000000"),
        SIGNATURE + bytes.fromhex("2100000c") + INET,
    ),
    "datagram": tuple(bytes(3) + request[3:] + b"payload" for request in REQUESTS),
    "name": (b"127.0.0.1", b"0x7f.1", b"017700000001", b"2130706433", b"1.2.3.4", b"0", b"1.2.65535"),
}  # fmt: skip
INTERESTING = bytes([0, 1, 2, 3, 4, 5, 0x20, 0x21, 0x7F, 0x80, 0xFE, 0xFF]) + b".:x[]% \r\n"
NAME_LETTERS = b"0123456789abcdefxX."


def spoil(data, chance, letters=None):
    """Change an input at one to four places."""
    out = bytearray(data)
    draw = chance.random
    for _ in range(1 + int(draw() * 4)):
        at = int(draw() * (len(out) + 1))
        kind = draw()
        byte = letters[int(draw() * len(letters))] if letters else int(draw() * 256)
        if kind < 0.35 and at < len(out):
            out[at] = byte
        elif kind < 0.55 and at < len(out):
            out[at] = INTERESTING[int(draw() * len(INTERESTING))] if letters is None else byte
        elif kind < 0.7:
            out.insert(at, byte)
        elif kind < 0.8:
            del out[at : at + 1 + int(draw() * 4)]
        elif kind < 0.87:
            del out[at:]
        elif kind < 0.93:
            out[at:at] = out[int(draw() * (len(out) + 1)) :]
        else:
            out[at:at] = bytes([byte]) * int(draw() * 300)
    return bytes(out[:LONGEST])


def pieces(data, chance):
    """Cut an input: byte by byte, or at one to three places."""
    if chance.random() < 0.1:
        return [data[at : at + 1] for at in range(len(data))]
    cuts = sorted(int(chance.random() * (len(data) + 1)) for _ in range(1 + int(chance.random() * 3)))
    return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def negotiate(parts):
    """Play the server: what was said and answered, how it ended, and what is left."""
    negotiation = Negotiation()
    said, early = [], b""
    for part in parts:
        if negotiation.state not in READING:
            early += part  # the service reads no more
            continue
        try:
            event = negotiation.feed(part)
            while event is not None:
                said.append(event)
                answer(negotiation, event)
                event = negotiation.feed(b"")
        except SocksError as error:
            return said, str(error), error.reply, b""
        if negotiation.state in READING:
            assert len(negotiation._buffer) < LONGEST_SOCKS_MESSAGE, "more is kept than a message has"
    return said, negotiation.state, negotiation.version, negotiation.pop_rest() + early


def answer(negotiation, event):
    if isinstance(event, Greeting):
        method = next((one for one in (Method.PASSWORD, Method.NONE) if one in event.methods), Method.NO_ACCEPTABLE)
        negotiation.choose(method)
    elif isinstance(event, Login):
        negotiation.logged_in(well=event.password != b"wrong")
    else:
        assert isinstance(event, SocksRequest)
        assert event.destination.host
        negotiation.reply(0)


def socks(data, chance):
    whole, cut = negotiate([data]), negotiate(pieces(data, chance))
    assert whole == cut, f"whole {whole}, cut {cut}"


def header_of(parts):
    """Parse what has come after each piece, as a server does, until it is settled."""
    data = b""
    for part in parts:
        data += part
        try:
            header = proxy.parse(data)
        except proxy.ProxyError:
            return "refused"
        if header is not None:
            assert header.size <= len(data), "longer than what has come"
            return header
    return None


def proxied(data, chance):
    whole, cut = header_of([data]), header_of(pieces(data, chance))
    assert whole == cut, f"whole {whole}, cut {cut}"


def datagram(data, chance):
    try:
        destination, payload = parse_datagram(data)
    except SocksError:
        return
    assert destination.host
    assert data.endswith(payload)


def name(data, chance):
    """What inet_aton(3) takes for an address is one, and the same one."""
    text = data.decode("latin-1")
    if len(text) > 40 or not set(data) <= set(NAME_LETTERS):
        return
    try:
        wanted = socket.inet_ntoa(socket.inet_aton(text))
    except OSError:
        wanted = None
    found = literal(text)
    assert (None if found is None else str(found)) == wanted, f"{found}, inet_aton {wanted}"


TARGETS = {"socks": socks, "proxy": proxied, "datagram": datagram, "name": name}


def fuzz(target, runs, seed):
    """Run one target; say how fast it went."""
    look, seeds, chance = TARGETS[target], SEEDS[target], random.Random(f"{target} {seed}")
    letters = NAME_LETTERS if target == "name" else None
    began = time.monotonic()
    for number in range(1, runs + 1):
        data = spoil(seeds[int(chance.random() * len(seeds))], chance, letters)
        try:
            look(data, chance)
        except Exception as error:
            print(
                f"{target}: run {number} of seed {seed}: {type(error).__name__}: {error}\n  {data!r}", file=sys.stderr
            )
            return False
        if number % REPORT_EVERY == 0:
            print(f"{target}: {number} runs, {number / (time.monotonic() - began):.0f}/s", flush=True)
    print(f"{target}: {runs} runs clean, seed {seed}", flush=True)
    return True


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all of them")
    parser.add_argument("--runs", type=int, default=100_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(words)
    targets = given.targets or list(TARGETS)
    shares = {"socks": 4, "proxy": 4, "datagram": 1, "name": 1}
    whole = sum(shares[target] for target in targets)
    well = [fuzz(target, given.runs * shares[target] // whole, given.seed) for target in targets]
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
