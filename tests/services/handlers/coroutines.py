# SPDX-License-Identifier: MIT
"""Coroutine handlers of the tests: they run under sockd and, the same code, under asyncio.start_server."""

import asyncio
import time

import sockd

events = []


async def lines(reader, writer):
    async for line in reader:
        writer.write(line.upper())


async def verbs(reader, writer):
    """Read by every method, as lines say."""
    while line := await reader.readline():
        verb, _, rest = line.rstrip(b"\r\n").partition(b" ")
        match verb:
            case b"exactly":
                writer.write(b"[" + await reader.readexactly(int(rest)) + b"]")
            case b"until":
                writer.write(b"<" + await reader.readuntil(rest) + b">")
            case b"line":
                writer.write(b"(" + await reader.readuntil() + b")")
            case b"all":
                writer.write(b"{" + await reader.read() + b"}")
            case b"partial":
                try:
                    await reader.readexactly(int(rest))
                except asyncio.IncompleteReadError as error:
                    writer.write(b"partial %s of %d" % (error.partial, error.expected))
            case b"overrun":
                try:
                    await reader.readuntil(b"$")
                except asyncio.LimitOverrunError as error:
                    writer.write(b"overrun %d" % (error.consumed >= 65_536))
                    await reader.readexactly(error.consumed)
            case b"eof":
                writer.write(b"%d" % reader.at_eof())
            case b"lines":
                writer.writelines([b"1\n", b"2\n"])
            case b"drain":  # in every way that asyncio's can be called
                writer.write(b"drain")
                await asyncio.wait_for(writer.drain(), 10)
                await asyncio.create_task(writer.drain())
                writer.write(b" to")
                await asyncio.gather(writer.drain(), writer.drain())
                async with asyncio.TaskGroup() as group:
                    group.create_task(writer.drain())
                writer.write(b" %d" % asyncio.iscoroutine(first := writer.drain()))
                await first
            case b"boom":
                raise RuntimeError("told to")
            case b"close":
                writer.close()
            case _:
                writer.write(line)
        await writer.drain()
    writer.write(b"end %d" % reader.at_eof())
    writer.close()


async def leave(reader, writer):
    """Return after one line, with a word behind it."""
    writer.write(b"you said " + await reader.readline())


async def bye(reader, writer):
    await reader.readline()
    raise sockd.Close(b"bye")


async def flood(reader, writer):
    """Write until the peer does not take more; tell how often drain() held us up."""
    size = int(await reader.readline())
    for _ in range(size // 65_536):
        writer.write(bytes(65_536))
        await writer.drain()
    await writer.drain()


async def deaf(reader, writer):
    """Read one line, and then nothing for ever."""
    writer.write(b"heard " + await reader.readline())
    await asyncio.Event().wait()


tidy = sockd.Service()
tidied = []


@tidy.startup
async def open_it():
    await asyncio.sleep(0)
    tidied.clear()


@tidy.session
async def work(reader, writer):
    """Wait for what is not the peer, and clean up with an await when cancelled."""
    try:
        async for line in reader:
            if line == b"sleep\n":
                writer.write(b"asleep\n")
                await asyncio.sleep(3600)
            writer.write(line)
    finally:
        await asyncio.sleep(0.01)
        tidied.append(writer)
        writer.write(b"last words\n")


@tidy.shutdown
async def close_it():
    await asyncio.sleep(0)
    with open("tidied", "w") as file:
        file.write(str(len(tidied)))


async def stubborn(reader, writer):
    writer.write(await reader.readline())
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


async def database(reader, writer):
    """Await a library of asyncio, with a thread of its own, and a timer."""
    import aiosqlite

    async with aiosqlite.connect(":memory:") as connection:
        await connection.execute("create table words (word text)")
        async for line in reader:
            await connection.execute("insert into words values (?)", (line.decode(),))
            await asyncio.sleep(0.001)
            async with connection.execute("select count(*), max(word) from words") as rows:
                number, word = await rows.fetchone()
            writer.write(b"%d %s" % (number, word.encode()))


def callback(line):
    return line.upper()


async def slow(reader, writer):
    """Await something for each line, as a database does."""
    async for line in reader:
        await asyncio.sleep(0.02)
        writer.write(line.upper())
        await writer.drain()


async def slow_readline(reader, writer):
    while line := await reader.readline():
        await asyncio.sleep(0.02)
        writer.write(line.upper())


async def patient(reader, writer):
    """Say something of a line that is too long, and end."""
    try:
        while line := await reader.readline():
            await asyncio.sleep(0.02)
            writer.write(line.upper())
    except ValueError as error:
        writer.write(b"sorry: %s\n" % str(error).encode())


async def headed(reader, writer):
    """Read a line, and then bytes, whatever their size; the one before is answered slowly."""
    line = await reader.readline()
    await asyncio.sleep(0.05)
    writer.write(line + b"%d\n" % len(await reader.readexactly(int(line))))


async def diary(reader, writer):
    """Note every line, slowly, and how it ended."""
    with open("diary", "w", buffering=1) as file:
        try:
            writer.write(b"go\n")
            await asyncio.sleep(0.3)
            while line := await reader.readline():
                await asyncio.sleep(0.02)
                file.write(line.decode())
            file.write("end\n")
        except OSError as error:
            file.write(f"{type(error).__name__} {await leftover(reader)}\n")


async def leftover(reader):
    try:
        return (await reader.read(100)).decode()
    except OSError as error:
        return type(error).__name__


threads = sockd.Service(blocking=True)


@threads.frame
def blocks(line):
    time.sleep(0.02)
    return line.upper()
