# SPDX-License-Identifier: MIT
"""The handlers of the tests; the fixtures copy this file beside the daemon's configuration."""

from __future__ import annotations

import hashlib
import random
import socket
from collections import Counter, defaultdict

import sockd

calls = Counter()  # how often a line was handed out
diary = defaultdict(list)  # by tag: what a Record was told, in order
records = {}  # by tag: the living ones
MIB = 1024 * 1024


def upper(line):
    return line.upper()


def upper_with_connection(line, connection):
    return line.upper()


class Upper(sockd.LineProtocol):
    def line_received(self, line):
        self.send_line(line.upper())


class Echo(sockd.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


def big(size):
    return random.Random(size).randbytes(size)


def act(line):
    """Do what the line's first word says to its other words."""
    calls[line] += 1
    verb, _, rest = line.partition(b" ")
    match verb:
        case b"none":
            return None
        case b"many":
            return rest.replace(b" ", b"\n")
        case b"big":
            return big(int(rest))
        case b"array":
            return bytearray(rest)
        case b"view":
            return memoryview(rest)
        case b"close":
            raise sockd.Close
        case b"words":
            raise sockd.Close(rest)
        case b"bigwords":
            raise sockd.Close(big(int(rest)))
        case b"badwords":
            raise sockd.Close(rest.decode())
        case b"boom":
            raise ValueError(rest)
        case b"wrong":
            return rest.decode()
        case b"number":
            return int(rest)
    return line


def act_with_connection(line, connection):
    return act(line)


class Act(sockd.LineProtocol):
    def line_received(self, line):
        reply = act(line)
        if reply is not None:
            self.send_line(bytes(reply) if isinstance(reply, memoryview) else reply)


def question(line):
    """Tell what this process remembers."""
    verb, _, rest = line.partition(b" ")
    match verb:
        case b"calls":
            return b"%d" % calls[rest]
        case b"digest":
            return hashlib.sha256(big(int(rest))).hexdigest().encode()
        case b"diary":
            return " ".join(diary[rest]).encode()
        case b"resume":
            records[rest].transport.resume_reading()
            return b"resumed"
        case b"reading":
            return b"%d" % records[rest].transport.is_reading()
        case b"buffered":
            return b"%d" % records[rest].transport.get_write_buffer_size()
        case b"reason":
            return str(records[rest].transport.close_reason).encode()
    raise ValueError(line)


class Record(sockd.LineProtocol):
    """Writes down what it is told; its first line is its tag, the others are verbs."""

    tag = None

    def note(self, word):
        (diary[self.tag] if self.tag else self.before).append(word)

    def connection_made(self, transport):
        super().connection_made(transport)
        self.before = ["made"]

    def line_received(self, line):
        transport = self.transport
        if self.tag is None:
            self.tag = line
            records[line] = self
            diary[line] += self.before
            self.send_line(b"tagged " + line)
            return
        verb, _, rest = line.partition(b" ")
        self.note(line.decode() if len(line) < 100 else verb.decode())
        match verb:
            case b"say":
                self.send_line(rest)
            case b"pause":
                transport.pause_reading()
            case b"blink":
                transport.pause_reading()
                transport.resume_reading()
            case b"write":
                transport.write(bytes(int(rest)))
            case b"eof":
                self.send_line(b"the end")
                transport.write_eof()
            case b"writelines":
                transport.writelines([b"a", bytearray(b"b"), memoryview(b"c\n")])
            case b"close":
                transport.write(rest + b"\n")
                transport.close()
                transport.write(b"dropped")
            case b"abort":
                transport.write(b"dropped")
                transport.abort()
            case b"boom":
                raise ValueError(rest)
            case b"peer":
                self.send_line(transport.peer.encode())
            case b"extra":
                peername = transport.get_extra_info("peername")
                sockname = transport.get_extra_info("sockname")
                self.send_line(repr((peername, sockname, transport.get_extra_info("cipher", 7))).encode())
            case b"water":
                high, low = map(int, rest.split())
                transport.set_write_buffer_limits(high, low)

    def eof_received(self):
        self.note("eof")

    def pause_writing(self):
        self.note("pause_writing")

    def resume_writing(self):
        self.note("resume_writing")

    def connection_lost(self, exc):
        self.note(f"lost:{type(exc).__name__ if exc else None}")


class HalfOpen(sockd.LineProtocol):
    """Keeps its side open behind the peer's end of file."""

    def line_received(self, line):
        self.send_line(line)

    def eof_received(self):
        return True


class Tight(Upper):
    """Sends through the smallest buffer that the kernel gives."""

    def connection_made(self, transport):
        super().connection_made(transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)


crlf = sockd.Service(framing=sockd.Line(max_bytes=1000, ending=b"\r\n"))


@crlf.frame
def answer(line):
    return line.upper()


class Broken(sockd.LineProtocol):
    def __init__(self):
        raise RuntimeError("cannot be made")


def hold(line):
    """Stand still until somebody writes into the FIFO that the line names: a loop that is busy."""
    with open(line, "rb") as fifo:
        return fifo.read()
