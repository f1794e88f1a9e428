# SPDX-License-Identifier: MIT
"""Programs at random on asyncio's reader and on sockd's: pieces that come, reads of every kind, cancellations, ends.

One task reads at a time. What is compared are results, errors, what waits, and what is left; with programs of a task of
C, one of Python and eager ones. SOCKD_RUNS says how many, SOCKD_SEED where to begin.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
from functools import partial

import pytest

from sockd.services.handlers.streams import StreamReader

RUNS = int(os.environ.get("SOCKD_RUNS", "300"))
FIRST = int(os.environ.get("SOCKD_SEED", "1"))
LIMIT = 12
PIECES = [
    *(b"a\n", b"ab\n", b"\n", b"\r\n", b"\0\n", b"\n\n", b"a\nb\nc\n", b"m$n\n", b"p\nq", b"x", b"yz", b"$"),
    *(b"f" * (LIMIT - 1), b"l" * LIMIT + b"\n", b"o" * (LIMIT + 1) + b"\n", b"o" * (LIMIT + 2)),
]
TURNS = 8
"""Of the loop, by which whatever can end has ended."""


async def up_to_two(reader):
    got = []
    async for line in reader:
        if line == b"\n":
            continue
        got.append(line)
        if len(got) == 2:
            break
    return got


async def in_time(reader):
    async with asyncio.timeout(60):
        return await reader.__anext__()


async def or_else(reader):
    return await anext(reader, "else")


READS = {
    "readline": lambda reader: reader.readline(),
    "anext": lambda reader: reader.__anext__(),
    "for": up_to_two,
    "timeout": in_time,
    "default": or_else,
    "read": lambda reader: reader.read(3),
    "readuntil": lambda reader: reader.readuntil(),
    "readuntil $": lambda reader: reader.readuntil(b"$"),
    "readexactly": lambda reader: reader.readexactly(2),
}
LINES = ["readline", "anext", "for"] * 3


class Transport:
    """One that is always there."""

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


def program(seed):
    chance = random.Random(seed)
    steps = []
    for _ in range(chance.randrange(2, 14)):
        kind = chance.choices(["feed", "start", "cancel", "turns", "fail"], [40, 35, 10, 12, 3])[0]
        what = {
            "feed": chance.choice(PIECES),
            "start": chance.choice([*READS, *LINES]),
            "turns": chance.randrange(1, 4),
            "fail": chance.choice([KeyError, KeyError("set")]),
        }
        steps.append((kind, what.get(kind)))
    if chance.random() < 0.3:
        steps.insert(chance.randrange(len(steps) + 1), ("eof", None))
    return steps


async def turns(count=TURNS):
    for _ in range(count):
        await asyncio.sleep(0)


def outcome(task):
    if not task.done():
        return "waits"
    if task.cancelled():
        return "cancelled"
    if (error := task.exception()) is None:
        return task.result()
    return type(error), str(error), getattr(error, "partial", None), getattr(error, "consumed", None)


class Run:
    """One of a program, on one reader."""

    def __init__(self, reader):
        self.reader = reader
        self.seen = []
        self.task = None
        self.is_open = True
        self.is_part = False

    async def step(self, kind, what):
        if kind == "feed" and self.is_open:
            self.is_part = b"\n" not in what
            self.reader.feed_data(what)
        elif kind == "eof":
            self.is_open = False
            self.reader.feed_eof()
        elif kind == "fail":
            if self.is_part:
                await turns()  # a reader of asyncio's that a part of a line has woken waits for ever
            self.reader.set_exception(what)
        elif kind == "turns":
            await turns(what)
        elif kind == "cancel" and self.task is not None:
            self.task.cancel()
        elif kind == "start":
            await self.note()
            if self.task is None or self.task.done():
                self.task = asyncio.ensure_future(READS[what](self.reader))

    async def note(self):
        await turns()
        if self.task is not None:
            self.seen.append(outcome(self.task))

    async def finish(self):
        await self.note()
        if self.task is not None:
            self.task.cancel()
            await self.note()
        self.seen.append(self.reader.at_eof())
        with contextlib.suppress(KeyError):
            if self.is_open:
                self.reader.feed_eof()
            self.seen.append(await self.reader.read())
        return self.seen


async def perform(reader, steps):
    reader.set_transport(Transport())
    run = Run(reader)
    for kind, what in steps:
        await run.step(kind, what)
    return await run.finish()


def of_python(loop, coroutine, **more):
    return asyncio.tasks._PyTask(coroutine, loop=loop, **more)


FACTORIES = {"C": None, "Python": of_python}
if sys.version_info >= (3, 12):
    FACTORIES["eager"] = asyncio.eager_task_factory


@pytest.mark.parametrize("tasks", FACTORIES)
def test_programs_at_random(tasks):
    async def compare():
        loop = asyncio.get_running_loop()
        loop.set_task_factory(FACTORIES[tasks])
        own = partial(StreamReader, LIMIT, loop, lambda: False, 1e9, lambda: None)
        for seed in range(FIRST, FIRST + RUNS):
            steps = program(seed)
            theirs = await perform(asyncio.StreamReader(LIMIT, loop), steps)
            assert await perform(own(), steps) == theirs, (seed, steps)

    asyncio.run(compare())
