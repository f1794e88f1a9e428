# SPDX-License-Identifier: MIT
"""Parts I and II of the FAQ: what a client and a server both must get right."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import TYPE_CHECKING

from sockd.errors import AddressError
from sockd.net.address.address import Address, resolve_endpoints
from sockd.net.kernel import time_wait_count
from sockd.selftest.daemon_process import CheckFailed, run_sockd
from sockd.selftest.fixture import listen
from sockd.selftest.peer import (
    Skip,
    ask,
    data_segments_in,
    dial,
    expect,
    has_ipv6,
    name,
    read_all,
    read_line,
    reset,
    segments,
    until,
)
from sockd.selftest.services import RECORD, pattern

if TYPE_CHECKING:
    from sockd.selftest.fixture import Fixture

REPLY_BYTES = 4 * 1024 * 1024
HALF_CLOSED = 100
WATCHED_SECONDS = 0.3
IDLE_SHARE = 0.1
"""Of one processor: a loop that spins takes all of it."""
NAGLE_TRIES = 5
NAGLE_BOUND_SECONDS = 0.02
"""Between an answer on loopback, some 0.1 ms, and the shortest delayed acknowledgement, TCP_DELACK_MIN of 40 ms."""


def kinds_of_sockets(house: Fixture) -> str:
    """I.3: streams and datagrams over IPv4, IPv6 and Unix sockets answer."""
    answered = []
    for scheme in ("tcp", "udp", "unix", "unixgram"):
        for text in house.main.addresses("upper", scheme):
            with dial(resolve_endpoints(Address.parse(text), passive=False)[0]) as sock:
                expect(ask(sock) == b"HELLO\n", f"{text} gave a wrong reply")
            answered.append(text)
    expected = 6 if has_ipv6() else 4
    expect(len(answered) == expected, f"{len(answered)} listeners answered: {', '.join(answered)}")
    return f"{len(answered)} listeners answered" + ("" if expected == 6 else " (no IPv6 here)")


def partial_reads_and_writes(house: Fixture) -> str:
    """I.4: a line that comes byte by byte is one line, a large reply through small buffers is whole."""
    sock = house.dial("big")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in f"{REPLY_BYTES}".encode():
        sock.send(bytes([byte]))
    sock.sendall(b"\n")
    sock.shutdown(socket.SHUT_WR)
    got = read_all(sock)
    expect(got == pattern(REPLY_BYTES) + b"\n", f"{len(got)} bytes, not the {REPLY_BYTES + 1} that were sent")
    return f"{len(got):,} bytes through the smallest send buffer, none lost or moved"


def closed_on_the_other_end(house: Fixture) -> str:
    """II.1: end of file, reset, and an end inside a frame are three reasons."""
    seen = []
    for said, end in ((b"hello\n", socket.socket.close), (b"hello\n", reset), (b"hel", socket.socket.close)):
        sock = house.dial("upper")
        sock.sendall(said)
        if said.endswith(b"\n"):
            read_line(sock)
        peer = name(sock)
        end(sock)
        seen.append(house.main.reason(peer))
    expect(seen == ["eof", "reset", "truncated"], f"FIN, RST and FIN within a line gave {', '.join(seen)}")
    return ", ".join(seen)


def address_structures(house: Fixture) -> str:
    """II.2: every address has one text, which is read and printed the same."""
    texts = ["tcp://127.0.0.1:7007", "udp://[::1]:53", "tcp://[fe80::1%lo]:25", "unix:/run/a.sock", "unixgram:/run/b"]
    for text in texts:
        expect(str(Address.parse(text)) == text, f"{text} is printed as {Address.parse(text)}")
    bad = run_sockd("--check", "--listen", "tcp://::1:7007=upper", directory=house.directory)
    expect(bad.returncode == 64 and b"brackets" in bad.stderr, f"a bad one gave {bad.returncode}, {bad.stderr!r}")
    return f"{len(texts)} forms come back the same, a bad one is explained"


def port_of_a_service(_house: Fixture) -> str:
    """II.3: a service name or a number from 0 to 65535."""
    for text in ("tcp://127.0.0.1:65536", "tcp://127.0.0.1:-1", "tcp://127.0.0.1:no-such-service"):
        try:
            Address.parse(text)
        except AddressError:
            continue
        raise CheckFailed(f"{text} was accepted")
    try:
        wanted = socket.getservbyname("domain", "udp")
    except OSError:
        raise Skip("services(5) of this system does not know domain") from None
    found = Address.parse("udp://127.0.0.1:domain").port_number()
    expect(found == wanted, f"domain is {found}, the system says {wanted}")
    return f"domain is {found}; 65536, -1 and an unknown name are refused"


def bind_failed(house: Fixture) -> str:
    """II.4: the message names address, errno and holder."""
    text = house.main.addresses("upper")[0]
    second = run_sockd("--foreground", "--listen", f"{text}=upper", directory=house.directory)
    words = second.stderr.decode()
    # a daemon is not dumpable, and its descriptors are root's alone to list (proc(5))
    holder = f"pid {house.main.pid}" if f"pid {house.main.pid}" in words else "a process that is not visible"
    for needed in (text, "EADDRINUSE", f"held by {holder}"):
        expect(needed in words, f"{needed} is not in: {words.strip()}")
    expect(second.returncode == 71, f"exit code {second.returncode}")
    return f"EADDRINUSE, held by {holder}, exit code 71"


def proper_close(house: Fixture) -> str:
    """II.5: the reply before a close arrives although the peer is still sending."""
    sock = house.dial("last")
    sock.sendall(f"{REPLY_BYTES}\n".encode())
    sending = threading.Thread(target=sock.sendall, args=(bytes(REPLY_BYTES),))
    sending.start()
    try:
        got = read_all(sock)
    except ConnectionResetError:
        raise CheckFailed("the peer that was still sending got RST, and the reply was lost") from None
    finally:
        sending.join()
    expect(len(got) == REPLY_BYTES + 1, f"only {len(got)} of {REPLY_BYTES + 1} bytes arrived")
    return f"{len(got):,} bytes of reply arrived while {REPLY_BYTES:,} were on the way to the daemon, no RST"


def half_close(house: Fixture) -> str:
    """II.6: who sends and shuts down gets the whole answer."""
    for scheme in ("tcp", "unix"):
        sock = house.dial("upper", scheme)
        sock.sendall(b"hello\n" * 1000)
        sock.shutdown(socket.SHUT_WR)
        got = read_all(sock)
        expect(got == b"HELLO\n" * 1000, f"only {len(got)} of 6000 bytes arrived over {scheme}")
    return "1,000 answers after shutdown(SHUT_WR), over tcp and unix"


def time_wait(house: Fixture) -> str:
    """II.7: a restart on the same port works at once, with connections in TIME_WAIT there."""
    first = house.start(listen("last") + f'[service.last]\nhandler = "{__package__}.services:big_and_close"\n')
    port = first.port("last")
    for _ in range(20):
        with dial(first.endpoint("last")) as sock:
            sock.sendall(b"1\n")
            read_all(sock)
    until(lambda: (time_wait_count(port) or 0) >= 20, "fewer than 20 connections are in TIME_WAIT")
    first.stop()
    second = house.start(listen("upper", address=f"tcp://127.0.0.1:{port}"))
    expect(ask(house.dial("upper", child=second)) == b"HELLO\n", "the second daemon gave a wrong reply")
    return f"started again on port {port} with {time_wait_count(port)} connections in TIME_WAIT"


def peer_died(house: Fixture) -> str:
    """II.8: keepalive probes, TCP_USER_TIMEOUT and an idle timeout; the timers are read back."""
    sock = house.dial("hasty")
    begin = time.monotonic()
    rest = read_all(sock)
    elapsed = time.monotonic() - begin
    expect(rest == b"" and 0.1 < elapsed < 2, f"an idle timeout of 0.2 s came after {elapsed:.1f} s with {rest!r}")
    reason = house.main.reason(name(sock))
    expect(reason == "idle-timeout", f"reason {reason}")
    set_ = json.loads(ask(house.dial("options")))
    expect(set_.get("user_timeout", 240_000) == 240_000, f"TCP_USER_TIMEOUT {set_.get('user_timeout')} ms")
    return f"idle-timeout after {elapsed:.1f} s of 0.2; probes and TCP_USER_TIMEOUT are set"


def readiness(house: Fixture) -> str:
    """II.9: one thread serves many, and one that says half a line holds up nobody."""
    half = house.dial("upper")
    half.sendall(b"hel")
    others = [house.dial("upper") for _ in range(50)]
    for sock in others:
        expect(ask(sock) == b"HELLO\n", "a client next to a slow one got a wrong reply")
    expect(ask(half, b"lo\n") == b"HELLO\n", "the slow client got a wrong reply")
    return "50 clients answered next to one that had sent half a line"


def accept_survives(house: Fixture) -> str:
    """II.10: connections that die in the accept queue end nothing."""
    child = house.start(listen("upper"))
    child.freeze()
    for _ in range(20):
        reset(dial(child.endpoint("upper")))
    child.thaw()
    expect(ask(house.dial("upper", child=child)) == b"HELLO\n", "a client after them got a wrong reply")
    return "20 clients reset before accept(), the next one is answered"


def one_send(house: Fixture) -> str:
    """II.11: the replies to a batch leave in one segment."""
    sock = house.dial("upper")
    sock.sendall(b"hello\n" * 100)
    sock.shutdown(socket.SHUT_WR)
    expect(read_all(sock) == b"HELLO\n" * 100, "the replies are wrong")
    accepted = data_segments_in(sock)
    expect(accepted == 1, f"100 replies arrived in {accepted} segments")
    return "100 replies in 1 segment"


def end_of_file(house: Fixture) -> str:
    """II.13: a half-closed peer is no busy loop."""
    for _ in range(HALF_CLOSED):
        house.dial("stay").shutdown(socket.SHUT_WR)
    before = house.main.cpu_seconds()
    time.sleep(WATCHED_SECONDS)  # what is measured is what happens meanwhile
    share = (house.main.cpu_seconds() - before) / WATCHED_SECONDS
    expect(share < IDLE_SHARE, f"{share:.0%} of a processor with {HALF_CLOSED} half-closed peers")
    return f"{share:.0%} of a processor with {HALF_CLOSED} half-closed peers"


def multiplexers(house: Fixture) -> str:
    """II.14: the same answers under select, poll and epoll."""
    import select

    there = [one for one in ("select", "poll", "epoll") if hasattr(select, one)]
    for one in [*there, "auto"]:
        child = house.start(listen("upper"), daemon=f'multiplexer = "{one}"')
        many = [house.dial("upper", child=child) for _ in range(20)]
        expect(all(ask(sock) == b"HELLO\n" for sock in many), f"{one}: not every client is answered")
    return f"20 clients answered under {', '.join(there)} and auto"


def binary(house: Fixture) -> str:
    """II.15: records in network byte order, and every byte value, pass unchanged."""
    sock = house.dial("records")
    sent = [(1, 2, 0.5), (2**32 - 2, 2**16 - 2, -1e300)]
    sock.sendall(b"".join(RECORD.pack(*one) for one in sent))
    sock.shutdown(socket.SHUT_WR)
    got = list(RECORD.iter_unpack(read_all(sock)))
    expect(got == [(a + 1, b + 1, c + 1) for a, b, c in sent], f"{got}")
    for scheme in ("tcp", "udp"):
        raw = house.dial("raw", scheme)
        raw.sendall(bytes(range(256)))
        expect(raw.recv(1000) == bytes(range(256)), f"bytes were changed over {scheme}")
    return "records of !IHd answered, 256 byte values unchanged over tcp and udp"


def nodelay(house: Fixture) -> str:
    """II.16: TCP_NODELAY as the listener says."""
    on, off = (json.loads(ask(house.dial(service)))["nodelay"] for service in ("options", "delayed"))
    expect(on and not off, f"TCP_NODELAY is {on} by default and {off} with nodelay = false")
    return "on by default, off with nodelay = false"


def nagle(house: Fixture) -> str:
    """II.17: the FAQ's two cases, their segments and times counted."""
    sock = house.dial("upper")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
    ask(sock)  # Linux acknowledges the first segments of a connection at once; the FAQ's server has said something
    text = ""
    for _ in range(NAGLE_TRIES):  # a host that is busy for 40 ms adds acknowledgements
        (bytewise, slow), (whole, fast) = (_count(sock, size) for size in (1, 6))
        text = f"case 1: {bytewise} segments, {slow * 1000:.1f} ms; case 2: {whole} segments, {fast * 1000:.2f} ms"
        if whole == 3 and bytewise in (5, 6) and fast < NAGLE_BOUND_SECONDS < slow:
            return text
    raise CheckFailed(text)


def _count(sock: socket.socket, size: int) -> tuple[int, float]:
    """Ask in pieces of a size; returns the segments of both directions, and the seconds."""
    before, begin = segments(sock), time.monotonic()
    for at in range(0, 6, size):
        sock.send(b"hello\n"[at : at + size])
    expect(read_line(sock) == b"HELLO\n", "wrong reply")
    elapsed = time.monotonic() - begin
    return segments(sock).both - before.both, elapsed
