# SPDX-License-Identifier: MIT
"""Streams for every framing, and ways to have them cut."""

from sockd._sockbuf import ffi, lib
from sockd.buffer import (
    BlankLine,
    Delimiter,
    DotBlock,
    Fixed,
    Line,
    Malformed,
    Netstring,
    Nul,
    OctetCount,
    Prefix,
    ReceiveBuffer,
    StrictLine,
    TooLong,
    Truncated,
    Varint,
)
from sockd.buffer.core import description

# Short enough for all 2^(n-1) ways to split them; the limits are small, so that streams reach them.
STREAMS = {
    Line(3): [b"ab\n\r\n\nabc\r\n", b"abc\nabcd\na\n", b"abc\rd\n", b"abc\r\r\na\n", b"\r\r\n\nab", b"abcd", b"abc\r"],
    Line(0): [b"\n\r\n\n", b"\na\n\n", b"\r\r\n"],
    Line(100): [b"ab\n\nabc\r\n", b"a\n\r\r\nb\n", b"abc"],
    StrictLine(3): [
        b"ab\r\n\r\nabc\r\na",
        b"abc\r\nabcd\r\n",
        b"a\nb\r\n",
        b"a\rb\r\nc\r\n",
        b"abc\rd\r\n",
        b"abc\n",
        b"\r\r\n",
    ],
    Delimiter(3, b"||"): [b"ab||||abc||", b"abc|||a||b||", b"abcd||a||", b"a|b||abc|d||", b"a||b|"],
    Delimiter(2, b"aab"): [b"aabaaabbaab", b"aaaabaab", b"xxaabaa", b"xxxaabaab"],
    Delimiter(4, b"12345678"): [b"123456781234567", b"121234567812", b"abcde12345678"],
    Nul(3): [b"ab\0\0abc\0", b"abcd\0ab\0", b"abc\0a", b"abc\n\0a\0"],
    Netstring(12): [
        b"3:abc,0:,1:,,",
        b"03:abc,",
        b"3:abcd,",
        b"13:a",
        b"1:a,12:abcdef",
        b":,",
        b"1a:",
        b"00:,",
        b"0:,12",
        b"-1:,",
    ],
    Netstring(0): [b"0:,0:,", b"0:,1:a,"],
    Prefix(4, 1): [b"\2ab\0\1\1", b"\4abcd\5abcde", b"\1", b"\3ab"],
    Prefix(4, 2): [b"\0\2ab\0\0\0\1", b"\0\4abcd\0\5a", b"\1\0", b"\0"],
    Prefix(4, 2, "little"): [b"\2\0ab\0\0", b"\4\0abcd\5\0", b"\0\1"],
    Prefix(4, 3): [b"\0\0\2ab\0\0\0", b"\0\1\0a"],
    Prefix(4, 4, includes_header=True): [b"\0\0\0\6ab\0\0\0\4", b"\0\0\0\3a", b"\0\0\0\x08abcd", b"\0\0\0\x09a"],
    Prefix(4, 8, "little"): [b"\2\0\0\0\0\0\0\0ab\0", b"\0\0\0\0\0\0\0\x80a", b"\xff" * 9],
    Varint(200): [
        b"\2ab\0\1c",
        b"\x82\0ab\x81\x80\x80\x80\0c",
        b"\x80\x80\x80\x80\x10",
        b"\x80" * 6,
        b"\xc8\1",
        b"\xc9\1",
        b"\x82",
    ],
    OctetCount(12): [b"3 abc0 1  ", b"3 abc1  10 ", b"03 abc", b"0 ", b"13 a", b"1 a12 abcdef", b" a", b"1a ", b"3 ab"],
    OctetCount(5, mixed=True): [
        b"3 abcab\r\n1 \n\n",
        b"<1>ab\n2 ab",
        b"<1>abc\n2 ab",
        b"6 abc",
        b"2 abx\n1",
        b"3x\n1 a",
        b"1 a0 \n",
        b"\n0",
    ],
    Fixed(3): [b"abcabcab", b"abc", b"ab", b"a\nbc\0d"],
    DotBlock(6): [
        b"a\r\n.\r\n.\r\n..\r\n.",
        b".\r\n..\r\n.\r\n",
        b"abcd\r\n.\r\nb",
        b"abcde\r\n.\r\n.",
        b"a\n.\r\nb\r\n.\r\n",
        b"..a\r\n.b\r\n.\r\n",
    ],
    BlankLine(6): [
        b"a=b\n\nc\n\r\n\n",
        b"abcde\n\n",
        b"abcdef\n\n\n",
        b"a\n\r\r\n\n",
        b"a\r\n\r\nb\n",
        b"\r\na",
        b"abcdef",
    ],
}

# As long as is tried in every way, with every kind of verdict in them.
LONGEST = {
    Line(3): b"ab\r\n\nabc\r\r\nabcde",
    Netstring(12): b"3:abc,0:,5:ab,:,",
    DotBlock(6): b"..a\r\n.\r\nb\r\n.\r\n.\r",
    Delimiter(2, b"aab"): b"aabaaabaaaaabaab",
}

