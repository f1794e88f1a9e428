# SPDX-License-Identifier: MIT
"""PROXY headers, good and bad: whole, byte by byte, and every prefix of them.

The bytes are written out here, after the text of the protocol, and never made by sockd.wire.proxy.
Seen failing with TLVs cut by a function that calls itself, with the block of UNSPEC read as TLVs, with _check_sum() or
`len(data) < size` left out, and with `words[1] == b"UNKNOWN"` left out.
"""

from __future__ import annotations

import itertools
import random
import struct

import pytest
from effort import MOST_GROWTH, steps

from sockd.wire import proxy
from sockd.wire.proxy import ProxyError, crc32c, encode, parse

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
V4 = bytes([192, 0, 2, 7, 10, 0, 0, 1]) + struct.pack("!HH", 40000, 25)
V6 = bytes.fromhex("20010db8" + "00" * 11 + "07" + "20010db8" + "00" * 11 + "01") + struct.pack("!HH", 40000, 25)
MAPPED = bytes(10) + b"\xff\xff" + V4[:4] + bytes(10) + b"\xff\xff" + V4[4:8] + V4[8:]
UNIX = b"/run/a.sock".ljust(108, b"\0") + b"/run/b.sock".ljust(108, b"\0")
FROM4, TO4 = ("192.0.2.7", 40000), ("10.0.0.1", 25)
FROM6, TO6 = ("2001:db8::7", 40000), ("2001:db8::1", 25)


def v2(command, family, block=b"", *, length=None, signature=SIGNATURE):
    return signature + bytes([command, family]) + struct.pack("!H", len(block) if length is None else length) + block


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def nested(depth):
    """SSL TLVs, each within the one before."""
    block = b""
    for _ in range(depth):
        block = tlv(0x20, bytes(5) + block)
    return block


def with_sum(block, *, wrong=0):
    """A header whose last TLV is its CRC32C."""
    header = bytearray(v2(0x21, 0x11, block + tlv(3, bytes(4))))
    header[-4:] = struct.pack("!I", crc32c(bytes(header)) ^ wrong)
    return bytes(header)


SSL = tlv(0x20, b"\x05" + bytes(4) + tlv(0x21, b"TLSv1.3") + tlv(0x22, b"client.example"))

