# SPDX-License-Identifier: MIT
"""Many clients in one process: crowd.py WHAT PORT COUNT SOURCE [...]

WHAT is the name of a function below.  SOURCE is the address that they come from, 127.0.0.x, for one address has
28,000 ports.  Each prints JSON, a value a line, and ends when its standard input does.
"""

from __future__ import annotations

import contextlib
import json
import random
import selectors
import socket
import ssl
import struct
import sys
import time

TIMEOUT_S = 20
RESET = struct.pack("ii", 1, 0)
ALPHABET = b"abc XYZ\n\r\0\xff\x80{}%\n\n"


def say(value) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def connect(port: int, source: str, receive_buffer: int = 0) -> socket.socket:
    sock = socket.socket()
    sock.settimeout(TIMEOUT_S)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
    sock.bind((source, 0))
    sock.connect(("127.0.0.1", port))
    return sock


def end_with_reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def hold(port: int, count: int, source: str) -> None:
    """Connect and be silent; on a line, each asks one question, and the number of right answers is told."""
    socks = [connect(port, source) for _ in range(count)]
    say(len(socks))
    for _ in sys.stdin:
        right = 0
        for sock in socks:
            try:
                sock.sendall(b"still here\n")
                right += sock.recv(100) == b"STILL HERE\n"
            except OSError:
                continue
        say(right)


def drip(port: int, count: int, source: str, most: str) -> None:
    """Connect, then on a line send a byte a second each, for `most` seconds; tell how long each was let live."""
    socks = [connect(port, source) for _ in range(count)]
    say(len(socks))
    sys.stdin.readline()
    ready = selectors.DefaultSelector()
    begun, ends = {}, []
    for sock in socks:
        sock.setblocking(False)
        begun[sock] = time.monotonic()
        sock.send(b"x")
        ready.register(sock, selectors.EVENT_READ)
    turn = time.monotonic() + 1
    last = time.monotonic() + float(most)
    while begun and time.monotonic() < last:
        for key, _ in ready.select(max(0, turn - time.monotonic())):
            ends.append(time.monotonic() - begun.pop(key.fileobj))
            ready.unregister(key.fileobj)
            key.fileobj.close()
        if time.monotonic() >= turn:
            turn += 1
            for sock in begun:
                try:
                    sock.send(b"y")
                except OSError:
                    continue  # its end is told by select()
    say({"ends": ends, "left": len(begun)})
    sys.stdin.read()


def connect_and_reset(port: int, count: int, source: str) -> None:
    for number in range(count):
        sock = connect(port, source)
        if number % 3 == 1:
            sock.send(b"half a line")
        if number % 3 == 2:
            sock.send(b"line\n" * 1000)
        end_with_reset(sock)
    say(count)
    sys.stdin.read()


def flood(port: int, count: int, source: str, frame: str, rate: str, most: str, *way: str) -> None:
    """Send one frame again and again and read what is answered, from a line on until standard input ends.

    Args:
        frame: in hex.
        rate: bytes a second in all; 0: as many as go.
        most: bytes in all; 0: no end.
        way: "udp", or "tls", or "socks" and the port of a target.
    """
    block = bytes.fromhex(frame)
    block *= max(1, (1 if "udp" in way else 65_536) // len(block))
    socks = [_talker(port, source, way) for _ in range(count)]
    say(len(socks))
    sys.stdin.readline()
    say(_pour(socks, block, int(rate), int(most)))
    sys.stdin.read()


def _talker(port: int, source: str, way: tuple[str, ...]) -> socket.socket:
    if "udp" in way:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(("127.0.0.1", port))
    else:
        sock = connect(port, source)
    if "tls" in way:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        sock = context.wrap_socket(sock)
    if "socks" in way:
        sock.sendall(b"\5\1\0" + b"\5\1\0\1\x7f\0\0\1" + int(way[-1]).to_bytes(2, "big"))
        answer = b""
        while len(answer) < 12:
            answer += sock.recv(12 - len(answer))
    sock.setblocking(False)
    return sock


def _pour(socks: list[socket.socket], block: bytes, rate: int, most: int) -> int:
    ready = selectors.DefaultSelector()
    both = selectors.EVENT_READ | selectors.EVENT_WRITE
    for sock in socks:
        ready.register(sock, selectors.EVENT_READ if rate else both)
    ready.register(sys.stdin, selectors.EVENT_READ)
    sent, begun = 0, time.monotonic()
    while True:
        for key, events in ready.select(0.02 if rate else None):
            if key.fileobj is sys.stdin:
                return sent
            try:
                if events & selectors.EVENT_READ and not key.fileobj.recv(65_536):
                    ready.unregister(key.fileobj)
                elif events & selectors.EVENT_WRITE and not rate:
                    sent += key.fileobj.send(block)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError, ConnectionRefusedError):
                pass
            if most and sent >= most and events & selectors.EVENT_WRITE:
                ready.modify(key.fileobj, selectors.EVENT_READ)
        if rate:
            sent += _drizzle(socks, block, int(rate * (time.monotonic() - begun)) - sent)


