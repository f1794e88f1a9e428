# SPDX-License-Identifier: MIT
"""The process between the old and the new one of an upgrade: how it ends, and what it holds.

Seen failing: where the kernel refuses a process, with a traceback.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

LIMIT_S = 20
START = """
import os, resource, signal, sys, time
from sockd.process.descriptors import list_inherited
list_inherited()
from sockd.process.intermediate import stand_between
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
parent = os.getpid()
stand_between()
print(os.getpid(), flush=True)
"""


@pytest.fixture
def started():
    """Start a program with a pipe, whose number is its argument; gives the process, the child's number and the pipe."""
    processes, pipes = [], []

    def start(text):
        reading, writing = os.pipe()
        pipes.append(reading)
        words = [sys.executable, "-P", "-c", START + text, str(writing)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, pass_fds=[writing])
        os.close(writing)
        processes.append(process)
        child = int(process.stdout.readline())
        assert child != process.pid
        return process, child, reading

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()
    for pipe in pipes:
        os.close(pipe)


@pytest.mark.parametrize(
    ("text", "code"),
    [("os._exit(78)", 78), ("os._exit(0)", 0)]
    + [(f"os.kill(os.getpid(), {one:d})", -one) for one in (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM)],
)
def test_it_ends_as_its_child(started, text, code):
    assert started(text)[0].wait(LIMIT_S) == code


def test_term_kills_the_child_whatever_that_does_with_it(started):
    text = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nos.write(int(sys.argv[1]), b'.')\ntime.sleep(60)"
    process, _, pipe = started(text)
    assert os.read(pipe, 1) == b"."
    process.terminate()
    assert process.wait(LIMIT_S) == -signal.SIGKILL
    assert os.read(pipe, 1) == b""  # the child has ended


def test_it_holds_nothing_that_the_child_has(started):
    process, _, pipe = started("os.close(int(sys.argv[1]))\ntime.sleep(60)")
    assert os.read(pipe, 1) == b""
    assert process.poll() is None
    process.terminate()
    process.wait(LIMIT_S)


def test_the_child_lives_on_without_it(started):
    text = "while os.getppid() == parent: time.sleep(0.01)\nos.write(int(sys.argv[1]), b'.')"
    process, _, pipe = started(text)
    process.kill()
    assert process.wait(LIMIT_S) == -signal.SIGKILL
    assert os.read(pipe, 2) == b"."


def test_without_a_process_left_there_is_one_line():
    text = (
        "import errno, os, sys\n"
        "def fork(): raise OSError(errno.EAGAIN, 'no')\n"
        "from sockd.cli.sockd import main\n"
        "os.fork, os.environ['SOCKD_UPGRADE_FD'] = fork, '9'\n"
        "sys.exit(main(['--foreground']))\n"
    )
    words = [sys.executable, "-P", "-c", text]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    said = "sockd: cannot start the new process of an upgrade: Resource temporarily unavailable (EAGAIN)\n"
    assert (done.returncode, done.stderr) == (71, said)
