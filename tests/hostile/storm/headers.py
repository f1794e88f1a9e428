# SPDX-License-Identifier: MIT
"""PROXY headers, SOCKS messages, HTTP requests and control questions: right ones, and every way to have them wrong."""

from __future__ import annotations

import json
import socket
import struct

from sockd.wire.proxy import crc32c

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
UNSPEC, INET, INET6, UNIX = range(4)
ADDRESSES = {UNSPEC: 0, INET: 12, INET6: 36, UNIX: 216}

# ---- PROXY protocol


def v2(kind: int, block: bytes, *, command: int = 0x21, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, kind, min(len(block) if length is None else length, 0xFFFF)) + block


def block_of(family: int, source, destination) -> bytes:
    """Return the addresses of a header; a source is (host, port), or bytes of a path."""
    if family == UNIX:
        return source[:108].ljust(108, b"\0") + destination[:108].ljust(108, b"\0")
    number = socket.AF_INET if family == INET else socket.AF_INET6
    ends = socket.inet_pton(number, source[0]) + socket.inet_pton(number, destination[0])
    return ends + struct.pack("!HH", source[1], destination[1])


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def nested(depth: int) -> bytes:
    """SSL TLVs, each within the one before."""
    value = b""
    for _ in range(depth):
        value = tlv(0x20, b"\1\0\0\0\0" + value)
    return value


def checked(header: bytes) -> bytes:
    """Append a right CRC32C (section 2.2.3)."""
    length = struct.unpack_from("!H", header, 14)[0] + 7
    whole = header[:14] + struct.pack("!H", length) + header[16:] + tlv(3, bytes(4))
    return whole[:-4] + struct.pack("!I", crc32c(whole))


def honest_headers(number: int, net4: str = "192.0.2", net6: str = "2001:db8:") -> list[bytes]:
    """Headers that every server has to take, from clients of our own numbering in networks for documents (RFC 5737)."""
    v4 = (f"{net4}.{number % 250 + 1}", 1024 + number % 60_000)
    v6 = (f"{net6}:{number % 9999:x}", v4[1])
    to4, to6 = ("192.0.2.254", 80), ("2001:db8::ffff", 80)
    return [
        f"PROXY TCP4 {v4[0]} {to4[0]} {v4[1]} 80\r\n".encode(),
        f"PROXY TCP6 {v6[0]} {to6[0]} {v6[1]} 80\r\n".encode(),
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN 1 2 3 anything\r\n",
        v2(0x11, block_of(INET, v4, to4)),
        v2(0x21, block_of(INET6, v6, to6)),
        v2(0x31, block_of(UNIX, b"/run/client%d" % number, b"/run/server")),
        v2(0x31, block_of(UNIX, b"c" * 108, b"s" * 108)),
        v2(0x31, block_of(UNIX, b"\0client%d" % number, b"\0server")),
        v2(0x31, block_of(UNIX, b"", b"")),
        v2(0x00, b""),
        v2(0x00, bytes(12)),
        v2(0x01, b"anything at all"),
        v2(0x00, b"", command=0x20),
        v2(0x11, block_of(INET, v4, to4), command=0x20),
        checked(v2(0x11, block_of(INET, v4, to4))),
        v2(0x11, block_of(INET, v4, to4) + tlv(4, bytes(50)) + nested(1) + tlv(2, b"localhost")),
        v2(0x12, block_of(INET, v4, to4)),
    ]


def right_header(chance) -> bytes:
    """Return a right one of a hostile client, whose networks are others than those of honest ones."""
    return chance.choice(honest_headers(chance.randrange(10_000), "198.51.100", "2001:db8:66:"))


