# SPDX-License-Identifier: MIT
"""sockd.buffer in a subinterpreter, as of mod_wsgi: it works, or its import is refused; no other one is harmed.

Seen to fail: on 3.11 the import failed for want of FrameCutter, and left the main interpreter a module without `ffi`.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
import sysconfig

try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

USE = '''
from sockd.buffer import Line, ReceiveBuffer, encode

buffer = ReceiveBuffer(Line(100))
buffer.feed(b"one" + encode(Line(100), b"two") + b"left")
assert (list(buffer), buffer.unread()) == ([b"onetwo"], b"left")
'''
TRY = f'''
try:
    import sockd.buffer
except ImportError as error:
    assert "subinterpreters" in str(error), error
else:
    exec({USE!r})
'''


def make(kind):
    if kind == "own":
        return interpreters.create()
    return interpreters.create("legacy") if sys.version_info >= (3, 13) else interpreters.create(isolated=False)


kind, is_main_first = sys.argv[1], sys.argv[2] == "main first"
if is_main_first:
    exec(USE)
is_refused = kind == "own" or sysconfig.get_config_var("Py_GIL_DISABLED")  # there is no lock that they could share
for code in (TRY if is_refused else USE,) * 3:
    one = make(kind)
    assert not interpreters.run_string(one, code)
    interpreters.destroy(one)
exec(USE)
print("both")
"""


@pytest.mark.parametrize("first", ["main first", "main last"])
@pytest.mark.parametrize("kind", ["shared", "own"])
def test_a_subinterpreter(kind, first):
    command = [sys.executable, "-c", SCRIPT, kind, first]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")
    assert (done.returncode, done.stdout, done.stderr) == (0, "both\n", "")
