# SPDX-License-Identifier: MIT
"""Coroutines that asyncio.start_server() and sockd both serve, unmodified; each notes what it is told in a diary."""

from __future__ import annotations

import array
import asyncio
import fcntl
import functools
import io
import sys
import termios

from steps import EOF, RESET, SCENARIOS, Await, told, write_diary


def scenario(*steps, pieces=True, ends=True):
    """Mark a coroutine of (reader, writer, note), and what its client does."""

    def mark(function):
        name = function.__name__

        @functools.wraps(function)
        async def session(reader, writer):
            notes = []

            def note(*words):
                notes.append(list(words))

            try:
                await function(reader, writer, note)
            except Exception as error:
                note("raised", *told(error))
            finally:
                if ends:
                    writer.close()
                write_diary(name, notes)

        del session.__wrapped__  # it has three arguments
        SCENARIOS[name] = (session, steps, pieces)
        return session

    return mark


async def attempt(note, what, awaitable):
    """Note what is returned or raised."""
    try:
        result = await awaitable
    except Exception as error:
        note(what, *told(error))
        return None
    note(what, result.decode("latin-1") if isinstance(result, bytes) else result)
    return result


def attempt_now(note, what, call, *arguments, **options):
    try:
        result = call(*arguments, **options)
    except Exception as error:
        note(what, type(error).__name__)
    else:
        note(what, result if isinstance(result, (int, str, float, type(None))) else type(result).__name__)


async def calm(writer):
    """Wait until all that the peer has sent for now has been received."""
    size = array.array("i", [0])
    quiet = 0
    while quiet < 5:
        await asyncio.sleep(0.01)  # asks again: what has been received is no event
        fcntl.ioctl(writer.get_extra_info("socket").fileno(), termios.FIONREAD, size)
        quiet = 0 if size[0] else quiet + 1


# ---- lines


@scenario(b"one\ntwo\r\n\nthree", EOF)
async def readline_to_the_end(reader, writer, note):
    while line := await reader.readline():
        note(line.decode())
    note("eof", reader.at_eof())
    await attempt(note, "again", reader.readline())


@scenario(b"one\ntwo\n\nthree", EOF)
async def async_for(reader, writer, note):
    async for line in reader:
        note(line.decode())
        writer.write(line.upper())
    note("eof", reader.at_eof())


@scenario(b"a\nb\n", EOF)
async def aiter_by_hand(reader, writer, note):
    lines = reader.__aiter__()
    note("itself", lines is reader)
    note((await lines.__anext__()).decode())
    note((await anext(lines)).decode())
    try:
        await anext(lines)
    except StopAsyncIteration:
        note("stop")


@scenario(Await(5), b"line\n", EOF)
async def iteration_goes_on_after_a_timeout(reader, writer, note):
    lines = reader.__aiter__()
    try:
        await asyncio.wait_for(lines.__anext__(), 0.02)
    except TimeoutError:
        note("timeout")
    writer.write(b"tick\n")
    note((await lines.__anext__()).decode())


@scenario(Await(5), b"line\n", EOF)
async def readline_goes_on_after_a_timeout(reader, writer, note):
    for _ in range(3):
        await attempt(note, "line", asyncio.wait_for(reader.readline(), 0.02))
    writer.write(b"tick\n")
    await attempt(note, "line", reader.readline())


@scenario(b"one\n", Await(5), b"two\n", EOF)
async def anext_as_a_task(reader, writer, note):
    note((await asyncio.create_task(reader.__anext__())).decode())
    task = asyncio.create_task(reader.__anext__())
    await asyncio.sleep(0)
    writer.write(b"tick\n")
    note((await task).decode())


@scenario(b"x" * 70_000 + b"\nnext\n", EOF, pieces=False)
async def a_line_that_is_too_long(reader, writer, note):
    await calm(writer)
    try:
        await reader.readline()
    except ValueError as error:
        note(
            str(error)
            in (
                "Separator is found, but chunk is longer than limit",
                "Separator is not found, and chunk exceed the limit",
            )
        )
    writer.write(b"sorry\n")