GOOD = {
    "tcp4": (b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 25\r\n", FROM4, TO4),
    "tcp6": (b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 25\r\n", FROM6, TO6),
    "tcp6 in full": (b"PROXY TCP6 2001:0db8:0:0:0:0:0:0007 2001:DB8::1 40000 25\r\n", FROM6, TO6),
    "tcp6 mapped": (
        b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:10.0.0.1 40000 25\r\n",
        ("::ffff:192.0.2.7", 40000),
        ("::ffff:10.0.0.1", 25),
    ),
    "ports at the ends": (
        b"PROXY TCP4 192.0.2.7 10.0.0.1 0 65535\r\n",
        ("192.0.2.7", 0),
        ("10.0.0.1", 65535),
    ),
    "highest addresses": (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        ("255.255.255.255", 65535),
        ("255.255.255.255", 65535),
    ),
    "unknown": (b"PROXY UNKNOWN\r\n", None, None),
    "unknown with words": (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None, None),
    "unknown, longest": (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", None, None),
    "v2 tcp4": (v2(0x21, 0x11, V4), FROM4, TO4),
    "v2 tcp6": (v2(0x21, 0x21, V6), FROM6, TO6),
    "v2 mapped": (v2(0x21, 0x21, MAPPED), ("::ffff:192.0.2.7", 40000), ("::ffff:10.0.0.1", 25)),
    "v2 unix": (v2(0x21, 0x31, UNIX), b"/run/a.sock", b"/run/b.sock"),
    "v2 unspec": (v2(0x21, 0x00), None, None),
    "v2 unspec with a block": (v2(0x21, 0x00, tlv(4, b"pad")), None, None),
    "v2 unspec with addresses": (v2(0x21, 0x00, V4), None, None),
    "v2 unspec with addresses of IPv6": (v2(0x21, 0x00, V6), None, None),
    "v2 unspec with bytes that are no tlv": (v2(0x21, 0x00, b"\x01"), None, None),
    "v2 unspec, longest": (v2(0x21, 0x00, b"\xff" * 0xFFFF), None, None),
    "v2 unspec with a sum that is wrong": (v2(0x21, 0x00, tlv(3, b"none")), None, None),
    "v2 unspec of tcp": (v2(0x21, 0x01, V4), None, None),
    "v2 unix, abstract": (v2(0x21, 0x31, b"\0a\0b".ljust(108, b"\0") + b"\0c".ljust(108, b"\0")), b"\0a\0b", b"\0c"),
    "v2 unix, unnamed": (v2(0x21, 0x31, bytes(108) + b"/run/b.sock".ljust(108, b"\0")), b"", b"/run/b.sock"),
    "v2 unix, longest": (v2(0x21, 0x31, b"/" * 108 + b"\0" + b"a" * 107), b"/" * 108, b"\0" + b"a" * 107),
    "v2 udp4": (v2(0x21, 0x12, V4), None, None),
    "v2 udp6": (v2(0x21, 0x22, V6), None, None),
    "v2 unspec of inet": (v2(0x21, 0x10, V4), None, None),
    "v2 local": (v2(0x20, 0x00), None, None),
    "v2 local with addresses": (v2(0x20, 0x11, V4), None, None),
    "v2 local of a family that is none": (v2(0x20, 0xF5, b"whatever"), None, None),
    "v2 local of a transport that is none": (v2(0x20, 0x1F, b""), None, None),
    "v2 local, too short for its family": (v2(0x20, 0x21, b"short"), None, None),
    "v2 local with bytes that are no tlv": (v2(0x20, 0x11, b"\x01"), None, None),
    "v2 alpn": (v2(0x21, 0x11, V4 + tlv(1, b"h2")), FROM4, TO4),
    "v2 authority": (v2(0x21, 0x21, V6 + tlv(2, b"example.org")), FROM6, TO6),
    "v2 no-ops": (v2(0x21, 0x11, V4 + tlv(4, b"") + tlv(4, b"x" * 300)), FROM4, TO4),
    "v2 unique id": (v2(0x21, 0x11, V4 + tlv(5, b"i" * 128)), FROM4, TO4),
    "v2 ssl": (v2(0x21, 0x11, V4 + SSL), FROM4, TO4),
    "v2 ssl of nothing": (v2(0x21, 0x11, V4 + tlv(0x20, bytes(5))), FROM4, TO4),
    "v2 two of ssl": (v2(0x21, 0x11, V4 + SSL + tlv(4, b"") + SSL), FROM4, TO4),
    "v2 as many as there may be": (v2(0x21, 0x11, V4 + tlv(4, b"") * 128), FROM4, TO4),
    "v2 a sum within ssl": (v2(0x21, 0x11, V4 + tlv(0x20, bytes(5) + tlv(3, b"x"))), FROM4, TO4),
    "v2 netns": (v2(0x21, 0x11, V4 + tlv(0x30, b"blue")), FROM4, TO4),
    "v2 of others": (v2(0x21, 0x11, V4 + tlv(0xEA, b"vpce-1") + tlv(0xE0, b"custom")), FROM4, TO4),
    "v2 with its sum": (with_sum(V4), FROM4, TO4),
    "v2 with its sum behind others": (with_sum(V4 + tlv(1, b"h2") + SSL), FROM4, TO4),
    "v2 longest": (v2(0x21, 0x11, V4 + tlv(4, b"x" * (0xFFFF - 15))), FROM4, TO4),
}  # fmt: skip

BAD = {
    "http": (b"GET / HTTP/1.1\r\n", 1),
    "tls": (bytes.fromhex("160301"), 1),
    "a line": (b"hello\r\n", 1),
    "a newline": (b"\n", 1),
    "lower case": (b"proxy TCP4 192.0.2.7 10.0.0.1 40000 25\r\n", 1),
    "nearly": (b"PROXZ TCP4 192.0.2.7 10.0.0.1 40000 25\r\n", 5),
    "no blank": (b"PROXYTCP4 192.0.2.7 10.0.0.1 40000 25\r\n", 6),
    "family": (b"PROXY TCP5 192.0.2.7 10.0.0.1 40000 25\r\n", None),
    "family in lower case": (b"PROXY tcp4 192.0.2.7 10.0.0.1 40000 25\r\n", None),
    "unknown, nearly": (b"PROXY UNKNOWNS\r\n", None),
    "nothing": (b"PROXY \r\n", None),
    "two blanks": (b"PROXY  TCP4 192.0.2.7 10.0.0.1 40000 25\r\n", None),
    "two blanks inside": (b"PROXY TCP4 192.0.2.7  10.0.0.1 40000 25\r\n", None),
    "blank at the end": (b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 25 \r\n", None),
    "tab": (b"PROXY TCP4\t192.0.2.7 10.0.0.1 40000 25\r\n", None),
    "no addresses": (b"PROXY TCP4\r\n", None),
    "no ports": (b"PROXY TCP4 192.0.2.7 10.0.0.1\r\n", None),
    "one port": (b"PROXY TCP4 192.0.2.7 10.0.0.1 40000\r\n", None),
    "a word more": (b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 25 x\r\n", None),
    "port too high": (b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 65536\r\n", None),
    "port far too high": (b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 99999999999\r\n", None),
    "port below zero": (b"PROXY TCP4 192.0.2.7 10.0.0.1 -1 25\r\n", None),
    "port with a plus": (b"PROXY TCP4 192.0.2.7 10.0.0.1 +1 25\r\n", None),
    "port with a zero": (b"PROXY TCP4 192.0.2.7 10.0.0.1 040 25\r\n", None),
    "port in letters": (b"PROXY TCP4 192.0.2.7 10.0.0.1 smtp 25\r\n", None),
    "port of another alphabet": ("PROXY TCP4 192.0.2.7 10.0.0.1 ٤٠ 25\r\n".encode(), None),
    "v6 as tcp4": (b"PROXY TCP4 2001:db8::7 2001:db8::1 40000 25\r\n", None),
    "v4 as tcp6": (b"PROXY TCP6 192.0.2.7 10.0.0.1 40000 25\r\n", None),
    "three parts": (b"PROXY TCP4 192.0.2 10.0.0.1 40000 25\r\n", None),
    "octal": (b"PROXY TCP4 192.0.2.07 10.0.0.1 40000 25\r\n", None),
    "hexadecimal": (b"PROXY TCP4 0xc0.0.2.7 10.0.0.1 40000 25\r\n", None),
    "a part too high": (b"PROXY TCP4 256.0.2.7 10.0.0.1 40000 25\r\n", None),
    "a name": (b"PROXY TCP4 localhost 10.0.0.1 40000 25\r\n", None),
    "a scope": (b"PROXY TCP6 fe80::7%1 2001:db8::1 40000 25\r\n", None),
    "a prefix": (b"PROXY TCP4 192.0.2.7/32 10.0.0.1 40000 25\r\n", None),
    "NUL": (b"PROXY TCP4 192.0.2.7\0 10.0.0.1 40000 25\r\n", None),
    "LF alone": (b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 25\n" + b"x" * 107, 107),
    "CR alone": (b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 25\r" + b"x" * 107, 107),
    "no end": (b"PROXY UNKNOWN " + b"x" * 200, 107),
    "a byte too long": (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", 107),
    "v2 signature": (v2(0x21, 0x11, V4, signature=SIGNATURE[:-1] + b"\r"), 12),
    "v2 version 1": (v2(0x11, 0x11, V4), 13),
    "v2 version 3": (v2(0x31, 0x11, V4), 13),
    "v2 command": (v2(0x22, 0x11, V4), 13),
    "v2 command 15": (v2(0x2F, 0x11, V4), 13),
    "v2 family 4": (v2(0x21, 0x41, V4), None),
    "v2 family 15": (v2(0x21, 0xF1, V4), None),
    "v2 transport 3": (v2(0x21, 0x13, V4), None),
    "v2 too short for tcp4": (v2(0x21, 0x11, V4[:11]), None),
    "v2 without addresses": (v2(0x21, 0x11), None),
    "v2 too short for tcp6": (v2(0x21, 0x21, V4), None),
    "v2 too short for unix": (v2(0x21, 0x31, UNIX[:215]), None),
    "v2 tlv of one byte": (v2(0x21, 0x11, V4 + b"\x04"), None),
    "v2 tlv of two bytes": (v2(0x21, 0x11, V4 + b"\x04\x00"), None),
    "v2 tlv too long": (v2(0x21, 0x11, V4 + b"\x04\x00\x05abcd"), None),
    "v2 tlv past the end": (v2(0x21, 0x11, V4 + b"\x04\xff\xff"), None),
    "v2 unique id": (v2(0x21, 0x11, V4 + tlv(5, b"i" * 129)), None),
    "v2 ssl too short": (v2(0x21, 0x11, V4 + tlv(0x20, b"\x01\0\0\0")), None),
    "v2 tlv in ssl too long": (v2(0x21, 0x11, V4 + tlv(0x20, bytes(5) + b"\x21\x00\x09v")), None),
    "v2 tlv of two bytes in ssl": (v2(0x21, 0x11, V4 + tlv(0x20, bytes(5) + b"\x21\0")), None),
    "v2 ssl in ssl": (v2(0x21, 0x11, V4 + nested(2)), None),
    "v2 ssl in ssl, behind others": (v2(0x21, 0x11, V4 + tlv(0x20, bytes(5) + tlv(4, b"") + nested(1))), None),
    "v2 ssl in ssl, a thousand": (v2(0x21, 0x11, V4 + nested(1000)), None),
    "v2 ssl in ssl, as deep as it goes": (v2(0x21, 0x11, V4 + nested(8100)), None),
    "v2 one too many": (v2(0x21, 0x11, V4 + tlv(4, b"") * 129), None),
    "v2 one too many in ssl": (v2(0x21, 0x11, V4 + tlv(0x20, bytes(5) + tlv(4, b"") * 128)), None),
    "v2 two sums": (with_sum(V4 + tlv(3, bytes(4))), None),
    "v2 unspec of transport 3": (v2(0x21, 0x03), None),
    "v2 sum": (with_sum(V4, wrong=1), None),
    "v2 sum behind others": (with_sum(V4 + SSL, wrong=1 << 31), None),
    "v2 sum of two bytes": (v2(0x21, 0x11, V4 + tlv(3, b"ab")), None),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize(
    "rest", [b"", b"x", b"PROXY TCP4 ", b"\r\n", bytes(100)], ids=["alone", "x", "again", "crlf", "nul"]
)
def test_good(name, rest):
    data, source, destination = GOOD[name]
    header = parse(data + rest)
    assert header is not None
    assert (header.size, header.source, header.destination) == (len(data), source, destination)
    assert header.version == (1 if data[:1] == b"P" else 2)
    assert header.local == name.startswith("v2 local")


@pytest.mark.parametrize("name", GOOD)
def test_every_prefix_of_a_good_one_needs_more(name):
    data = GOOD[name][0]
    ends = range(len(data)) if len(data) < 1000 else [*range(200), *range(len(data) - 20, len(data))]
    assert [parse(data[:end]) for end in ends] == [None] * len(ends)


@pytest.mark.parametrize("name", BAD)
def test_bad(name):
    data, earliest = BAD[name]
    with pytest.raises(ProxyError):
        parse(data)
    with pytest.raises(ProxyError):
        parse(data + b"more")
    found = next(end for end in range(len(data) + 1) if _is_bad(data[:end]))
    assert found == (earliest or found)
    assert all(_is_bad(data[:end]) for end in range(found, len(data) + 1))


def _is_bad(data):
    try:
        parse(data)
    except ProxyError:
        return True
    return False


def test_there_are_enough():
    assert len(GOOD) + len(BAD) >= 60


def test_what_a_proxy_tells_beside():
    header = parse(GOOD["v2 ssl"][0])
    assert header.tlv(proxy.SSL_CN) == b"client.example"
    assert header.tlv(proxy.ALPN) is None
    assert parse(GOOD["v2 of others"][0]).tlvs == ((0xEA, b"vpce-1"), (0xE0, b"custom"))


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (nested(1000), "the SSL TLV at 36 is inside another"),
        (tlv(4, b"") * 200, "more than 128 TLVs, the next one at 412"),
        (tlv(3, bytes(4)) * 2, "the CRC32C at 35 is the second one, or not of 4 bytes"),
    ],
    ids=["depth", "number", "sums"],
)
def test_a_bound_is_named(block, why):
    with pytest.raises(ProxyError) as raised:
        parse(v2(0x21, 0x11, V4 + block))
    assert str(raised.value) == why


@pytest.mark.parametrize(
    "make",
    [
        lambda n: nested(n // 8),
        lambda n: tlv(4, b"") * (n // 3),
        lambda n: tlv(4, bytes(n)),
        lambda n: tlv(3, bytes(4)) * (n // 7),
        lambda n: tlv(0x20, bytes(5) + tlv(4, bytes(250)) * (n // 253)),
        lambda n: tlv(3, bytes(4)) + tlv(4, bytes(n)),
    ],
    ids=["nested", "many", "long", "sums", "within ssl", "a sum of much"],
)
def test_twice_the_header_is_no_more_than_twice_the_work(make):
    counts = [steps(parse, v2(0x21, 0x11, V4 + make(size))) for size in (2000, 4000, 8000, 16000, 32000)]
    assert all(more <= MOST_GROWTH * fewer for fewer, more in itertools.pairwise(counts)), counts


@pytest.mark.parametrize(
    ("data", "sum"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
    ],
)
def test_crc32c(data, sum):
    """The examples of RFC 3720, B.4, and the check value of the polynomial."""
    assert crc32c(data) == sum


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("source", "destination", "said"),
    [
        (FROM4, TO4, (FROM4, TO4)),
        (FROM6, TO6, (FROM6, TO6)),
        (FROM4, TO6, (("::ffff:192.0.2.7", 40000), TO6)),
        (("fe80::1%eth0", 1), TO6, (("fe80::1", 1), TO6)),
        (None, None, (None, None)),
        (b"/run/a", b"/run/b", (None, None)),
    ],
)
def test_what_is_encoded_is_read(version, source, destination, said):
    data = encode(version, source, destination)
    header = parse(data)
    assert (header.size, header.version, header.source, header.destination) == (len(data), version, *said)


def test_what_is_encoded_is_as_the_protocol_writes_it():
    assert encode(1, FROM4, TO4) == GOOD["tcp4"][0]
    assert encode(1, FROM6, TO6) == GOOD["tcp6"][0]
    assert encode(2, FROM4, TO4) == GOOD["v2 tcp4"][0]
    assert encode(2, FROM6, TO6) == GOOD["v2 tcp6"][0]


def test_bytes_at_random_raise_nothing_else():
    """A small share of `make fuzz`: headers with bytes changed, cut and doubled."""
    dice = random.Random(7)
    seeds = [data for data, *_ in (*GOOD.values(), *BAD.values()) if len(data) < 1000]
    for _ in range(20_000):
        proxy_fuzz(dice, seeds)


def proxy_fuzz(dice, seeds):
    """Change a header, read it whole and in pieces: both say the same, and nothing past the header counts."""
    data = bytearray(dice.choice(seeds))
    for _ in range(dice.randrange(4)):
        at = dice.randrange(len(data) + 1)
        how = dice.randrange(3)
        if how == 0 and at < len(data):
            data[at] = dice.randrange(256)
        elif how == 1:
            del data[at : at + dice.randrange(4)]
        else:
            data[at:at] = dice.choice(seeds)[: dice.randrange(20)]
    data = bytes(data)
    whole = outcome(data)
    if isinstance(whole, int):
        assert 0 < whole <= len(data)
        assert outcome(data[:whole]) == whole
        assert outcome(data[: whole - 1]) is None
    elif whole is None:
        assert len(data) < proxy.MAX_BYTES
    cut = dice.randrange(len(data) + 1)
    early = outcome(data[:cut])
    assert early in (None, whole)


def outcome(data):
    """Size of the header, None for more, "bad"."""
    try:
        header = parse(data)
    except ProxyError:
        return "bad"
    return None if header is None else header.size
