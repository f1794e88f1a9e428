# SPDX-License-Identifier: MIT
"""The handlers of the storm: each frame says what is to be done about it.

A frame begins with a letter and two digits, `b07...`: raise number 7 of raises.RAISED; verbs.VERBS says the letters.
Anything else is answered by itself.  A class raises in connection_made what its peer's own name asks for (`made_for`),
for it has heard nothing of its peer by then.

Copied beside the daemon's configuration as app.py.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import time
from collections import deque

import planted  # noqa: F401 - where asked for, a defect is planted
from raises import RAISED, RETURNED
from verbs import CALLBACKS

import sockd

FRAMINGS = (
    sockd.Line(4096),
    sockd.Line(100, b"\r\n"),
    sockd.Line(4096, "same"),
    sockd.StrictLine(4096),
    sockd.Delimiter(4096, b";;"),
    sockd.Nul(4096),
    sockd.Netstring(4096),
    sockd.Prefix(4096, 1),
    sockd.Prefix(4096, 4, "little", True),
    sockd.Prefix(4096, 8),
    sockd.Varint(4096),
    sockd.OctetCount(4096),
    sockd.OctetCount(4096, mixed=True),
    sockd.Fixed(16),
    sockd.Record("!BB14s"),
    sockd.DotBlock(4096),
    sockd.BlankLine(4096),
    sockd.Raw(),
)
INFO = ("peername", "sockname", "socket", "peercred", "peerhost", "proxied", "ssl_object", "peercert", "cipher", "none")
KB = 1000
ended = deque(maxlen=32)
"""Connections whose handlers kept them."""


def read(frame):
    """Return the letter and the number of a frame; ("s", 0) for everything else."""
    if isinstance(frame, tuple):
        return chr(frame[0]), frame[1]
    text = frame if isinstance(frame, str) else frame[:3].decode("latin-1")
    return (text[:1], int(text[1:3])) if re.match(r"[a-z][0-9][0-9]", text) else ("s", 0)


def raised(number):
    RAISED[number % len(RAISED)]()


def returned(number):
    return RETURNED[number % len(RETURNED)]()


def answer(frame):
    """A function: all that needs no connection."""
    verb, number = read(frame)
    match verb:
        case "b":
            raised(number)
        case "w":
            return returned(number)
        case "n":
            return None
        case "g" if isinstance(frame, bytes):
            return frame[:1] * (number * KB)
        case "z":
            time.sleep(number / 1000)
    return frame


def made_for(peer):
    """Raise what a peer's name asks for, whichever way it came by that name."""
    if found := re.search(r"127\.99\.(\d+)\.|made-(\d+)|2001:db8:99::([0-9a-f]+)", peer):
        plain, path, six = found.groups()
        raised(int(six, 16) if six else int(plain or path))


def asked_all(connection):
    told = [connection.get_extra_info(name) for name in INFO]
    told += [connection.peer, repr(connection), connection.framing, connection.close_reason, connection.is_closing()]
    told += [connection.get_write_buffer_size(), connection.get_write_buffer_limits(), connection.is_reading()]
    return repr(told)


def use_ended():
    """Do all that can be done to a connection that has ended, as forgetful handlers do."""
    for one in list(ended):
        for use in (
            lambda one=one: one.write(b"late"),
            lambda one=one: one.reply(b"late"),
            lambda one=one: one.writelines([b"l", b"ate"]),
            lambda one=one: one.pause_reading(),
            lambda one=one: one.resume_reading(),
            lambda one=one: one.set_framing(FRAMINGS[0]),
            lambda one=one: one.set_write_buffer_limits(10, 1),
            lambda one=one: one.call_later(0.001, raised, 0),
            lambda one=one: one.start_tls(),
            lambda one=one: one.write_eof(),
            lambda one=one: asked_all(one),
            lambda one=one: one.close(),
            lambda one=one: one.abort(),
        ):
            try:
                use()
            except Exception:  # to be told that it cannot be done is right
                continue


def act(frame, connection):
    """Do what needs a connection; return a reply."""
    verb, number = read(frame)
    match verb:
        case "l":
            connection.call_later(number / 5000, raised, number)
        case "p":
            connection.pause_reading()
            connection.call_later(number / 5000, connection.resume_reading)
        case "e":
            connection.write_eof()
            return None
        case "x":
            connection.abort()
        case "q":
            connection.close()
        case "t":
            for _ in range(20):
                connection.call_later(3600, raised, number).cancel()
        case "i":
            asked_all(connection)
        case "f":
            connection.set_framing(FRAMINGS[number % len(FRAMINGS)])
        case "y":
            connection.start_tls(lambda: raised(number) if number else None)
        case "o":
            connection.set_protocol((Lines(), Frames(), object(), None, Buffered())[number % 5])
        case "m":
            connection.write(returned(number))
        case "h":
            connection.set_write_buffer_limits(number * 100, number)
        case "d":
            use_ended()
            ended.append(connection)
        case _:
            return answer(frame)
    return frame