@scenario(b"ok\n" + b"x" * 66_000 + b"\nnext\n", EOF, pieces=False)
async def goes_on_behind_a_line_that_is_too_long(reader, writer, note):
    await calm(writer)
    note((await reader.readline()).decode())
    await attempt(note, "long", reader.readline())
    await attempt(note, "next", reader.readline())
    note("eof", (await reader.read()).decode())


@scenario(b"3\nabc5\nhello0\n", EOF)
async def a_length_then_bytes(reader, writer, note):
    while line := await reader.readline():
        note((await reader.readexactly(int(line))).decode())


@scenario(b"100000\n" + b"z" * 100_000, EOF, pieces=False)
async def a_length_a_pause_then_many_bytes(reader, writer, note):
    size = int(await reader.readline())
    await calm_for(writer, 0.05)
    note(len(await reader.readexactly(size)))
    note("eof", (await reader.read()).decode(), reader.at_eof())


async def calm_for(writer, seconds):
    """Await something else: the peer's bytes go on coming, as far as they are taken."""
    await asyncio.sleep(seconds)


# ---- until


@scenario(b"a;b;;c", EOF)
async def readuntil_a_byte(reader, writer, note):
    for _ in range(3):
        await attempt(note, "until", reader.readuntil(b";"))
    try:
        await reader.readuntil(b";")
    except asyncio.IncompleteReadError as error:
        note("partial", error.partial.decode(), error.expected)


@scenario(b"headers\r\nmore\r\n\r\nbody", EOF)
async def readuntil_several_bytes(reader, writer, note):
    await attempt(note, "until", reader.readuntil(b"\r\n\r\n"))
    await attempt(note, "rest", reader.read())


@scenario(b"line\nrest", EOF)
async def readuntil_without_argument(reader, writer, note):
    await attempt(note, "until", reader.readuntil())
    await attempt(note, "until", reader.readuntil())


@scenario(b"line\nrest", EOF)
async def readuntil_nothing(reader, writer, note):
    await attempt(note, "until", reader.readuntil(b""))
    await attempt(note, "line", reader.readline())


@scenario(b"a;b\nc,d\n", EOF)
async def readuntil_one_of_several(reader, writer, note):
    for _ in range(4):
        try:
            note((await reader.readuntil((b";", b"\n", b","))).decode())
        except TypeError:
            note("TypeError", sys.version_info < (3, 13))


@scenario(b"y" * 66_000 + b";after", EOF, pieces=False)
async def readuntil_too_far(reader, writer, note):
    await calm(writer)
    try:
        await reader.readuntil(b";")
    except asyncio.LimitOverrunError as error:
        note("overrun", error.consumed > 60_000)
    note(len(await reader.readexactly(66_001)))
    await attempt(note, "rest", reader.read())


# ---- exactly


@scenario(b"abcdefgh", EOF)
async def readexactly_in_turn(reader, writer, note):
    for n in (1, 0, 2, 5):
        await attempt(note, n, reader.readexactly(n))
    await attempt(note, "none", reader.readexactly(0))


@scenario(b"abc", EOF)
async def readexactly_too_many(reader, writer, note):
    try:
        await reader.readexactly(10)
    except asyncio.IncompleteReadError as error:
        note(error.partial.decode(), error.expected, str(error))
    note("eof", reader.at_eof())


@scenario(b"abc", EOF)
async def readexactly_less_than_none(reader, writer, note):
    await attempt(note, -1, reader.readexactly(-1))
    await attempt(note, 3, reader.readexactly(3))


@scenario(b"q" * 300_000, EOF, pieces=False)
async def readexactly_much_and_at_eof_by_polling(reader, writer, note):
    await asyncio.sleep(0.05)
    note(len(await reader.readexactly(300_000)))
    for _ in range(500):
        if reader.at_eof():
            break
        await asyncio.sleep(0.01)
    note("eof", reader.at_eof())


@scenario(b"ab\ncd\n", EOF)
async def lines_and_bytes_in_turn(reader, writer, note):
    await attempt(note, "line", reader.readline())
    await attempt(note, "one", reader.readexactly(1))
    await attempt(note, "line", reader.readline())
    await attempt(note, "line", reader.readline())


