# SPDX-License-Identifier: MIT
"""The types of the extension that are written in C: no reference is lost or kept, and no misuse ends the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sockd import _sockbuf
from sockd.buffer import BufferFull, Line, Netstring, PayloadError, ReceiveBuffer, encode, encode_all
from sockd.buffer.encoder import KEPT, PayloadEncoder, encoder_for

CALLS = """
import gc, sys
from sockd.buffer import *
from sockd.buffer.encoder import PayloadEncoder
from sockd.net.connection.codec import make_codec

piece, mail = b"abc\\r\\ndef\\nghi", b"..a\\r\\n.\\r\\n"
long, typical = b"x" * 300, [b"abc", b"x" * 300]

def receive():
    buffer = ReceiveBuffer(Line(100))
    for _ in range(100):
        buffer.feed(piece)
        buffer.feed(bytearray(b"jkl\\nmno\\n"))
        for line in buffer:
            break
        buffer.check()
        buffer.pop()
        next(buffer.views())
        list(buffer.views())
        list(buffer)
        buffer.unread()

def refuse():
    buffer = ReceiveBuffer(Line(2))
    for _ in range(100):
        buffer.feed(piece)
        try:
            list(buffer)
        except TooLong:
            buffer.discard()
        try:
            buffer.feed(bytes(300_000))
        except BufferFull:
            pass
        try:
            buffer.feed("text")
        except TypeError:
            pass
        buffer.framing = DotBlock(100)
        buffer.unread()
        buffer.feed(mail)
        assert buffer.pop() == b".a\\r\\n"
        buffer.feed(mail)
        assert next(buffer.views()) == b".a\\r\\n"
        buffer.framing = Line(2)

def send():
    encoders = [PayloadEncoder(one) for one in (Line(100), Line(100, b"\\r\\n"), Netstring(1000), DotBlock(1000))]
    encoders.append(make_codec(Netstring(1000), None, wire=False))
    for _ in range(100):
        for encoder in encoders:
            encoder.encode(b"abc")
            encoder.encode(bytearray(b"abc"))
            try:
                encoder.encode(long)
            except PayloadError:
                pass
            try:
                encoder.encode(None)
            except TypeError:
                pass
            if isinstance(encoder, PayloadEncoder):
                encoder.encode_all([b"abc"] * 3)
                try:
                    encoder.encode_all(typical)
                except PayloadError:
                    pass
                encoder.encode_all((memoryview(b"abc"), b""))

limits = (Raw, Line, StrictLine, Nul, Netstring, Varint, DotBlock, BlankLine, OctetCount)
framings = [*(kind(100) for kind in limits), Delimiter(100, b"||"), Fixed(3), Prefix(100, 2)]

def all_framings():
    # fed at once and by pieces, iterated, popped, as views, and encoded one by one and together
    for framing in framings:
        payload = {BlankLine: b"ab\\n", DotBlock: b"a\\r\\n"}.get(type(framing), b"abc")
        data, buffer = encode_all(framing, [payload] * 20), ReceiveBuffer(framing)
        for _ in range(20):
            buffer.feed(data)
            list(buffer)
            buffer.feed(data[:9])
            buffer.pop()
            buffer.feed(data[9:])
            list(buffer.views())
            buffer.unread()
            encode(framing, payload)
            for wrong in (None, "text", 7, payload * 200):
                try:
                    encode_all(framing, [payload, wrong])
                except (TypeError, PayloadError):
                    pass

def blocks(rounds):
    for _ in range(rounds):
        receive(), refuse(), send(), all_framings()
    gc.collect()
    return getattr(sys, "gettotalrefcount", sys.getallocatedblocks)()

# From CPython 3.14 on the reference count of None (PEP 683) means nothing: the interpreter does not count down what
# extensions of the stable ABI of 3.11 have counted up.
counted = None if sys.version_info < (3, 14) else framings

def references():
    return [sys.getrefcount(one) for one in (piece, mail, long, typical, counted, ReceiveBuffer, PayloadEncoder)]