def with_connection(frame, connection):
    if read(frame)[0] == "d":
        connection.state = connection  # a circle
    return act(frame, connection)


def answers(frames):
    return [answer(frame) for frame in frames] if read(frames[0])[0] != "w" else answer(frames[0])


def text(frame):
    reply = answer(frame)
    return reply if reply is None or not isinstance(reply, bytes) else reply.decode()


def service(function, add="frame", **more):
    made = sockd.Service(**more)
    getattr(made, add)(function)
    return made


batch = service(answers, "frames")
texts = service(text, text="utf-8")
blocking = service(answer, blocking=True)
blocking_batch = service(answers, "frames", blocking=True)


class Armed:
    """What all classes have: callbacks that raise once they were told so."""

    def __init__(self):
        self.armed = {}

    def connection_made(self, transport):
        self.transport = transport
        made_for(transport.peer)

    def fire(self, callback):
        if (number := self.armed.pop(callback, None)) is not None:
            raised(number)

    def take(self, frame):
        verb, number = read(frame)
        if verb == "a":
            place = frame[2:3] if isinstance(frame, tuple) else frame[3:4]
            place = place[0][:1] if isinstance(place, tuple) else place
            self.armed[CALLBACKS.get(place.decode("latin-1"), "eof")] = number
        reply = act(frame, self.transport)
        if reply is not None:
            self.transport.reply(reply)

    def eof_received(self):
        self.fire("eof")

    def pause_writing(self):
        self.fire("pause")

    def resume_writing(self):
        self.fire("resume")

    def connection_lost(self, exc):
        self.fire("lost")


class Frames(Armed, sockd.Protocol):
    def frame_received(self, frame):
        self.take(frame)


class Lines(Armed, sockd.LineProtocol):
    def line_received(self, line):
        self.take(line)


class Moves(Frames):
    """Goes on in the next process."""

    def snapshot(self):
        self.fire("snapshot")
        return {"armed": self.armed}

    def restore(self, transport, state):
        self.transport = transport
        self.armed = state["armed"]
        self.fire("restore")


class Data(Armed, asyncio.Protocol):
    def data_received(self, data):
        self.take(data)


class Buffered(Armed, asyncio.BufferedProtocol):
    """Hands out buffers, odd ones when told so."""

    odd = None

    def get_buffer(self, sizehint):
        self.fire("pause")
        self.buffer = bytearray(KB) if self.odd is None else returned(self.odd)
        return self.buffer

    def buffer_updated(self, nbytes):
        data = bytes(self.buffer[:nbytes])
        verb, number = read(data)
        if verb == "w":
            self.odd = number
        self.take(data)


def fails():
    """In place of an object: one exception after the other."""
    raised(next(failures))


def odd_factory():
    """In place of an object: another thing each time, none of which is a protocol."""
    return returned(os.getpid() + int(time.monotonic() * 1000))


failures = itertools.count()
unmade = sockd.Service()
unmade.connect(fails)
oddly_made = sockd.Service()
oddly_made.connect(odd_factory)


async def in_task(number):
    await asyncio.sleep(0)
    raised(number)


async def obey(frame, writer):
    """Do what a frame says, in a coroutine; return a reply."""
    verb, number = read(frame)
    loop = asyncio.get_running_loop()
    match verb:
        case "z":
            await asyncio.sleep(number / 1000)
        case "j" if number % 3 == 0:
            loop.call_soon(raised, number)
        case "j" if number % 3 == 1:
            loop.call_later(0.001, raised, number)
        case "j":
            tasks.add(task := loop.create_task(in_task(number)))
            task.add_done_callback(tasks.discard)
        case "c":
            asyncio.current_task().cancel()
            await asyncio.sleep(0.01)
        case "e":
            writer.write_eof()
        case "q" | "x":
            (writer.close if verb == "q" else writer.transport.abort)()
        case "m":
            writer.write(returned(number))
        case "i":
            repr([writer.get_extra_info(name) for name in INFO])
        case "y":
            writer.write(frame)
            await writer.start_tls()
            return None
        case "d":
            use_ended()
            ended.append(writer.transport)
        case _:
            return answer(frame)
    return frame


tasks = set()


async def session(reader, writer):
    made_for(str(writer.get_extra_info("peername")))
    last = None
    try:
        async for line in reader:
            if line.startswith(b"a"):
                last = read(line)[1]
            if (reply := await obey(line, writer)) is not None:
                writer.write(reply)
            await writer.drain()
    finally:
        if last is not None:
            raised(last)


async def raw_session(reader, writer):
    while data := await reader.read(1000):
        if (reply := await obey(data, writer)) is not None:
            writer.write(reply)
    if data == b"":
        writer.write(b"end")