# ---- read


@scenario(b"hello", EOF)
async def read_all(reader, writer, note):
    await attempt(note, "all", reader.read())
    await attempt(note, "again", reader.read())
    await attempt(note, "some", reader.read(10))
    note("eof", reader.at_eof())


@scenario(b"hello", EOF)
async def read_none(reader, writer, note):
    await attempt(note, "none", reader.read(0))
    await attempt(note, "all", reader.read(-1))


@scenario(b"hello\nworld", EOF)
async def read_some(reader, writer, note):
    said = b""
    while some := await reader.read(3):
        if not 1 <= len(some) <= 3:
            note("some", len(some))
        said += some
    writer.write(said)
    await writer.drain()


@scenario(EOF)
async def nothing_at_all(reader, writer, note):
    await attempt(note, "line", reader.readline())
    await attempt(note, "all", reader.read())
    await attempt(note, "exactly", reader.readexactly(1))
    await attempt(note, "until", reader.readuntil(b"x"))


@scenario(Await(2), b"abc", EOF)
async def two_readers_at_once(reader, writer, note):
    first = asyncio.ensure_future(reader.readexactly(100))
    await asyncio.sleep(0)
    for other in (reader.readline, reader.read, reader.readuntil, functools.partial(reader.readexactly, 500)):
        try:
            await other()
        except RuntimeError as error:
            note(str(error))
        except asyncio.IncompleteReadError as error:
            note("incomplete", error.expected)
    writer.write(b"ok")
    await attempt(note, "first", first)


# ---- the reader's own hooks


@scenario(b"from the peer\n", EOF)
async def feed_data_by_hand(reader, writer, note):
    await calm(writer)
    reader.feed_data(b"fed\nand ")
    for _ in range(3):
        await attempt(note, "line", reader.readline())


@scenario(Await(2))
async def feed_eof_by_hand(reader, writer, note):
    reader.feed_data(b"part")
    reader.feed_eof()
    note("eof", reader.at_eof())
    await attempt(note, "line", reader.readline())
    note("eof", reader.at_eof())
    try:
        reader.feed_data(b"late")
    except AssertionError as error:
        note(str(error))
    writer.write(b"ok")


@scenario(b"abc\n", EOF)
async def set_exception_by_hand(reader, writer, note):
    await calm(writer)
    reader.set_exception(KeyError("mine"))
    note(type(reader.exception()).__name__)
    for call in (reader.readline, reader.read, reader.readuntil, functools.partial(reader.readexactly, 1)):
        await attempt(note, "raises", call())


@scenario(EOF)
async def types(reader, writer, note):
    note(isinstance(reader, asyncio.StreamReader), isinstance(writer, asyncio.StreamWriter))
    note(isinstance(writer.transport, asyncio.Transport), isinstance(writer.transport, asyncio.BaseTransport))
    protocol = writer.transport.get_protocol()
    note(isinstance(protocol, asyncio.StreamReaderProtocol), isinstance(protocol, asyncio.Protocol))
    note(reader.exception(), asyncio.iscoroutinefunction(reader.readline))
    attempt_now(note, "set_transport", reader.set_transport, writer.transport)
    note(asyncio.current_task() is not None, asyncio.get_running_loop() is asyncio.get_event_loop())


# ---- writing


@scenario(EOF)
async def write_what(reader, writer, note):
    for thing in (b"a", bytearray(b"b"), memoryview(b"c"), b""):
        attempt_now(note, "write", writer.write, thing)
    for thing in ("text", None, 5, [b"x"], array.array("B", b"d")):
        attempt_now(note, "write", writer.write, thing)


@scenario(EOF)
async def writelines_what(reader, writer, note):
    attempt_now(note, "lines", writer.writelines, [b"a\n", bytearray(b"b\n"), memoryview(b"c\n")])
    attempt_now(note, "lines", writer.writelines, [])
    attempt_now(note, "lines", writer.writelines, (b"%d" % i for i in range(5)))
    wrong = [b"x", "text"] if sys.version_info < (3, 15) else ["text", b"x"]  # 3.15's keeps the x, and never ends
    attempt_now(note, "lines", writer.writelines, wrong)
    attempt_now(note, "lines", writer.writelines, ["text"])


