# SPDX-License-Identifier: MIT
"""`sockd` without --foreground: what the shell gets, and what the daemon has left of it (FAQ IV.3).

Seen to fail: with the second fork left out the daemon leads its session; with ready() in place of
ended() a failing start exits 0; with close_others() left out the passed descriptor is there; with the
streams left as they are the command's output never ends; with BrokenPipeError passed over a start
that was interrupted serves.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest
from background import MARK, processes_marked
from watching import _until


def stat_of(pid):
    """The fields of /proc/PID/stat behind the name: state, ppid, pgrp, session, tty_nr, ... (proc(5))."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()


def test_the_command_returns_once_the_daemon_serves(background):
    one = background()
    assert (one.code, one.output, one.words) == (0, "", "")
    assert one.ask(b"hello") == b"HELLO\n"  # at once: the log has its address, and it listens
    one.stop()
    assert one.lines[-1]["message"] == "stopped"


def test_it_has_nothing_left_of_the_shell(background):
    reader, writer = os.pipe()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])
    try:
        one = background(pass_fds=[writer], prefix=("sh", "-c", 'umask 077; exec "$@"', "sh"))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(writer)
    pid = one.pid
    _, parent, _, session, terminal, *_ = stat_of(pid)
    assert int(parent) != os.getpid()
    assert int(session) not in (pid, os.getsid(0))
    assert terminal == "0"
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
    assert os.read(reader, 1) == b""  # nobody has its other end
    os.close(reader)
    status = one.status()
    assert status["Umask"] == ["0022"]
    assert int(status["SigBlk"][0], 16) == 0
    assert int(status["SigIgn"][0], 16) >> (signal.SIGPIPE - 1) & 1
    one.stop()


LIBRARY = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "sockd.cli.sockd":
            sys.kept_by_library = os.memfd_create("trampolines")
sys.meta_path.insert(0, Watch())
"""
"""sitecustomize: as libffi 3.8, keeps a descriptor for good once it is loaded, which is while sockd is imported."""
CALLBACK = """
import ctypes, os, sys
double = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda number: number * 2)
def answer(line):
    return b"%d %s" % (double(21), os.readlink(f"/proc/self/fd/{sys.kept_by_library}").encode())
"""


def test_libraries_keep_their_descriptors(background, tmp_path):
    """Before: those were closed with the inherited ones; under libffi 3.8 callbacks of ctypes: MemoryError."""
    (tmp_path / "sitecustomize.py").write_text(LIBRARY)
    tmp_path.chmod(0o755)
    reader, writer = os.pipe()
    environment = {"PYTHONPATH": str(tmp_path)}
    one = background(app=CALLBACK, service="app:answer", pass_fds=[writer], environment=environment)
    os.close(writer)
    assert one.code == 0, one.words
    assert os.read(reader, 1) == b""  # and what was inherited is closed
    os.close(reader)
    assert one.ask(b"") == b"42 /memfd:trampolines (deleted)\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_it_starts_where_standard_streams_are_closed(background, closed):
    one = background(prefix=("sh", "-c", f'exec "$@" {closed}', "sh"))
    assert one.code == 0
    assert one.ask(b"a") == b"A\n"
    assert [os.readlink(f"/proc/{one.pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3


def test_an_address_in_use_is_told_in_the_shell(background):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        one = background(listen=f"tcp://127.0.0.1:{holder.getsockname()[1]}")
    assert one.code == 71
    assert "EADDRINUSE" in one.words
    assert f"pid {os.getpid()}" in one.words
    assert not one.alive


@pytest.mark.parametrize(
    ("app", "code", "said"),
    [
        ("1 / 0\n", 78, "ZeroDivisionError"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", 71, "was killed before it was ready"),
        ("raise SystemExit(5)\n", 78, "app.py:1: SystemExit: 5"),
        ("import os\nos._exit(0)\n", 71, "was killed before it was ready"),
    ],
)
def test_a_daemon_that_does_not_come_to_serve_is_told_in_the_shell(background, app, code, said):
    one = background(app=app, service="app:answer")
    assert one.code == code
    assert said in one.words
    assert not one.alive


def test_what_a_handler_prints_while_it_starts_is_seen(background):
    one = background(app="print('careful', flush=True)\ndef answer(line):\n    return line\n", service="app:answer")
    assert (one.code, one.output) == (0, "careful\n")


def test_a_start_that_is_interrupted_leaves_no_daemon(background, tmp_path):
    """The handler's import waits for us; meanwhile whoever started it is interrupted."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    app = f"open({str(fifo)!r}).read()\ndef answer(line):\n    return line\n"
    one = background(app=app, service="app:answer", wait=False)
    with open(fifo, "w"):  # returns when the daemon has opened it
        one.process.kill()
        one.process.wait()
        assert one.alive
    _until(lambda: not one.alive)
    assert "the starting process exited" in one.logged("not serving")[0]["error"]


def test_it_is_no_child_of_the_command(background):
    one = background()
    assert one.pid != one.process.pid
    assert processes_marked(one.mark)[0].environ()[MARK] == one.mark


def test_without_a_configuration_there_is_nothing_to_run(tmp_path):
    if os.path.exists("/etc/sockd/sockd.toml"):
        pytest.skip("this host has a configuration")
    words = [os.path.join(os.path.dirname(sys.executable), "sockd")]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 78
    assert "/etc/sockd/sockd.toml does not exist" in done.stderr or "neither sockd.toml nor /etc" in done.stderr
    assert "sockd --foreground" in done.stderr


def test_standard_error_is_no_log_in_the_background(background):
    one = background(daemon='log = { to = "stderr" }')
    assert one.code == 78
    assert 'daemon.log.to: "stderr" cannot be used in the background' in one.words
