# SPDX-License-Identifier: MIT
"""ReceiveBuffer as its users have it."""

import gc
import os
import random
import socket
import subprocess
import sys
import time
from array import array
from itertools import islice

import pytest

from sockd.buffer import (
    BufferFull,
    Datagram,
    DotBlock,
    Fixed,
    Line,
    Malformed,
    Netstring,
    Nul,
    Prefix,
    Raw,
    ReceiveBuffer,
    StrictLine,
    TooLong,
    Truncated,
    encode_all,
)


def fed(framing, data, **options):
    buffer = ReceiveBuffer(framing, **options)
    buffer.feed(data)
    return buffer


def test_a_loop_that_is_left_goes_on_where_it_was():
    buffer = fed(Line(10), b"a\nb\r\nc\nd")
    for frame in buffer:
        assert frame == b"a"
        break
    assert buffer.pop() == b"b"
    assert (buffer.offset, buffer.held) == (5, 3)
    buffer.feed(b"e\n")
    assert list(buffer) == [b"c", b"de"]
    assert buffer.pop() is None


def test_what_is_fed_inside_a_loop_comes_out_of_it():
    buffer = fed(Line(10), b"a\nb\n")
    frames = []
    for frame in buffer:
        frames.append(frame)
        if frame == b"a":
            buffer.feed(b"c\nd\n")
    assert frames == [b"a", b"b", b"c", b"d"]


def test_a_new_framing_cuts_what_is_behind_the_frame_that_was_taken():
    buffer = fed(Line(100), b"HELO a\r\nDATA\r\n..b\r\n\r\n.\r\n5:hello,\x03\x00xyzrest")
    frames = []
    after = {b"DATA": DotBlock(1000), b".b\r\n\r\n": Netstring(10), b"hello": Prefix(10, 2, "little"), b"xyz": Raw()}
    for frame in buffer:
        frames.append(frame)
        if frame in after:
            buffer.framing = after[frame]
    assert frames == [b"HELO a", b"DATA", b".b\r\n\r\n", b"hello", b"xyz", b"rest"]
    assert buffer.framing == Raw()


@pytest.mark.parametrize("views", [False, True])
@pytest.mark.parametrize("taken", [0, 1, 2, 3])
def test_unread_hands_over_every_byte_that_was_not_taken(taken, views):
    stream = b"one\r\n\ntwo\nthr"
    buffer = fed(Line(10), stream)
    frames = buffer.views() if views else iter(buffer)
    for _ in range(taken):
        next(frames)
    buffer.feed(b"ee\n")
    assert buffer.unread() == (stream + b"ee\n")[[0, 5, 6, 10][taken] :]
    assert (buffer.held, buffer.offset) == (0, len(stream) + 3)
    assert list(buffer) == []
    buffer.feed(b"on\n")
    assert list(buffer) == [b"on"]


def test_views_and_bytes_may_be_taken_in_turn():
    buffer = fed(Netstring(10), b"1:a,1:b,1:c,1:d,")
    view = next(buffer.views())
    assert buffer.pop() == b"b"
    assert bytes(next(buffer.views())) == b"c"
    assert buffer.pop() == b"d"
    assert view == b"a"