@scenario(EOF)
async def drain_in_every_way(reader, writer, note):
    writer.write(b"a")
    note(await writer.drain())
    note(await asyncio.create_task(writer.drain()))
    writer.write(b"b")
    note(await asyncio.gather(writer.drain(), writer.drain()))
    note(await asyncio.wait_for(writer.drain(), 5))
    writer.write(b"c")
    note(await asyncio.shield(writer.drain()))
    async with asyncio.TaskGroup() as group:
        group.create_task(writer.drain())
    writer.write(b"d")
    note(asyncio.iscoroutine(waiting := writer.drain()))
    await waiting


@scenario(b"go", Await(1 << 20), EOF, pieces=False)
async def write_much(reader, writer, note):
    await reader.readexactly(2)
    for _ in range(16):
        writer.write(bytes(65_536))
        await writer.drain()
    note("written")


@scenario(b"x", EOF)
async def write_eof_then_read(reader, writer, note):
    note(writer.can_write_eof())
    writer.write(b"last")
    attempt_now(note, "eof", writer.write_eof)
    attempt_now(note, "eof again", writer.write_eof)
    attempt_now(note, "write", writer.write, b"more")
    await attempt(note, "drain", writer.drain())
    await attempt(note, "read", reader.read())
    note(writer.is_closing())


@scenario(Await(5), EOF, pieces=False)
async def close_and_wait(reader, writer, note):
    writer.write(b"hello")
    note(writer.is_closing())
    writer.close()
    note(writer.is_closing())
    writer.close()
    began = asyncio.get_running_loop().time()
    await attempt(note, "closed", writer.wait_closed())
    note(asyncio.get_running_loop().time() - began < 2)
    await attempt(note, "closed", writer.wait_closed())


@scenario(EOF)
async def after_the_end(reader, writer, note):
    writer.close()
    await writer.wait_closed()
    await attempt(note, "drain", writer.drain())
    attempt_now(note, "write", writer.write, b"x")
    attempt_now(note, "close", writer.close)
    attempt_now(note, "size", writer.transport.get_write_buffer_size)
    note(writer.transport.is_closing(), writer.transport.is_reading())
    note(reader.exception(), reader.at_eof())
    await attempt(note, "read", reader.read())


@scenario(b"x\n", EOF)
async def extra_info(reader, writer, note):
    info = writer.get_extra_info
    note(type(info("peername")).__name__, type(info("sockname")).__name__)
    note(info("unknown"), info("unknown", 5), info("sslcontext"), info("peercert"), info("ssl_object"))
    sock = info("socket")
    note(type(sock).__name__, sock.gettimeout(), sock.getsockname() == info("sockname"), int(sock.type))
    attempt_now(note, "blocking", sock.setblocking, True)
    attempt_now(note, "timeout", sock.settimeout, 5)
    note(hasattr(sock, "recv"), sock.fileno() >= 0)


@scenario(b"x\n", EOF)
async def extra_info_after_the_end(reader, writer, note):
    before = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
    while await reader.readline():
        pass
    writer.close()
    await writer.wait_closed()
    note((writer.get_extra_info("peername"), writer.get_extra_info("sockname")) == before)
    note(writer.get_extra_info("unknown", 7))
    note(writer.get_extra_info("socket").fileno())


@scenario(b"one", RESET)
async def a_reset(reader, writer, note):
    try:
        while await reader.read(100):
            pass
        note("end")
    except ConnectionResetError:
        note("reset")
    note(reader.exception() is None or type(reader.exception()).__name__)


@scenario(b"go", RESET)
async def writes_into_a_reset(reader, writer, note):
    await reader.readexactly(2)
    try:
        for _ in range(10_000):
            writer.write(bytes(10_000))
            await writer.drain()
            await asyncio.sleep(0.001)
    except ConnectionError as error:
        note("lost", isinstance(error, OSError))


