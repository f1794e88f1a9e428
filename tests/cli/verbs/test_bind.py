# SPDX-License-Identifier: MIT
"""`sockctl bind`: what the program that it becomes has, and has not (FAQ IV.8, II.19).

Seen to fail: with give_back() left out SIGPIPE is ignored in the program; with close_others()
left out it has a descriptor more.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys

import pytest
from watching import _until

NOBODY = pwd.getpwnam("nobody")
AS = ("--user", "root") if os.geteuid() == 0 else ()
TELL = """
import json, os, sys
def fds():
    found = {}
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}").split(":")[0]
        except FileNotFoundError:
            pass
    return found
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "pid": os.getpid(),
    "fds": fds(),
    "environment": {k: v for k, v in os.environ.items() if k.startswith("LISTEN")},
    "status": {k: v.split() for k, v in status.items()},
    "words": sys.argv[1:],
}))
"""


@pytest.fixture
def bind(sockctl_script, tmp_path):
    def run(*words, environment=None, **options):
        return subprocess.run(
            [sockctl_script, "bind", *words],
            capture_output=True,
            text=True,
            timeout=30,
            cwd=tmp_path,
            env={**os.environ, **(environment or {})},
            **options,
        )

    return run


def told(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


PYTHON = (sys.executable, "-S", "-c", TELL)


def test_the_sockets_and_nothing_else_are_passed(bind, tmp_path):
    reader, writer = os.pipe()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        done = bind(
            *AS, "web=tcp://127.0.0.1:0", f"unix:{tmp_path}/s", "ask=udp://127.0.0.1:0", "--", *PYTHON, "-x", "--", "y",
            pass_fds=[writer], environment={"LISTEN_FDS": "9", "LISTEN_PID": "1"},
        )  # fmt: skip
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(reader)
        os.close(writer)
    seen = told(done)
    sockets = [int(fd) for fd, what in seen["fds"].items() if what == "socket"]
    assert sorted(sockets) == [3, 4, 5]
    assert {int(fd) for fd in seen["fds"]} <= {0, 1, 2, 3, 4, 5, 6}  # 6 reads /proc/self/fd
    assert seen["environment"] == {
        "LISTEN_FDS": "3",
        "LISTEN_PID": str(seen["pid"]),
        "LISTEN_FDNAMES": "web:unknown:ask",
    }
    assert seen["words"] == ["-x", "--", "y"]
    assert int(seen["status"]["SigBlk"][0], 16) == 0


def test_signals_are_as_programs_expect_them(bind):
    """A program in C, for Python ignores SIGPIPE itself."""
    done = bind(*AS, "tcp://127.0.0.1:0", "--", "grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status")
    assert done.returncode == 0
    fields = dict(line.split(":\t") for line in done.stdout.splitlines())
    ignored, blocked = (int(fields[key], 16) for key in ("SigIgn", "SigBlk"))
    assert (ignored & 1 << signal.SIGPIPE - 1, blocked) == (0, 0)  # others may be ignored by whoever started us


def test_a_client_is_answered_by_the_program(sockctl_script, tmp_path):
    path = f"{tmp_path}/s"
    serve = "import socket; s = socket.socket(fileno=3); c = s.accept()[0]; c.sendall(c.recv(9).upper())"
    words = [sockctl_script, "bind", *AS, f"unix:{path}", "--", sys.executable, "-c", serve]
    with subprocess.Popen(words) as process:
        ask_when_there(path)
        assert process.wait(30) == 0


def test_standard_input_is_the_socket(sockctl_script, tmp_path):
    path = f"{tmp_path}/s"
    serve = (
        "import os, socket; assert 'LISTEN_FDS' not in os.environ; "
        "s = socket.socket(fileno=0); c = s.accept()[0]; c.sendall(c.recv(9).upper())"
    )
    words = [sockctl_script, "bind", *AS, "--stdin", f"unix:{path}", "--", sys.executable, "-c", serve]
    with subprocess.Popen(words, env={**os.environ, "LISTEN_FDS": "3"}) as process:
        ask_when_there(path)
        assert process.wait(30) == 0


def ask_when_there(path):
    def ask():
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            try:
                sock.connect(path)
            except OSError:
                return b""
            sock.sendall(b"hello")
            return sock.recv(9)

    assert _until(ask, 30) == b"HELLO"


def test_a_port_below_1024_and_no_rights(bind, as_root):
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", 87))
        except OSError:
            pytest.skip("port 87 is in use here")
    done = bind("--user", "nobody", "tcp://127.0.0.1:87", "--", "cat", "/proc/self/status", "/proc/self/net/tcp")
    assert done.returncode == 0, done.stderr
    status = dict(line.split(":", 1) for line in done.stdout.splitlines() if ":\t" in line)
    uid, gid = str(NOBODY.pw_uid), str(NOBODY.pw_gid)
    assert status["Uid"].split() == [uid] * 4
    assert status["Gid"].split() == [gid] * 4
    assert status["Groups"].split() == [gid]
    assert [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0] * 4
    assert status["NoNewPrivs"].split() == ["1"]
    assert "0100007F:0057 00000000:0000 0A" in done.stdout  # 127.0.0.1:87, LISTEN


@pytest.mark.parametrize("fault", ["error=EPERM", "retval=0"])
@pytest.mark.parametrize("call", ["setgroups", "setresgid", "setresuid"])
def test_a_program_never_runs_with_roots_rights(sockctl_script, as_root, tmp_path, call, fault):
    """strace(1) fails the call, or pretends that it was done."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace(1)")
    words = ["strace", "-f", "-qq", "-o", tmp_path / "trace", "-e", f"trace={call}", "-e", f"inject={call}:{fault}"]
    words += [sockctl_script, "bind", "--user", "nobody", "tcp://127.0.0.1:0", "--", "echo", "it runs"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, cwd=tmp_path)
    assert "(INJECTED)" in (tmp_path / "trace").read_text()
    assert (done.returncode, done.stdout) == (77 if "error" in fault else 71, "")
    assert "privileges not dropped" in done.stderr