def odd_header(chance, made: int) -> bytes:
    """Return a header at random, right or wrong; `made` asks a handler to raise that in connection_made."""
    if chance.random() < 0.25:
        return _odd_v1(chance, made)
    family = chance.choice((UNSPEC, INET, INET6, UNIX, UNIX, UNIX))
    kind = family << 4 | chance.choice((0, 1, 1, 1, 1, 2))
    if chance.random() < 0.05:
        kind = chance.randrange(256)
    block = _odd_block(chance, family, made)
    for _ in range(chance.choice((0, 0, 0, 1, 1, 2, 5))):
        block += _odd_tlv(chance)
    if chance.random() < 0.05:
        block += nested(chance.choice((300, 1000, 5000)))
    command = 0x21 if chance.random() < 0.9 else chance.choice((0x20, 0x22, 0x11, 0xFF))
    length = None if chance.random() < 0.85 else chance.choice((0, 1, 11, 12, 35, 36, 215, 216, 217, 0xFFFF))
    header = v2(kind, block[:0xFFFF], command=command, length=length)
    return checked(header) if length is None and chance.random() < 0.1 and len(header) < 0xFF00 else header


def _odd_v1(chance, made: int) -> bytes:
    ports = chance.choice((b"1 2", b"65535 0", b"65536 1", b"01 1", b"-1 1", b"1", b"1 2 3", b"\xb2 1"))
    host = chance.choice(
        (b"127.99.%d.1" % made, b"256.1.1.1", b"::1", b"fe80::1%lo", b"::ffff:1.2.3.4", b"", b"\xff", b"1.2.3.4\0")
    )
    family = chance.choice((b"TCP4", b"TCP4", b"TCP6", b"UNKNOWN", b"tcp4", b"UDP4", b""))
    other = b"::1" if family == b"TCP6" else b"1.2.3.4"
    end = chance.choice((b"\r\n", b"\r\n", b"\r\n", b"\n", b"", b" " * 200, b"\r"))
    return b"PROXY " + b" ".join((family, host, other, ports)) + end


def _odd_block(chance, family: int, made: int) -> bytes:
    port = chance.randrange(65_536)
    if family == INET:
        return block_of(INET, (chance.choice((f"127.99.{made}.1", "0.0.0.0", "255.255.255.255")), port), ("1.2.3.4", 1))
    if family == INET6:
        hosts = (f"2001:db8:99::{made:x}", "::", "::1", "::ffff:1.2.3.4", "fe80::1", "ff02::1", "64:ff9b::1.2.3.4")
        return block_of(INET6, (chance.choice(hosts), port), ("::1", 1))
    if family == UNIX:
        paths = (
            b"/made-%d" % made, b"\0made-%d" % made, b"x" * 108, b"", b"\xff\xfe\0", b"\0" * 108, b"\n\x1b[2J", b"\0",
        )  # fmt: skip
        return block_of(UNIX, chance.choice(paths), chance.choice(paths))
    return bytes(chance.choice((0, 0, 12, 36, 216)))


def _odd_tlv(chance) -> bytes:
    match chance.randrange(9):
        case 0:
            return tlv(1, chance.randbytes(10))
        case 1:
            return tlv(2, chance.choice((b"name", b"\xff\xfe", b"", b"x" * 300)))
        case 2:
            return tlv(3, chance.randbytes(chance.choice((0, 3, 4, 5))))
        case 3:
            return tlv(4, bytes(chance.choice((0, 1, 1000))))
        case 4:
            return tlv(5, bytes(chance.choice((0, 128, 129))))
        case 5:
            return nested(chance.choice((1, 2, 8, 40)))
        case 6:
            return tlv(0x20, chance.randbytes(chance.randrange(12)))
        case 7:
            return tlv(0x30, b"\xff" * 20)
        case _:
            return chance.randbytes(chance.randrange(1, 9))


# ---- SOCKS


def socks_address(host, port: int) -> bytes:
    """Return an address as a request of SOCKS 5 has it: numeric, or a name as bytes."""
    if isinstance(host, bytes):
        return b"\3" + bytes([len(host)]) + host + struct.pack("!H", port)
    six = ":" in host
    return (
        (b"\4" if six else b"\1")
        + socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, host)
        + struct.pack("!H", port)
    )