@scenario(b"abc", Await(3), EOF, pieces=False)
async def abort(reader, writer, note):
    await reader.readexactly(3)
    writer.write(b"abc")
    await calm(writer)
    writer.transport.abort()
    note(writer.is_closing())
    await attempt(note, "closed", writer.wait_closed())
    await attempt(note, "drain", writer.drain())


# ---- the transport behind it


@scenario(b"before;after", EOF)
async def pause_and_resume_by_hand(reader, writer, note):
    transport = writer.transport
    note(transport.is_reading())
    transport.pause_reading()
    note(transport.is_reading())
    transport.pause_reading()
    transport.resume_reading()
    transport.resume_reading()
    note(transport.is_reading())
    await attempt(note, "all", reader.read())


@scenario(EOF)
async def water_marks(reader, writer, note):
    transport = writer.transport
    for high, low in ((1000, 100), (1000, None), (None, 100), (0, 0), (None, None)):
        transport.set_write_buffer_limits(high=high, low=low)
        note(transport.get_write_buffer_limits())
    attempt_now(note, "wrong", transport.set_write_buffer_limits, high=1, low=2)


class Upper(asyncio.Protocol):
    def __init__(self, transport, note, done):
        self.transport, self.note, self.done = transport, note, done

    def data_received(self, data):
        self.transport.write(data.upper())

    def eof_received(self):
        self.note("eof")
        self.done.set_result(None)

    def connection_lost(self, exc):
        self.note("lost", exc)


@scenario(b"first\n", Await(2), b"second", Await(8), EOF)
async def set_protocol(reader, writer, note):
    await attempt(note, "line", reader.readline())
    done = asyncio.get_running_loop().create_future()
    before = writer.transport.get_protocol()
    upper = Upper(writer.transport, note, done)
    writer.transport.set_protocol(upper)
    note(writer.transport.get_protocol() is upper, before is not upper)
    writer.write(b"ok")
    await done


@scenario(b"go", Await(40_000), EOF, pieces=False)
async def sendfile(reader, writer, note):
    await reader.readexactly(2)
    sent = await asyncio.get_running_loop().sendfile(writer.transport, io.BytesIO(b"f" * 40_000))
    note(sent)
    writer.write(b"")
    await attempt(note, "rest", reader.read())


@scenario(b"go", Await(60), EOF, pieces=False)
async def sendfile_a_part(reader, writer, note):
    await reader.readexactly(2)
    writer.write(b"before")
    sent = await asyncio.get_running_loop().sendfile(writer.transport, io.BytesIO(bytes(range(100))), 40, 50)
    note(sent)
    writer.write(b"last")
    await attempt(note, "rest", reader.read())


# ---- tasks and time


@scenario(b"a\nb\n", EOF)
async def a_task_that_reads(reader, writer, note):
    queue = asyncio.Queue()

    async def read():
        async for line in reader:
            await queue.put(line)
        await queue.put(None)

    async with asyncio.TaskGroup() as group:
        group.create_task(read())
        while line := await queue.get():
            note(line.decode())


@scenario(b"x", EOF)
async def time_outs(reader, writer, note):
    await reader.readexactly(1)
    try:
        async with asyncio.timeout(0.02):
            await asyncio.sleep(5)
    except TimeoutError:
        note("timeout")
    note(await asyncio.to_thread(lambda: "thread"))
    loop = asyncio.get_running_loop()
    called = loop.create_future()
    loop.call_later(0.01, called.set_result, "later")
    note(await called)
    loop.call_soon_threadsafe(note, "soon")
    await asyncio.sleep(0)
    note(await loop.run_in_executor(None, str, 5))


@scenario(b"x", EOF)
async def raises(reader, writer, note):
    await reader.readexactly(1)
    writer.write(b"before")
    raise LookupError("on purpose")


@scenario(b"stop\n", EOF)
async def cancels_itself(reader, writer, note):
    task = asyncio.current_task()
    asyncio.get_running_loop().call_soon(task.cancel)
    try:
        await asyncio.sleep(5)
    except asyncio.CancelledError:
        note("cancelled", task.cancelling())
        task.uncancel()
    await attempt(note, "line", reader.readline())