def test_the_program_is_looked_for_in_the_chroot(bind, as_root, tmp_path):
    (tmp_path / "root").mkdir()
    done = bind("--user", "nobody", "--chroot", f"{tmp_path}/root", "tcp://127.0.0.1:0", "--", "/bin/true")
    assert done.returncode == 71
    assert "bind: /bin/true: No such file or directory (ENOENT); the program is looked up in PATH" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("tcp://127.0.0.1:0",), 64, "no program given; write -- PROGRAM"),
        (("tcp://127.0.0.1:0", "--"), 64, "no program"),
        (("--", "true"), 64, "ADDRESS"),
        (("nonsense", "--", "true"), 64, "not an address"),
        (("a:b=tcp://127.0.0.1:0", "--", "true"), 64, "not an address"),
        (("=tcp://127.0.0.1:0", "--", "true"), 64, "NAME is 1 to 255 printable"),
        (("--stdin", "tcp://127.0.0.1:0", "udp://127.0.0.1:0", "--", "true"), 64, "--stdin passes one socket"),
        (("tcp://127.0.0.1:0", "--", "/no/such/program"), 71, "/no/such/program: No such file"),
        (("tcp://127.0.0.1:0", "--", "/etc/passwd"), 77, "/etc/passwd: Permission denied"),
        (("tcp://192.0.2.1:0", "--", "true"), 71, "EADDRNOTAVAIL"),
    ],
)
def test_what_cannot_be_done_is_told(bind, words, code, said):
    done = bind(*AS, *words)
    assert done.returncode == code
    assert said in done.stderr


def test_root_without_a_user_is_refused(bind, as_root):
    done = bind("tcp://127.0.0.1:0", "--", "true")
    assert done.returncode == 78
    assert "started as root without a user to switch to" in done.stderr
    done = bind("--user", "nobdy", "tcp://127.0.0.1:0", "--", "true")
    assert done.returncode == 78
    assert 'did you mean "nobody"?' in done.stderr