def socks5(host, port: int, command: int = 1) -> bytes:
    return b"\5%c\0" % command + socks_address(host, port)


def socks4(host: str, port: int, command: int = 1, user: bytes = b"") -> bytes:
    return b"\4%c" % command + struct.pack("!H", port) + socket.inet_aton(host) + user + b"\0"


def login(user: bytes, password: bytes) -> bytes:
    return b"\1" + bytes([len(user)]) + user + bytes([len(password)]) + password


NAMES = (
    b"localhost", b"localhost", b"localhost.", b"nowhere.invalid", b"127.0.0.1", b"0x7f.1", b"2130706433", b"::1",
    b"", b".", b"\xff\xfe", b"a" * 255, b"xn--", b"xn--zzzzzz99999", b"a..b", b"0", b"lo\0calhost", b"\r\n",
    b"127.0.0.1%lo", b"fe80::1%lo", b"1.2.3.4.5", "\u0130.example".encode(), b"-x", b"a" * 64 + b".b",
)  # fmt: skip


def odd_socks(chance, port: int, *, users: bool) -> list[bytes]:
    """Return messages of a client of a SOCKS server, each to be sent when it likes."""
    command = chance.choice((1, 1, 1, 1, 2, 3, 0, 4, 255))
    host = chance.choice(("127.0.0.1", "127.0.0.1", "::1", "0.0.0.0", "::", "255.255.255.255", "::ffff:127.0.0.1"))
    port = port if chance.random() < 0.8 else chance.choice((0, 1, 65_535))
    if chance.random() < 0.3:
        address = host if ":" not in host else chance.choice(("127.0.0.1", "0.0.0.1", "0.0.0.0"))
        name = chance.choice(NAMES) + b"\0" if address == "0.0.0.1" else b""
        return [socks4(address, port, command, b"u" * chance.choice((0, 5, 300, 70_000))) + name]
    methods = chance.choice(
        (b"\5\1\0", b"\5\2\0\2", b"\5\1\2", b"\5\0", b"\5\xff" + bytes(255), b"\5\1\xff", b"\6\1\0")
    )
    messages = [methods]
    if users or b"\2" in methods[2:]:
        name, word = chance.choice(
            ((b"alice", b"secret"), (b"alice", b"wrong"), (b"\xff", b""), (b"x" * 255, b"y" * 255))
        )
        messages.append(login(name, word))
    where = chance.choice(NAMES) if chance.random() < 0.5 else host
    request = socks5(where, port, command)
    if chance.random() < 0.1:
        request = request[:3] + bytes([chance.randrange(256)]) + request[4:]
    return [*messages, request]


def socks_datagram(chance, port: int) -> bytes:
    host = chance.choice(("127.0.0.1", "::1", "8.8.8.8", *NAMES[:8]))
    head = b"\0\0" + bytes([chance.choice((0, 0, 0, 1, 255))]) + socks_address(host, port)
    return head[: chance.choice((999, 999, 999, 3, 5, 0))] + b"s00 datagram" * chance.choice((0, 1, 100))


# ---- HTTP

PATHS = ("/", "/metrics", "/status.json", "/live", "/ready", "/nothing", "/metrics?a=b")
ODD_REQUESTS = (
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/0.9\r\n\r\n",
    b"GET /\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\r\n\r\n\r\nGET /live HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://localhost/live HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET //live HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    b"GET / HTTP/1.1\r\n folded: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
    b"G" * 70_000,
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 60_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 9000 + b"\r\n",
    b"\0\r\n\r\n",
    b"GET / HTTP/1.1\n\n",
    b"get / http/1.1\r\nhost: x\r\n\r\n",
)


