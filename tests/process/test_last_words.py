# SPDX-License-Identifier: MIT
"""The line of a process that is ended by force, made in C from a template and from what faulthandler has dumped.

Seen to fail: with sockd's own frames at the top (the handler of a tick) taken for all there is, the user's code was not
named.
"""

from __future__ import annotations

import random
import time

import pytest

from sockd._sockbuf import ffi, lib
from sockd.log.format import timestamp

PACKAGE, LIBRARY = "/lib/python3/site-packages/sockd/", "/lib/python3/"
LOOP = ["/lib/python3/site-packages/sockd/net/loop/loop.py:200 run_once", "/bin/sockd:8 <module>"]
IDLE = ["/lib/python3/concurrent/futures/thread.py:81 _worker", "/lib/python3/threading.py:1002 _bootstrap"]


def dump(*threads, current=-1):
    """Threads, each a list of `file:line name` from the innermost on; the current one stands last, as in CPython."""
    text = []
    for number, frames in enumerate(threads):
        head = "Current thread" if number == len(threads) + current else "Thread"
        text.append(f"{head} 0x00007f0000000{number} (most recent call first):")
        for frame in frames:
            place, _, name = frame.rpartition(" ")
            file, _, line = place.rpartition(":")
            text.append(f'  File "{file}", line {line} in {name}')
        text.append("")
    return "\n".join(text).encode()


def words(data, template=b'\1 \2 at="\3" stack="\4"\n', quoted=True, milliseconds=0, room=4096):
    names = [ffi.new("char[]", name.encode()) for name in (PACKAGE, LIBRARY)]
    text = ffi.from_buffer("char[]", template)
    how = {"text": text, "size": len(template), "is_quoted": quoted, "package": names[0], "library": names[1]}
    line, signal = ffi.new("char[]", room), ffi.new("char[]", b"TERM")
    given = ffi.from_buffer("char[]", data)
    size = lib.sockd_last_words(ffi.new("sockd_template *", how), given, len(data), signal, milliseconds, line, room)
    return ffi.unpack(line, size)


def place(*threads, **options):
    return words(dump(*threads, **options), b"\3|\4").decode().split("|")


def test_a_handler_of_the_main_thread():
    assert place(["/x/app.py:3 hang", *LOOP]) == ["/x/app.py:3", "/x/app.py:3 hang"]


def test_what_a_handler_calls_is_its_stack():
    frames = ["/lib/python3/queue.py:171 get", "/x/own.py:7 wait", "/x/app.py:3 hang", *LOOP]
    told = "/x/app.py:3 hang > /x/own.py:7 wait > /lib/python3/queue.py:171 get"
    assert place(frames) == ["/x/app.py:3", told]


def test_an_installed_package_is_the_users():
    installed = "/lib/python3/site-packages/requests/api.py:5 get"
    assert place([installed, *LOOP])[0] == "/lib/python3/site-packages/requests/api.py:5"


def test_an_import_is_named_by_what_is_imported():
    machinery = ["<frozen importlib._bootstrap>:241 _call", "/lib/python3/importlib/__init__.py:126 import_module"]
    assert place(["/x/app.py:1 <module>", *machinery, *LOOP])[0] == "/x/app.py:1"


def test_our_own_handler_on_top_hides_nothing():
    tick = [
        "/lib/python3/logging/__init__.py:9 emit",
        "/lib/python3/site-packages/sockd/process/stall_detector.py:80 _tick",
    ]
    assert place([*tick, "/x/app.py:3 hang", *LOOP]) == ["/x/app.py:3", "/x/app.py:3 hang"]


def test_an_idle_main_thread_leaves_it_to_the_others():
    pool = ["/x/app.py:9 slow", "/lib/python3/site-packages/sockd/net/loop/thread_pool.py:99 _run"]
    own = ["/x/app.py:50 of_its_own", "/lib/python3/threading.py:1002 _bootstrap"]
    assert place(IDLE, own, pool, LOOP)[0] == "/x/app.py:9"  # which sockd has called
    assert place(IDLE, own, LOOP)[0] == "/x/app.py:50"
    assert place(IDLE, LOOP)[0] == LOOP[0].split()[0]  # there is nothing else to be told
    assert place(own, ["/x/app.py:3 hang", *LOOP])[0] == "/x/app.py:3"


def test_nothing_is_known():
    assert words(b"", b"[\3][\4]") == b"[][]"


@pytest.mark.parametrize("seconds", [0, 951782399, 951782400, 1795428000, 4102444799, 1709164800, 253402300799])
def test_the_time_is_that_of_the_log(seconds):
    assert words(b"", b"\1", milliseconds=seconds * 1000 + 123).decode() == timestamp(seconds + 0.1234)


def test_quotes_and_backslashes_of_a_name():
    frames = ['/x/a"b\\c", line 1.py:3 hang', *LOOP]
    assert words(dump(frames), b"\3") == b'/x/a\\"b\\\\c\\", line 1.py:3'
    assert words(dump(frames), b"\3", quoted=False) == b'/x/a"b\\c", line 1.py:3'


@pytest.mark.parametrize("room", [0, 1, 10, 100, 600, 2500])
def test_what_does_not_fit_is_cut(room):
    frames = ["/" + "x\\" * 2000 + ".py:3 hang", *LOOP]
    line = words(dump(frames), room=max(room, 1))[:room] if room else b""
    assert len(line) <= room
    whole = words(dump(frames))
    assert whole.endswith(b'"\n')
    body = whole.partition(b'stack="')[2].removesuffix(b'"\n')
    assert not (len(body) - len(body.rstrip(b"\\"))) % 2  # no half of an escape, which would take the quote with it


def test_ten_thousand_dumps_of_anything():
    """fails, under a sanitizer, where a bound is missed"""
    chance = random.Random(11)
    pieces = [b'  File "', b'", line ', b" in ", b"Thread", b"Current thread", b"\n", b"\n\n", b"/x/app.py", b"  "]
    pieces += [PACKAGE.encode(), LIBRARY.encode(), b"a" * 700, b"\\", b'"', b"12", b"\xff", b"\0"]
    began = time.monotonic()
    for _ in range(10_000):
        data = b"".join(chance.choices(pieces, k=chance.randrange(60)))
        assert len(words(data)) <= 4096
    assert time.monotonic() - began < 30
