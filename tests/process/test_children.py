# SPDX-License-Identifier: MIT
"""Children without a daemon: started, told of once, and what could not be started (sockd.process.children).

Seen failing: with the children of others waited for as well (waitpid(-1)), and with `step` not told by spawn.c.
"""

from __future__ import annotations

import errno
import os
import resource
import selectors
import signal
import subprocess
import time

import psutil
import pytest

from sockd.net.loop.loop import EventLoop
from sockd.process.children import Children
from sockd.process.program import Identity, SpawnCommand

FILES = resource.getrlimit(resource.RLIMIT_NOFILE)


@pytest.fixture
def loop():
    with selectors.DefaultSelector() as selector:
        one = EventLoop(selector, time.monotonic)
        yield one
        one.close()


@pytest.fixture
def null():
    fd = os.open(os.devnull, os.O_RDWR)
    yield fd
    os.close(fd)


@pytest.fixture
def command(null):
    def make(*argv, **more):
        return SpawnCommand(path=argv[0], argv=argv, environment=(), descriptors=(null, null, null), **more)

    return make


def reap_until(children, ended, until):
    until(lambda: children.reap() or ended)


def test_an_end_is_told_once(loop, command, until):
    children, ended = Children(loop, FILES), []
    children.spawn(command("/bin/sh", "-c", "exit 7"), ended.append)
    assert len(children) == 1
    reap_until(children, ended, until)
    children.reap()
    assert [(how.exit_code, how.signal) for how in ended] == [(7, None)]
    assert len(children) == 0


def test_children_of_others_are_left_to_them(loop, command, until):
    children, ended = Children(loop, FILES), []
    with subprocess.Popen(["/bin/sh", "-c", "exit 5"]) as other:
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        children.spawn(command("/bin/true"), ended.append)
        reap_until(children, ended, until)
        assert other.wait() == 5


def test_a_child_that_somebody_else_reaped_is_not_waited_for_for_ever(loop, command, until):
    children, ended = Children(loop, FILES), []
    child = children.spawn(command("/bin/true"), ended.append)
    os.waitpid(child.pid, 0)
    children.reap()
    assert [(how.exit_code, how.signal) for how in ended] == [(None, None)]


@pytest.mark.parametrize(
    ("argv", "more", "code", "what"),
    [
        (("/nonexistent/program",), {}, errno.ENOENT, "/nonexistent/program"),
        (("/etc",), {}, errno.EACCES, "/etc"),
        (("/bin/true",), {"limits": ((resource.RLIMIT_NOFILE, 10, 5),)}, errno.EINVAL, "setrlimit()"),
    ],
)
def test_what_could_not_be_started_says_which_step_and_why(loop, command, argv, more, code, what):
    children = Children(loop, FILES)
    before = psutil.Process().children()
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        children.spawn(command(*argv, **more), lambda how: None)
    assert (caught.value.errno, caught.value.filename) == (code, what)
    assert len(children) == 0
    assert psutil.Process().children() == before  # it was reaped


@pytest.mark.skipif(os.geteuid() == 0, reason="root becomes whom it likes")
def test_a_user_that_cannot_be_taken_on(loop, command):
    children = Children(loop, FILES)
    with pytest.raises(PermissionError) as caught:
        children.spawn(command("/bin/true", identity=Identity(1, 1, ())), lambda how: None)
    assert caught.value.filename == "setgroups()"


def test_end_is_term_and_then_kill(loop, command, until):
    children, ended = Children(loop, FILES), []
    child = children.spawn(command("/bin/sleep", "1000"), ended.append)
    child.end()
    reap_until(children, ended, until)
    assert ended[0].signal == signal.SIGTERM


def test_the_signal_mask_of_the_caller_is_as_before(loop, command, until):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    children, ended = Children(loop, FILES), []
    children.spawn(command("/bin/true"), ended.append)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    reap_until(children, ended, until)
