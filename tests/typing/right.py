# SPDX-License-Identifier: MIT
"""Forty handlers that run, and that type checkers accept."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import sockd

# 1 to 10: functions of bytes
plain = sockd.Service()
limited = sockd.Service(framing=sockd.Line(8192), idle_timeout=300, max_connections=100, goodbye=b"bye")
netstrings = sockd.Service(framing=sockd.Netstring(100), blocking=True)
several = sockd.Service(max_in_flight=4, datagram_lines=True)


@plain.frame
def r01(line: bytes) -> bytes:
    return line.upper()


@limited.frame
def r02(line: bytes) -> bytes | None:
    return line or None


@netstrings.frame
def r03(frame: bytes) -> bytearray:
    return bytearray(frame)


@sockd.Service().frame
def r04(line: bytes) -> memoryview:
    return memoryview(line)


@sockd.Service().frame
def r05(line: bytes) -> None:
    assert line


@sockd.Service().frame
def r06(line: bytes, connection: sockd.Connection) -> bytes:
    return connection.peer.encode() + line


@sockd.Service().frame
def r07(line: bytes, connection: sockd.Connection) -> None:
    connection.reply(line)


@sockd.Service().frame
def r08(line: bytes, connection: sockd.Connection) -> bytes | None:
    connection.write(line)
    connection.call_later(1.0, connection.close)
    return None


@sockd.Service().frame
def r09(line: bytes, *, word: bytes = b"") -> bytes:
    return word + line


r10 = sockd.Service().frame(bytes.upper)


# 11 to 15: coroutine functions of bytes
@several.frame
async def r11(line: bytes) -> bytes:
    await asyncio.sleep(0)
    return line


@sockd.Service().frame
async def r12(line: bytes) -> bytes | None:
    return None


@sockd.Service().frame
async def r13(line: bytes, connection: sockd.Connection) -> bytes:
    return line


@sockd.Service().frame
async def r14(line: bytes, connection: sockd.Connection) -> None:
    connection.reply(b"x")


@sockd.Service().frame
async def r15(line: bytes) -> None: ...


# 16 to 22: text
@sockd.Service(text="utf-8").frame
def r16(line: str) -> str:
    return line.upper()


@sockd.Service(text="utf-8").frame
def r17(line: str) -> str | None:
    return line or None


@sockd.Service(text="utf-8", idle_timeout=5).frame
def r18(line: str, connection: sockd.Connection) -> str:
    return line


@sockd.Service(text="latin-1", framing=sockd.Nul(100)).frame
def r19(line: str) -> bytes:
    return line.encode()


@sockd.Service(text="utf-8").frame
async def r20(line: str) -> str:
    return line


@sockd.Service(text="utf-8").frame
async def r21(line: str, connection: sockd.Connection) -> str | None:
    return None


@sockd.Service(text="utf-8").frames
def r22(lines: list[str]) -> list[str]:
    return [line.upper() for line in lines]


# 23 to 26: records
@sockd.Service(framing=sockd.Record("!IH")).frame
def r23(values: tuple[Any, ...]) -> tuple[int, int]:
    return values[0], values[1]


@sockd.Service(framing=sockd.Record("!IH")).frame
def r24(values: tuple[Any, ...], connection: sockd.Connection) -> tuple[Any, ...] | None:
    return None


@sockd.Service(framing=sockd.Record("!IH"), max_connections=5).frame
async def r25(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return values


@sockd.Service(framing=sockd.Record("!IH")).frames
def r26(records: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return records


# 27 to 29: batches
@sockd.Service().frames
def r27(lines: list[bytes]) -> list[bytes | None]:
    return [line or None for line in lines]


@sockd.Service().frames
def r28(lines: list[bytes]) -> bytes:
    return b"".join(lines)


@sockd.Service().frames
def r29(lines: list[bytes]) -> list[bytes]:
    return lines


# 30 to 32: sessions
@sockd.Service().session
async def r30(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async for line in reader:
        writer.write(line)
        await writer.drain()


@sockd.Service(framing=sockd.Raw()).session
async def r31(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    return len(await reader.read())


class Session:
    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())


r32 = sockd.Service().session(Session())


# 33 to 38: protocols
@sockd.Service().connect
class R33(sockd.LineProtocol):
    def line_received(self, line: bytes) -> None:
        self.send_line(line)


@sockd.Service(text="utf-8").connect
class R34(sockd.LineProtocol):
    def line_received(self, line: str) -> None:
        self.send_line(line.upper())


@sockd.Service().connect
class R35(asyncio.Protocol):
    def data_received(self, data: bytes) -> None: ...


@sockd.Service().connect
class R36(asyncio.DatagramProtocol):
    def datagram_received(self, data: bytes, addr: Any) -> None: ...


class Greeter(asyncio.Protocol):
    def __init__(self, word: bytes) -> None:
        self.word = word


r37 = sockd.Service().connect(lambda: Greeter(b"hello"))
r38 = sockd.Service().connect(partial(Greeter, b"hello"))


# 39, 40: hooks
@plain.startup
async def r39() -> None: ...


@plain.shutdown
def r40() -> int:
    return 0