def odd_http(chance) -> bytes:
    """Return a request at random, or several."""
    luck = chance.random()
    if luck < 0.5:
        return b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % chance.choice(PATHS).encode() * chance.choice((1, 1, 3))
    if luck < 0.53:
        return b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n" * 1500
    if luck < 0.55:
        return b"GET / HTTP/1.1\r\nHost:" + b" " * 20_000 + b"x\r\n\r\n"
    return chance.choice(ODD_REQUESTS)


# ---- the control socket

VERBS = ("status", "connections", "close", "drain", "reload", "plan", "upgrade", "stop", "log-level")
VALUES = (
    None, True, False, 0, -1, 1.5, 2**31, 2**63, 2**64, 10**400, "", "x", "\0", "\udc80", "x" * 100_000, [], [1], {},
    {"id": 1}, [[[[]]]], "1", "info", "../..", "nan", float("nan"), float("inf"),
)  # fmt: skip
HARMLESS = ("status", "connections", "close", "drain", "plan", "log-level")
"""Verbs whose words may be anything."""
MALFORMED = (
    b"\n",
    b"{}\n",
    b"[]\n",
    b"null\n",
    b'"status"\n',
    b"{" * 100 + b"\n",
    b"[" * 100_000 + b"\n",
    b'{"a":' * 50_000 + b"\n",
    b'{"verb":"status","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
    b'{"verb":"nothing"}\n',
    b'{"verb":["status"]}\n',
    b'{"verb":{"status":1}}\n',
    b'{"verb":null}\n',
    b'{"verb":"status"}{"verb":"status"}\n',
    b'{"verb":"status","verb":"connections"}\n',
    b'\xff\xfe{"verb":"status"}\n',
    '{"verb":"status"}\n'.encode("utf-16"),
    '{"verb":"status"}\n'.encode("utf-32"),
    b'\xef\xbb\xbf{"verb":"status"}\n',
    b'{"verb":"sta\\ud800tus"}\n',
    b'{"verb":"close","id":1e999}\n',
    b'{"verb":"close","id":' + b"9" * 5000 + b"}\n",
    b'{"verb":"close","id":NaN}\n',
    b'{"verb":"close","id":-2147483648}\n',
    b'{"verb":"close","id":true}\n',
    b'{"verb":"log-level","level":["info"]}\n',
    b'{"verb":"log-level","level":{}}\n',
    b'{"verb":"drain","listener":[]}\n',
    b'{"verb":"plan","text":"' + b"\\u0000" * 1000 + b'","name":""}\n',
    b'{"verb":"plan","text":"[[listen]]","name":"x"}\n',
    b'{"verb":"plan","text":"' + b"[" * 20_000 + b'","name":"x"}\n',
    b'{"verb":"plan","text":"a=' + b"[" * 20_000 + b'","name":"x"}\n',
    b'{"verb":"plan","text":"a=' + b"{a=" * 5000 + b'","name":"x"}\n',
    b'{"verb":"plan","text":"' + b"a." * 5000 + b'a=1","name":"x"}\n',
    b"\0" * 1000 + b"\n",
    b"x" * 300_000 + b"\n",
    b'{"verb":"plan","name":"x","text":"' + b"x" * 3_000_000 + b'"}\n',
    b'{"verb":"plan","name":"x","text":"' + b"\\n[[listen]]" * 1_000 + b'"}\n',
    b"no end of line",
    b"",
)


def odd_question(chance) -> bytes:
    """Return what somebody may say to the control socket, but for what stops or drains the daemon."""
    if chance.random() < 0.5:
        return chance.choice(MALFORMED)
    words = {"verb": chance.choice(HARMLESS)}
    for key in ("id", "level", "text", "name", "listener", "x"):
        if chance.random() < 0.4:
            words[key] = chance.choice(VALUES)
    if words["verb"] == "close" and words.get("id") == 0:
        words["id"] = -1  # after an upgrade, 0 is the first connection that moved, and may be an honest one's
    return json.dumps(words).encode() + b"\n"
