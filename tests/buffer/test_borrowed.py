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