def _drizzle(socks: list[socket.socket], block: bytes, due: int) -> int:
    sent = 0
    for sock in socks:
        with contextlib.suppress(OSError):
            sent += sock.send(block[: due // len(socks)]) if due >= len(socks) else 0
    return sent


def garbage(port: int, count: int, source: str, seed: str) -> None:
    """Random bytes in random pieces, ended by half-close, close, reset, silence, or half-closed and deaf."""
    chance = random.Random(seed)
    kept = []
    ends = {"half": 0, "close": 0, "reset": 0, "kept": 0, "deaf": 0}
    for _ in range(count):
        how = chance.choice(list(ends))
        sock = connect(port, source, 4096 if how == "deaf" else 0)
        sock.settimeout(0.2)
        ends[how] += 1
        try:
            for _ in range(chance.randrange(6)):
                size = chance.choice((1, 2, 7, 100, 1500, 70_000))
                letters = ALPHABET if chance.random() < 0.9 else ALPHABET.replace(b"\n", b"")
                sock.sendall(bytes(chance.choices(letters, k=min(size, 2000))) * (size // 2000 + 1))
            if how in ("half", "deaf"):
                sock.shutdown(socket.SHUT_WR)
            if how == "half" and chance.random() < 0.5:
                while sock.recv(65_536):
                    pass
        except OSError:
            pass  # let go for a line that was too long, or not read any more: that is what is tried here
        if how == "reset":
            end_with_reset(sock)
        elif how in ("kept", "deaf"):
            kept.append(sock)
        else:
            sock.close()
    say(ends)
    sys.stdin.read()


def press(port: int, count: int, sources: str, first: str, *again: str) -> None:
    """Keep `count` connections that send one thing and are silent then, until standard input ends.

    Args:
        sources: "127.0.0.2-127.0.0.40": each in its turn.
        first: in hex; NNNN in it becomes the number of the connection.
        again: "again": whenever one is closed, another one comes at once.
    """
    low, high = (int(text.rpartition(".")[2]) for text in sources.split("-"))
    text = bytes.fromhex(first)
    ready = selectors.DefaultSelector()
    ready.register(sys.stdin, selectors.EVENT_READ)
    made, told = 0, False

    def come() -> None:
        nonlocal made
        sock = socket.socket()
        sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        sock.bind((f"127.0.0.{low + made % (high - low + 1)}", 0))
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", port))
        ready.register(sock, selectors.EVENT_WRITE, made)
        made += 1

    for _ in range(count):
        come()
    while True:
        for key, mask in ready.select():
            if key.fileobj is sys.stdin:
                say(made)
                return
            try:
                if mask & selectors.EVENT_WRITE:
                    key.fileobj.send(text.replace(b"NNNN", b"%04d" % (key.data % 10_000)))
                    ready.modify(key.fileobj, selectors.EVENT_READ, key.data)
                    continue
                if key.fileobj.recv(65_536):
                    continue
            except OSError:
                pass  # closed by a reset
            ready.unregister(key.fileobj)
            key.fileobj.close()
            if again:
                come()
        if not told and made >= count:
            told = True
            say(count)


if __name__ == "__main__":
    what, port, count, source, *rest = sys.argv[1:]
    globals()[what](int(port), int(count), source, *rest)