blocks(20)
held, counts = blocks(1), references()
print(blocks(50) - held, *(after - before for before, after in zip(counts, references(), strict=True)))
"""


def test_a_million_calls_lose_and_keep_no_reference():
    """22,000 calls a round, 50 rounds.  What one kind of call in a hundred keeps is above 1,000; caches are below."""
    done = subprocess.run([sys.executable, "-c", CALLS], capture_output=True, text=True, timeout=110, cwd="/")
    assert done.returncode == 0, done.stderr
    blocks, *references = map(int, done.stdout.split())
    assert abs(blocks) < 1000
    assert max(map(abs, references)) < 1000, references


def test_an_object_that_was_not_made_whole_is_no_danger():
    buffer = ReceiveBuffer.__new__(ReceiveBuffer)
    assert buffer.pop() is None
    assert (list(buffer), buffer.held, buffer.unread()) == ([], 0, b"")
    with pytest.raises(ValueError, match="no frame was reported"):
        buffer.discard()
    with pytest.raises(BufferFull):
        buffer.feed(b"x")
    bare = _sockbuf.FrameCutter()
    with pytest.raises(AttributeError, match="_refuse"):
        bare.feed(b"x")
    with pytest.raises(AttributeError, match="_refuse"):
        _sockbuf.FrameEncoder().encode(b"x" * 100)
    for one in (bare, _sockbuf.FrameEncoder()):
        with pytest.raises(TypeError, match="not the bytes of a sb_framing"):
            one._use(b"short")


@pytest.mark.parametrize("kind", [_sockbuf.FrameCutter, _sockbuf.FrameEncoder])
def test_a_hook_that_raises_nothing_is_found_out(kind):
    class Silent(kind):
        def _refuse(self, *values):
            return None

        def _as_bytes(self, payload):
            return "text"

    with pytest.raises((SystemError, TypeError), match=r"_refuse\(\) has raised|_as_bytes\(\) has not returned bytes"):
        Silent().feed(b"x") if kind is _sockbuf.FrameCutter else Silent().encode("x")


def test_the_loop_is_the_buffer_itself():
    """So a loop costs no object."""
    buffer = ReceiveBuffer(Line(10))
    buffer.feed(b"a\nb\n")
    assert iter(buffer) is buffer
    assert [next(buffer), *buffer] == [b"a", b"b"]


def test_an_encoder_is_made_once_for_a_framing():
    framing = Netstring(10)
    assert encoder_for(framing) is encoder_for(framing)
    for number in range(3 * KEPT):  # each is gone when the next one is made
        assert encode(Netstring(number), b"x" * number) == b"%d:%b," % (number, b"x" * number)
        with pytest.raises(PayloadError):
            encode(Netstring(number), b"x" * (number + 1))


@pytest.mark.parametrize("framing", [Line(5), Line(5, b"\r\n"), Line(5, "same"), Netstring(5)], ids=str)
def test_all_at_once_is_what_one_by_one_is(framing):
    payloads = [b"", b"abcde", b"a\rb", b"abc"]
    one_by_one = b"".join([encode(framing, payload) for payload in payloads])
    assert encode_all(framing, payloads) == one_by_one
    assert encode_all(framing, tuple(map(bytearray, payloads))) == one_by_one
    assert encode_all(framing, []) == b""
    for bad in ([b"abc", b"abcdef"], [b"abcdef", None]):
        with pytest.raises(PayloadError, match="6 bytes exceed the limit"):
            encode_all(framing, bad)
    with pytest.raises(TypeError):
        encode_all(framing, [b"abc", "abc"])
    with pytest.raises(TypeError, match="not 'tuple'"):  # a tuple is one value, not several
        encode(framing, (b"abc",))


def test_it_is_one_extension_for_every_python():
    path = Path(_sockbuf.__file__)
    if not path.name.endswith(".abi3.so"):
        pytest.skip("this Python has no stable ABI")
    assert {one.name for one in path.parent.glob("*.so")} == {path.name}


def test_an_encoder_refuses_what_is_no_framing():
    with pytest.raises(TypeError, match="not a framing"):
        PayloadEncoder(5)