PIECES = {
    Line: [b"a", b"ab", b"abc", b"\n", b"\r\n", b"\r", b"abc\n", b"ab\r\n"],
    StrictLine: [b"a", b"ab", b"abc", b"\r\n", b"a\r\n", b"abc\r\n", b"\r\n", b"\r\n", b"\n", b"\r"],
    Delimiter: [b"a", b"|", b"b", b"||", b"aab", b"aa", b"1234", b"5678", b"12345678", b"x"],
    Nul: [b"a", b"ab", b"\0", b"abc\0", b"\n"],
    Netstring: [b"3:abc,", b"0:,", b"12:abcdefghijkl,", b"1:,,", b"10:0123456789,", b"3:abc,", b"0", b":", b",", b"9"],
    Prefix: [b"\0", b"\1", b"\2", b"a", b"\0\0\0\1", b"\1\0\0\0", b"\0\2ab", b"\6", b"\4abcd", b"\0\0\0\0\0\0\0"],
    Varint: [b"\0", b"\1a", b"\3abc", b"\x80\1" + b"x" * 128, b"\x81\0a", b"\xc8\1" + b"y" * 200, b"\x80", b"z"],
    OctetCount: [b"3 abc", b"0 ", b"1 9", b"5 a\nb\nc", b"ab\n", b"<13>\n", b"\r\n", b"12 abcdefghijkl", b"1", b" "],
    Fixed: [b"abc", b"d", b"\r\n", b"\0\0"],
    DotBlock: [b"a", b"ab\r\n", b".", b"..\r\n", b"\r\n", b".\r\n", b"\r\n.\r\n", b"\r\n.\r\n", b"\r", b"\n"],
    BlankLine: [b"a", b"a=b\n", b"\n", b"\r\n", b"\n\n", b"\r", b"ab"],
}


def random_stream(random, framing, least_bytes=17, most_bytes=120):
    """Make a stream of good and bad pieces."""
    stream = b""
    while len(stream) < random.randint(least_bytes, most_bytes):
        stream += random.choice(PIECES[type(framing)])
    return stream


def random_split(random, stream):
    """Cut a stream into pieces, also empty ones."""
    places = sorted(random.choices(range(len(stream) + 1), k=random.choice([1, 3, len(stream) // 3, len(stream)])))
    return [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]


def every_split(stream):
    """All 2^(n-1) ways to cut n bytes into pieces of at least one."""
    for places in range(1 << (len(stream) - 1)):
        pieces, start = [], 0
        for end in range(1, len(stream)):
            if places >> (end - 1) & 1:
                pieces.append(stream[start:end])
                start = end
        yield [*pieces, stream[start:]]


class Cutter:
    """A ReceiveBuffer, and what came out of it as the oracle says it."""

    def __init__(self, framing, *, discard=False, views=False):
        self.buffer = ReceiveBuffer(framing)
        self.events = []
        self.discard = discard
        self.views = views
        self.stopped = False

    def feed(self, piece):
        self.buffer.feed(piece)
        while self._take():
            pass

    def _take(self):
        """Take what there is; true when there may be more, behind a frame that was discarded."""
        try:
            for frame in self.buffer.views() if self.views else self.buffer:
                self.events.append(("frame", bytes(frame)))
            self.buffer.check()
        except TooLong as error:
            return self._failed("too long", error.offset)
        except Malformed as error:
            return self._failed("malformed", error.offset)
        return False

    def _failed(self, what, offset):
        if not self.stopped:
            self.events.append((what, offset))
        if not self.discard or self.stopped:
            self.stopped = True
            return False
        try:
            self.buffer.discard()
        except ValueError:
            self.stopped = True
            return False
        return True

    def end(self):
        if self.stopped:
            return
        try:
            self.buffer.eof()
        except Truncated as error:
            self.events.append(("truncated", error.offset))


class CoreCutter:
    """The C core without ReceiveBuffer: its buffer, and its finder of one frame."""

    def __init__(self, framing):
        self.framing = description(framing)
        self.buffer = ffi.gc(lib.sb_buffer_new(lib.sb_framing_room(self.framing) + 4096), lib.sb_buffer_free)
        self.scan = ffi.new("sb_scan *")
        self.events = []
        self.offset = 0
        self.stopped = False

    def feed(self, piece):
        assert lib.sb_buffer_append(self.buffer, piece, len(piece)) == 0
        frame = ffi.new("sb_frame *")
        while lib.sb_buffer_size(self.buffer) and not self.stopped:
            data, size = lib.sb_buffer_data(self.buffer), lib.sb_buffer_size(self.buffer)
            code = lib.sb_frame_find(self.framing, data, size, self.scan, frame)
            if code == 0:
                return
            self.stopped = code < 0
            if code == 1:
                payload = ffi.buffer(data + frame.start, frame.end - frame.start)[:]
                if frame.dots:
                    out = ffi.new("char[]", len(payload))
                    payload = ffi.buffer(out, lib.sb_dot_unstuff(payload, len(payload), out))[:]
                self.events.append(("frame", payload))
                lib.sb_buffer_consume(self.buffer, frame.next)
                self.offset += frame.next
            elif code == lib.SB_ERR_TOO_LONG:
                self.events.append(("too long", self.offset))
            else:
                assert code == lib.SB_ERR_MALFORMED
                self.events.append(("malformed", self.offset + self.scan.searched))

    def end(self):
        if not self.stopped and lib.sb_frame_end(self.framing, lib.sb_buffer_size(self.buffer), self.scan) < 0:
            self.events.append(("truncated", self.offset))