def test_a_view_stays_as_it_is():
    buffer = ReceiveBuffer(Fixed(4))
    views = []
    for number in range(1000):
        buffer.feed(b"%02d" % (number % 100))
        buffer.feed(b"%02d" % (number // 100))
        views += buffer.views()
    gc.collect()
    assert views == [b"%02d%02d" % (number % 100, number // 100) for number in range(1000)]
    assert all(view.readonly for view in views)


def test_views_share_the_memory_that_was_fed():
    data = b"a" * 100_000 + b"\n" + b"b" * 100_000 + b"\n"
    first, second = fed(Line(200_000), data).views()
    assert first.obj is data
    assert second.obj is data


def test_frames_are_bytes_of_their_own():
    data = bytearray(b"a\nb\n")
    buffer = fed(Line(10), data)
    data[:] = b"xxxx"
    assert list(buffer) == [b"a", b"b"]
    assert all(type(frame) is bytes for frame in fed(Line(10), memoryview(b"a\nb\n")))


def test_many_frames_of_a_byte():
    count = 3 * 4096 + 1
    assert list(fed(Nul(1), b"a\0" * count)) == [b"a"] * count
    assert list(fed(Nul(1), b"a\0" * count).views()) == [b"a"] * count


@pytest.mark.parametrize("size", [0, 1, 254, 255, 256, 257, 65535, 65536, 100_000])
def test_payloads_of_every_size_in_a_batch(size):
    frames = [os.urandom(size), b"", os.urandom(size), b"x"]
    stream = b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)
    assert list(fed(Prefix(100_000, 4), stream)) == frames
    block = b".\r\n" + b"x" * size + b"\r\n"
    assert list(fed(DotBlock(200_000), (b"." + block + b".\r\n") * 2)) == [block] * 2


def test_errors_stand_until_something_is_done():
    buffer = fed(Netstring(5), b"1:a,6:b")
    assert list(buffer) == [b"a"]
    for _ in range(3):
        with pytest.raises(TooLong) as error:
            list(buffer)
    assert (error.value.offset, error.value.limit) == (4, 5)
    with pytest.raises(ValueError, match="no delimiter"):
        buffer.discard()
    buffer.framing = Line(100)
    buffer.feed(b"c\n")
    assert list(buffer) == [b"6:bc"]


def test_frames_before_an_error_come_first():
    buffer = fed(StrictLine(5), b"a\r\nb\r\nc\nd\r\n")
    assert list(buffer) == [b"a", b"b"]
    for attempt in (buffer.check, buffer.pop, lambda: list(buffer), lambda: list(buffer.views())):
        with pytest.raises(Malformed) as error:
            attempt()
        assert error.value.offset == 7
    buffer.discard()
    assert list(buffer) == []
    buffer.feed(b"e\r\n")
    assert list(buffer) == [b"e"]


def test_a_frame_too_long_is_reported_once_and_left_out_as_it_comes():
    buffer = fed(Line(4), b"ok\n" + b"x" * 5)
    assert buffer.pop() == b"ok"
    with pytest.raises(TooLong, match="byte 3 is longer than 4"):
        buffer.pop()
    buffer.discard()
    for _ in range(1000):
        buffer.feed(b"x" * 1000)
        assert list(buffer) == []
        assert buffer.held == 0
    buffer.feed(b"x\nafter\r\nfine\n")
    with pytest.raises(TooLong):
        buffer.pop()
    buffer.discard()
    assert list(buffer) == [b"fine"]
    with pytest.raises(ValueError, match="no frame was reported"):
        buffer.discard()


def test_end_of_stream():
    buffer = fed(Line(10), b"a\nb\nc")
    buffer.eof()  # whole frames wait
    frames = iter(buffer)
    assert list(frames) == [b"a", b"b"]
    with pytest.raises(Truncated) as error:
        buffer.check()
    assert (error.value.offset, error.value.size) == (4, 1)
    assert buffer.unread() == b"c"
    assert list(buffer) == []
    with pytest.raises(ValueError, match="ended"):
        buffer.feed(b"x")


def test_end_of_stream_in_a_frame_that_is_discarded():
    buffer = fed(Line(3), b"a\nbcdef")
    assert buffer.pop() == b"a"
    with pytest.raises(TooLong):
        buffer.pop()
    buffer.discard()
    buffer.feed(b"gh")
    with pytest.raises(Truncated) as error:
        buffer.eof()
    assert (error.value.offset, error.value.size) == (2, 7)


def test_end_of_stream_between_frames():
    buffer = fed(Line(10), b"a\n")
    assert list(buffer) == [b"a"]
    buffer.eof()
    assert buffer.pop() is None


def test_max_bytes_counts_what_was_not_taken():
    buffer = fed(Line(4), b"ab\ncd\n", max_bytes=8)
    with pytest.raises(BufferFull) as error:
        buffer.feed(b"efg")
    assert error.value.limit == 8
    assert buffer.pop() == b"ab"
    buffer.feed(b"efg")
    assert list(buffer) == [b"cd"]
    buffer.feed(b"h\nij\n")
    assert list(buffer) == [b"efgh", b"ij"]


@pytest.mark.parametrize("max_bytes", [5, 2**31])
def test_max_bytes_must_hold_a_frame_and_can_be_counted(max_bytes):
    with pytest.raises(ValueError, match="max_bytes must be"):
        ReceiveBuffer(Line(4), max_bytes=max_bytes)


def test_a_limit_that_memory_cannot_have():
    with pytest.raises(ValueError, match="limit is more than"):
        ReceiveBuffer(Netstring(2**64))
    with pytest.raises(ValueError, match=r"Line\(.*\) has frames of up to 2147483650 bytes, and a buffer holds up to"):
        ReceiveBuffer(Line(2**31))
    assert ReceiveBuffer(Line(2**31 - 3)).held == 0


def test_a_datagram_needs_no_buffer():
    with pytest.raises(TypeError, match="a datagram is already a frame"):
        ReceiveBuffer(Datagram(100))
    with pytest.raises(TypeError, match="not a framing"):
        ReceiveBuffer(5)


@pytest.mark.parametrize("size", [0, -1])
def test_nothing_cannot_be_received(size):
    with pytest.raises(ValueError, match="size must be 1 or more"):
        ReceiveBuffer(Line(4)).receive_from(0, size)


def test_receive_from_a_socket():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        buffer = ReceiveBuffer(Line(10), max_bytes=12)
        theirs.sendall(b"one\ntwo\nthree\nfour\n")
        assert buffer.receive_from(ours) == 12
        with pytest.raises(BufferFull):
            buffer.receive_from(ours)
        assert list(buffer) == [b"one", b"two"]
        assert buffer.receive_from(ours, 3) == 3
        assert buffer.receive_from(ours) == 4
        assert list(buffer) == [b"three", b"four"]
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            buffer.receive_from(ours)
        theirs.close()
        assert buffer.receive_from(ours) == 0
        buffer.eof()


def test_receive_from_a_descriptor_of_any_kind(tmp_path):
    reading, writing = os.pipe()
    buffer = ReceiveBuffer(Line(10))
    try:
        with pytest.raises(BlockingIOError):
            buffer.receive_from(reading)
        os.write(writing, b"one\ntw")
        assert buffer.receive_from(reading) == 6
        os.close(writing)
        assert buffer.receive_from(reading) == 0
    finally:
        os.close(reading)
    path = tmp_path / "lines"
    path.write_bytes(b"o\nthree\n")
    with path.open("rb") as file:
        assert buffer.receive_from(file.fileno()) == 8
    assert list(buffer) == [b"one", b"two", b"three"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        buffer.receive_from(file_number_of_nothing())


def file_number_of_nothing():
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    return reading


def processor_time(run):
    began = time.process_time()
    run()
    return time.process_time() - began


def copies_of(size, run):
    """Return the time of a run in copies of so many bytes: what copies them each time takes as many as it has times."""
    data = bytes(size)
    return processor_time(run) / min(processor_time(lambda: bytearray(data)) for _ in range(5))


def test_a_line_that_comes_byte_by_byte_is_looked_at_once():
    def seconds_a_byte(size):
        buffer = ReceiveBuffer(Line(size))

        def run():
            for _ in range(size):
                buffer.feed(b"x")
                assert buffer.pop() is None

        seconds = processor_time(run)
        buffer.feed(b"\n")
        assert len(buffer.pop()) == size
        return seconds / size

    few, many = (min(seconds_a_byte(size) for _ in range(3)) for size in (50_000, 400_000))
    assert many < 3 * few  # 5 if all of them were looked at each time, and more if they were copied


def test_small_pieces_behind_a_large_one_are_not_copied_with_it_each_time():
    size = 32_000_000
    buffer = ReceiveBuffer(Netstring(size))
    buffer.feed(b"%d:" % size + b"x" * (size - 1_000_000))
    assert buffer.pop() is None

    def run():
        for _ in range(1000):
            buffer.feed(b"x" * 1000)
            assert buffer.pop() is None

    assert copies_of(size, run) < 200
    buffer.feed(b",")
    assert buffer.pop() == b"x" * size


@pytest.mark.parametrize("framing", [Line(100), Netstring(100), Fixed(8)], ids=str)
@pytest.mark.parametrize("views", [False, True])
def test_what_waits_is_not_copied_with_each_frame(framing, views):
    wire = encode_all(framing, [b"abcdefgh"] * 1_000_000)
    buffer = ReceiveBuffer(framing, max_bytes=2**31 - 1)
    for piece in (wire[:1000], wire[1000:]):  # so that it is a bytearray
        buffer.feed(piece)
    found = []
    assert copies_of(len(wire), lambda: found.append(sum(map(len, buffer.views() if views else buffer)))) < 1000
    assert found == [8_000_000]


def test_what_waits_is_not_copied_with_each_piece_that_is_fed():
    stream = b"".join(b"%07d\n" % number for number in range(1_000_000))
    pieces = [stream[at : at + 8192] for at in range(0, len(stream), 8192)]
    buffer = ReceiveBuffer(Line(100), max_bytes=2**31 - 1)
    lines = []

    def run():
        for piece in pieces:
            buffer.feed(piece)
            lines.extend(islice(buffer, 2))  # much less than comes
            lines.extend(map(bytes, islice(buffer.views(), 1)))

    assert copies_of(len(stream), run) < 150  # about 500 if they were; 80 is the calls of a free-threaded Python
    assert buffer.offset == 8 * len(lines)
    assert buffer.held == len(stream) - buffer.offset
    lines += buffer
    assert list(map(int, lines)) == list(range(1_000_000))
    assert buffer.held == 0


def test_a_view_of_a_large_frame_in_several_pieces_is_no_copy():
    size = 10_000_000
    buffer = ReceiveBuffer(Fixed(size))
    for _ in range(10):
        buffer.feed(b"x" * (size // 10))
    (view,) = buffer.views()
    assert len(view) == size
    assert type(view.obj) is bytearray
    assert view.readonly
    for _ in range(10):
        buffer.feed(b"y" * (size // 10))
    assert buffer.pop() == b"y" * size
    assert view == b"x" * size


def test_the_time_for_a_frame_does_not_grow_with_what_waits():
    def seconds_of_one(mebibytes):
        buffer = ReceiveBuffer(Line(100), max_bytes=2**31 - 1)
        buffer.feed(b"abcdefg\n" * (mebibytes * 131_072))
        begun = time.process_time()
        count = sum(1 for _ in buffer)
        return (time.process_time() - begun) / count

    assert min(seconds_of_one(48) for _ in range(3)) < 2 * min(seconds_of_one(4) for _ in range(5))  # 3.5 if it did


@pytest.mark.parametrize("seed", range(20))
def test_pieces_of_any_size_are_taken_in_any_portions(seed):
    chance = random.Random(seed)
    lines = [b"x" * chance.choice((0, 1, 20, 300, 3000)) + b"%d" % number for number in range(3000)]
    stream = b"".join(line + chance.choice((b"\n", b"\r\n")) for line in lines)
    buffer = ReceiveBuffer(Line(4000), max_bytes=2**31 - 1)
    found, views, at = [], [], 0
    while at < len(stream):
        size = chance.choice((1, 10, 1000, 100_000, 1_000_000))
        piece = stream[at : at + size]
        at += len(piece)
        buffer.feed(chance.choice((bytes, bytearray, memoryview))(piece))
        for _ in range(chance.randint(0, 3)):
            kind = chance.randrange(4)
            if kind == 0:
                buffer.feed(buffer.unread())
            elif kind == 1:
                buffer.framing = Line(4000 + chance.randrange(3))
            elif kind == 2:
                views.append((len(found), list(islice(buffer.views(), chance.choice((1, 5, 1000))))))
                found += map(bytes, views[-1][1])
            else:
                found += islice(buffer, chance.choice((1, 5, 1000)))
    found += buffer
    assert found == lines
    assert buffer.held == 0
    for begin, some in views:
        assert [bytes(view) for view in some] == lines[begin : begin + len(some)]  # still


@pytest.mark.parametrize("kind", ["I", "h", "d"])
def test_what_is_fed_counts_in_bytes(kind):
    numbers = array(kind, range(100))
    buffer = ReceiveBuffer(Raw())
    for data in (memoryview(numbers), memoryview(numbers)[::2], memoryview(numbers)[::-1]):
        buffer.feed(data)
        assert buffer.held == data.nbytes
        assert buffer.unread() == data.tobytes()
        buffer.feed(b"behind others ")
        buffer.feed(data)
        assert buffer.unread() == b"behind others " + data.tobytes()
    full = ReceiveBuffer(Fixed(10), max_bytes=numbers.itemsize * 100 - 1)
    with pytest.raises(BufferFull):
        full.feed(memoryview(numbers))
    assert full.held == 0


def test_an_idle_buffer_holds_no_piece_that_was_received():
    data = b"".join([b"a\n"] * 1000) + b"b"  # made here: a constant lives for ever in a free-threaded Python
    buffer = fed(Line(10), data)
    references = sys.getrefcount(data)
    assert len(list(buffer)) == 1000
    assert sys.getrefcount(data) == references - 1
    assert buffer.held == 1


def test_nothing_of_the_daemon_comes_with_it():
    program = (
        "import sys, sockd.buffer\n"
        "daemon = {'selectors', 'socket', 'asyncio', 'logging', 'threading', 'msgspec', 'psutil'}\n"
        "found = daemon & set(sys.modules) | {m for m in sys.modules if m.startswith(('sockd.net', 'sockd.daemon'))}\n"
        "assert not found, found\n"
        "import sockd\n"
        "assert sockd.Service and 'Service' in dir(sockd)\n"
    )
    subprocess.run([sys.executable, "-P", "-c", program], check=True)


def test_check_says_nothing_while_frames_wait_or_nothing_is_wrong():
    buffer = fed(Line(4), b"a\nb\ntoo long\n")
    buffer.check()
    assert next(iter(buffer)) == b"a"
    buffer.check()
    assert list(buffer) == [b"b"]
    with pytest.raises(TooLong):
        buffer.check()
    buffer.discard()
    buffer.check()
    buffer.feed(b"un")
    buffer.check()


def test_a_line_costs_the_same_however_much_there_is():
    """128 MiB of short lines: at most 1.3 times the time a line of 4 MiB; the fastest of three, in processor time."""

    def cost(mebibytes):
        buffer = ReceiveBuffer(Line(100), max_bytes=2**31 - 1)
        buffer.feed(b"abcdefg\n" * (mebibytes * 131_072))
        began = time.process_time()
        count = sum(1 for _ in buffer)
        return (time.process_time() - began) / count

    few, many = (min(cost(size) for _ in range(3)) for size in (4, 128))
    assert many <= 1.3 * few
