# SPDX-License-Identifier: MIT
"""The C core seen from the buffers: framings as C values, errors of system calls.

A `sb_framing` is filled in once and only read after that.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sockd import _sockbuf
from sockd._sockbuf import ffi, lib
from sockd.wire.framing import (
    BlankLine,
    Datagram,
    Delimiter,
    DotBlock,
    Fixed,
    Line,
    Netstring,
    Nul,
    OctetCount,
    Prefix,
    Raw,
    StrictLine,
    Varint,
)

if TYPE_CHECKING:
    from sockd.wire.framing import AnyFraming

    Data = bytes | bytearray | memoryview

FrameCutter = _sockbuf.FrameCutter
FrameEncoder = _sockbuf.FrameEncoder
DatagramCalls = _sockbuf.DatagramCalls
FrameExchange = _sockbuf.FrameExchange

_BY_LIMIT = {
    Raw: lib.sb_framing_raw,
    Datagram: lib.sb_framing_datagram,
    Line: lib.sb_framing_line,
    StrictLine: lib.sb_framing_crlf,
    Nul: lib.sb_framing_nul,
    Netstring: lib.sb_framing_netstring,
    Varint: lib.sb_framing_varint,
    DotBlock: lib.sb_framing_dot_block,
    BlankLine: lib.sb_framing_blank_line,
}


def description(framing: AnyFraming) -> Any:  # noqa: ANN401 - a cffi pointer
    """Describe a framing to the C core: a `sb_framing *` that owns its memory.

    Raises:
        ValueError: the limit is larger than memory can be.
        TypeError: it is not a framing.
    """
    made = ffi.new("sb_framing *")
    try:
        code = _fill(framing, made)
    except OverflowError:
        code = lib.SB_ERR_INVALID
    if code < 0:
        raise ValueError(f"the limit is more than {lib.sb_framing_limit_max()} bytes: {framing!r}")
    return made


def _fill(framing: AnyFraming, made: Any) -> int:  # noqa: ANN401
    match framing:
        case Delimiter(limit, delimiter):
            return int(lib.sb_framing_delimiter(delimiter, len(delimiter), limit, made))
        case Prefix(limit, width, order, includes_header):
            number = lib.SB_ORDER_BIG if order == "big" else lib.SB_ORDER_LITTLE
            return int(lib.sb_framing_prefix(width, number, includes_header, limit, made))
        case OctetCount(limit, mixed):
            return int(lib.sb_framing_octet_count(mixed, limit, made))
        case Fixed(size):
            return int(lib.sb_framing_fixed(size, made))
        case _:
            make = _BY_LIMIT.get(type(framing))
            if make is None:
                raise TypeError(f"{framing!r} is not a framing; a framing has its limit, such as Line(8192)")
            return int(make(framing.max_bytes, made))


def plain(data: Data) -> bytes | memoryview:
    """Return bytes-like data as an object whose len() is its number of bytes: an array's elements may have several.

    Pass it to C within the call, `lib.f(ffi.from_buffer(data))`, without giving that a name.  In a frame that a
    traceback keeps, collecting a cycle may clear the memoryview before the object that borrows from it, and CPython
    before 3.12.4 then crashes with SIGSEGV (https://github.com/python/cpython/issues/77894).

    Raises:
        TypeError: they are not bytes-like.
    """
    if type(data) is bytes:
        return data
    view = memoryview(data)
    return view.cast("B") if view.c_contiguous and view.nbytes else view.tobytes()


def receive(descriptor: int, size: int) -> bytes:
    """Read up to `size` bytes from a descriptor of any kind, without waiting.

    Returns:
        The bytes; none at the end of the stream.

    Raises:
        BlockingIOError: no data yet.
        OSError: as recv(2) and read(2).
    """
    room = ffi.new("char[]", size)
    n = lib.sb_receive(descriptor, room, size)
    if n >= 0:
        return bytes(ffi.buffer(room, n))
    if n == lib.SB_ERR_END:
        return b""
    raise _system_error()


def send(descriptor: int, data: Data) -> int:
    """Write to a descriptor of any kind, without waiting and without SIGPIPE.

    Returns:
        The number of bytes written.

    Raises:
        BlockingIOError: nothing can be written now.
        OSError: as send(2) and write(2).
    """
    if type(data) is not bytes:
        data = plain(data)
    n = int(lib.sb_send(descriptor, ffi.from_buffer(data), len(data)))
    if n < 0:
        raise _system_error()
    return n


def _system_error() -> OSError:
    return OSError(ffi.errno, os.strerror(ffi.errno))
