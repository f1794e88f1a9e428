# SPDX-License-Identifier: MIT
"""Memory that is lent to C, and failures that keep hold of the frames in which it was.

CPython before 3.12.4 ends by SIGSEGV where a memoryview is cleared before what has borrowed from it, as collecting a
circle may (https://github.com/python/cpython/issues/77894): an exception that was kept, its traceback, and in a frame
of that both of them by name.  So nothing borrows from a memoryview for longer than a call.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from sockd.buffer import Line, SendBuffer

KEPT = """
import gc
from sockd.buffer import BufferFull, Line, Netstring, PayloadError, SendBuffer, encode

class Circle:
    def __init__(self, error):
        self.itself, self.error = self, error

def full(data):
    SendBuffer(Netstring(1000), max_bytes=10).write(data)

def large(data):
    SendBuffer(Netstring(10)).append(data)

def encoded(data):
    encode(Netstring(10), data)

gc.disable()
for place in (full, large, encoded):
    for data in (bytes(100), bytearray(100), memoryview(bytes(100)), memoryview(bytearray(200))[::2]):
        try:
            place(data)
        except (BufferFull, PayloadError) as error:
            Circle(error)
        else:
            raise AssertionError(place)
        gc.collect()
"""


def test_failures_that_are_kept_are_collected():
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, timeout=60, cwd="/")
    assert (done.returncode, done.stderr) == (0, "")


SOURCES = Path(find_spec("sockd").origin).parent


def is_named(node, above):
    """Tell whether what from_buffer() returns outlives the call that it is for.

    Of a sum (`from_buffer(data) + begin`), in a member of a struct and where a pointer points (`place[0]`) there is
    the address alone.
    """
    while isinstance(above[node], (ast.IfExp, ast.Tuple, ast.Dict)):
        node = above[node]
    around = above[node]
    target = around.targets[0] if isinstance(around, ast.Assign) else None
    first = target.elts[0] if isinstance(target, ast.Tuple) else target
    is_pointed_to = isinstance(first, ast.Subscript) and ast.unparse(first.slice) == "0"
    is_address = isinstance(first, ast.Attribute) or is_pointed_to
    return not isinstance(around, (ast.Call, ast.BinOp)) and not is_address


def is_iterated(node):
    """Tell whether iter_unpack() borrows from a slice of a view: `RECORD.iter_unpack(self._view[:size])`."""
    argument = node.args[0]
    return isinstance(argument, ast.Subscript) and isinstance(argument.value, ast.Attribute)


def test_nothing_borrowed_has_a_name():
    found = []
    for path in SOURCES.rglob("*.py"):
        tree = ast.parse(path.read_text())
        above = {node: around for around in ast.walk(tree) for node in ast.iter_child_nodes(around)}
        for node in above:
            called = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
            if (called == "from_buffer" and is_named(node, above)) or (called == "iter_unpack" and is_iterated(node)):
                found.append(f"{path.relative_to(SOURCES)}:{node.lineno}: {ast.unparse(above[node])}")
    assert not found


BEHIND = """
from sockd.buffer import Delimiter, ReceiveBuffer

buffer = ReceiveBuffer(Delimiter(1 << 20, b"\\n"), max_bytes=1 << 22)
buffer.feed(b"a" * 1000)
buffer.feed(b"a" * 100_000 + b"\\nthe rest\\n")
view = next(buffer.views())
data = view.obj
view.release()
try:
    data.clear()
except BufferError:
    print("not resized")
print(bytes(buffer.pop()), buffer.held)
data.clear()  # which nobody needs any more
"""


def test_memory_of_a_view_is_not_freed_by_its_owner():
    """Seen to fail: the frame behind the view was looked for in memory that had been freed."""
    done = subprocess.run([sys.executable, "-c", BEHIND], capture_output=True, text=True, timeout=60, cwd="/")
    assert (done.stdout, done.returncode) == ("not resized\nb'the rest' 0\n", 0), done.stderr


COLLECTED = """
import gc
import sys

from sockd.buffer import DotBlock, FrameError, Line, Netstring, ReceiveBuffer


class Meddling:
    def __init__(self, meddle, buffer):
        self.meddle, self.buffer, self.itself = meddle, buffer, self

    def __del__(self):
        self.meddle(self.buffer)


def in_pieces(buffer):
    for _ in range(3):
        buffer.feed(b"A" * 5000)
    buffer.feed(b"\\r\\n..B\\r\\n.\\r\\nfollows")


def whole(buffer):
    buffer.feed(b"A" * 15000 + b"\\r\\n..B\\r\\n.\\r\\nfollows")


MEDDLES = [
    lambda buffer: buffer.unread(),
    lambda buffer: buffer.pop(),
    lambda buffer: list(buffer.views()),
    lambda buffer: buffer.feed(bytes(100_000)),
    lambda buffer: (buffer.unread(), buffer.feed(b"short")),
    lambda buffer: setattr(buffer, "framing", Netstring(10)),
]
for feed in (in_pieces, whole):
    for framing in (Line(100_000), DotBlock(100_000)):
        for meddle in MEDDLES:
            for early in range(8):
                buffer = ReceiveBuffer(framing)
                feed(buffer)
                before = buffer.held
                gc.collect()
                gc.disable()
                Meddling(meddle, buffer)
                left = [[] for _ in range(gc.get_threshold()[0] - early)]
                frames = buffer.views()
                gc.enable()
                views = []
                try:
                    views.extend(frames)
                except FrameError:  # of the other framing
                    pass
                gc.disable()
                del left
                gc.collect()
                gc.enable()
                for view in views:
                    payload = bytes(view).strip(b"\\r\\n.")
                    assert payload in (b"A" * 15000, b"A" * 15000 + b"\\r\\n.B", b"B", b""), payload[:50]
                assert buffer.offset + buffer.held - before in (0, 5, 100_000), (buffer.offset, buffer.held)
print("whole")
"""


def test_a_view_that_is_made_while_the_collector_runs_code_on_the_buffer():
    """Seen to fail, by SIGSEGV: up to Python 3.11 it may run wherever an object is made, such as a view."""
    done = subprocess.run([sys.executable, "-c", COLLECTED], capture_output=True, text=True, timeout=60, cwd="/")
    assert (done.returncode, done.stdout, done.stderr) == (0, "whole\n", "")


class Keeping:
    """Keeps what it is given, as asyncio's transports do from Python 3.12 on, and has more written meanwhile."""

    def __init__(self, at_once, buffer):
        self.at_once, self.buffer, self.got, self.offered = at_once, buffer, [], []

    def send(self, data):
        self.offered.append((data, bytes(data)))
        self.buffer.append(b"more" * 100)
        sent = data[: self.at_once]
        self.got.append(sent)
        return len(sent)


@pytest.mark.parametrize("at_once", [1 << 20, 1000])
def test_what_was_sent_stays_as_it_was(at_once):
    """Seen to fail: what had been sent, and was kept, was what the buffer held later, or memory of others."""
    buffer = SendBuffer(Line(1000))
    target = Keeping(at_once, buffer)
    frames = [b"%d " % number * 20 for number in range(100)]
    buffer.extend(frames)
    for _ in range(100):
        buffer.send_to(target)
    buffer.extend(frames)
    del buffer, target.buffer
    assert all(bytes(data) == before and data.readonly for data, before in target.offered)
    assert b"".join(target.got).startswith(b"\n".join(frames) + b"\n" + b"more" * 100 + b"\n")
