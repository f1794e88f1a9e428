# SPDX-License-Identifier: MIT
"""Forty handlers that fail, or that are refused, and that type checkers refuse: an error within each block."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import sockd


# w01
@sockd.Service().frame
def w01(line: bytes) -> str:
    return "text"


# w02
@sockd.Service().frame
def w02(line: str) -> bytes:
    return b""


# w03
@sockd.Service().frame
def w03() -> bytes:
    return b""


# w04
@sockd.Service().frame
def w04(line: bytes, connection: sockd.Connection, more: int) -> bytes:
    return line


# w05
@sockd.Service().frame
def w05(line: bytes) -> int:
    return 5


# w06
@sockd.Service().frame
def w06(line: bytes) -> list[bytes]:
    return [line]


# w07
@sockd.Service().frame
async def w07(line: bytes) -> str:
    return "text"


# w08
@sockd.Service().frame
async def w08(line: str) -> bytes:
    return b""


# w09
@sockd.Service().frame
def w09(line: bytes, connection: str) -> bytes:
    return line


# w10
@sockd.Service().frame
def w10(line: bytes, *, word: bytes) -> bytes:
    return word


# w11
@sockd.Service(text="utf-8").frame
def w11(line: bytes) -> bytes:
    return line


# w12
@sockd.Service(text="utf-8").frame
def w12(line: str) -> int:
    return 5


# w13
@sockd.Service(text="utf-8").frame
async def w13(line: bytes) -> str:
    return ""


# w14
@sockd.Service(text="utf-8").frames
def w14(lines: list[bytes]) -> list[bytes]:
    return lines


# w15
@sockd.Service(framing=sockd.Record("!I")).frame
def w15(values: bytes) -> tuple[int]:
    return (1,)


# w16
@sockd.Service(framing=sockd.Record("!I")).frame
def w16(values: tuple[Any, ...]) -> bytes:
    return b""


# w17
@sockd.Service().frames
def w17(line: bytes) -> bytes:
    return line


# w18
@sockd.Service().frames
def w18(lines: list[bytes]) -> list[str]:
    return []


# w19
@sockd.Service().frames
async def w19(lines: list[bytes]) -> list[bytes]:
    return lines


# w20
@sockd.Service().frames
def w20(lines: list[str]) -> list[bytes]:
    return []


# w21
@sockd.Service().session
def w21(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None: ...


# w22
@sockd.Service().session
async def w22(reader: asyncio.StreamReader) -> None: ...


# w23
@sockd.Service().session
async def w23(reader: asyncio.StreamWriter, writer: asyncio.StreamReader) -> None: ...


# w24
@sockd.Service().session
async def w24(line: bytes, connection: sockd.Connection) -> bytes:
    return line


# w25
class Greeter(asyncio.Protocol):
    def __init__(self, word: bytes) -> None:
        self.word = word


sockd.Service().connect(Greeter)

# w26
sockd.Service().connect(partial(Greeter, 5))

# w27
sockd.Service().connect(lambda word: Greeter(word + b"!"))

# w28
sockd.Service().connect(5)

# w29
sockd.Service(text=5)

# w30
sockd.Service(framing="line")

# w31
sockd.Service(idle_timeout="5s")

# w32
sockd.Service(no_such_option=1)

# w33
sockd.Service(goodbye="bye")

# w34
sockd.Service(framing=sockd.Record("!I"), text="utf-8")

# w35
sockd.Service().startup(lambda one: one)

# w36
last_words = sockd.Close(7)

# w37
sockd.Servce()

# w38
sockd.Service().frame(5)

# w39
sockd.Service().frame(str.upper)


# w40
class Lines(sockd.LineProtocol):
    def line_received(self) -> None: ...
