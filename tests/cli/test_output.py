# SPDX-License-Identifier: MIT
"""Standard streams of any kind: one clear line, or it goes on; never a traceback, never a silent end.

Seen to fail: a greeting that nobody reads ended the daemon; `-T > /dev/full` was a traceback; ü of a path in ASCII too.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess

import pytest
from serving import STAY_ROOT
from watching import _until

TOML = '[[listen]]\naddress = "unix:{}"\nservice = "upper"\n'
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


@pytest.fixture
def serves(tmp_path, sockd_script):
    """Start `sockd --foreground` behind a shell's redirection, and see that it serves and stops."""

    def run(redirection, path="s", environment=None):
        (tmp_path / "sockd.toml").write_text(TOML.format(tmp_path / path), encoding="utf-8")
        (tmp_path / "run").write_text(f'echo $$ > pid; exec "$@" {redirection}')
        words = ["sh", "run", sockd_script, *STAY_ROOT, "-f", "-c", "sockd.toml"]
        options = {"cwd": tmp_path, "env": {**os.environ, **(environment or {})}, "text": True}
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        try:
            answer = _until(lambda: ask(tmp_path / path), 20)
            assert answer == b"X\n"
            process.send_signal(signal.SIGTERM)
            output, words = process.communicate(timeout=20)
        finally:
            process.kill()
            process.communicate()
        assert process.returncode == 0, words
        assert "Traceback" not in words
        assert "Exception ignored" not in words
        return output, words

    return run


def ask(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        try:
            sock.connect(str(path))
        except OSError:
            return b""
        sock.sendall(b"x\n")
        return sock.recv(100)


@pytest.mark.parametrize("redirection", [">/dev/full", "2>/dev/full", ">/dev/full 2>&1", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_it_serves_where_its_output_cannot_be_written(serves, redirection):
    serves(redirection)


def test_it_serves_where_its_reader_has_gone(serves, tmp_path):
    """`sockd -f 2>&1 | head -1`"""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        path = f"/proc/{os.getpid()}/fd/{writer}"
        serves(f"> {path} 2>&1")
    finally:
        os.close(writer)


def test_a_path_that_the_screen_cannot_show(serves):
    output, words = serves("", path="sü", environment={"PYTHONIOENCODING": "ascii"})
    assert "s\\xfc" in output
    assert " listening " in words


def test_a_path_that_the_file_system_cannot_have(tmp_path, sockd_script):
    (tmp_path / "sockd.toml").write_text(TOML.format("/sü"), encoding="utf-8")
    environment = {**os.environ, **ASCII}
    command = [sockd_script, *STAY_ROOT, "-f", "-c", "sockd.toml"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 78
    assert done.stderr.count("\n") == 1
    assert "cannot be written in ascii; set LC_ALL=C.UTF-8" in done.stderr


@pytest.mark.parametrize("words", [["-T"], ["--help"], ["--version"]])
@pytest.mark.parametrize(("output", "why"), [("/dev/full", "No space left on device"), ("a pipe", "Broken pipe")])
def test_an_answer_that_cannot_be_written_is_told(tmp_path, sockd_script, sockctl_script, words, output, why):
    (tmp_path / "sockd.toml").write_text(TOML.format(tmp_path / "s"))
    for script in (sockd_script, sockctl_script):
        if script == sockctl_script and words == ["-T"]:
            continue
        reader, fd = os.pipe()
        os.close(reader)
        if output != "a pipe":
            os.close(fd)
            fd = os.open(output, os.O_WRONLY)
        try:
            done = subprocess.run([script, *words], cwd=tmp_path, stdout=fd, stderr=subprocess.PIPE, text=True)
        finally:
            os.close(fd)
        assert done.returncode == 71
        code = "ENOSPC" if "space" in why else "EPIPE"
        assert done.stderr == f"{os.path.basename(script)}: standard output: {why} ({code})\n"


def test_a_current_directory_that_was_deleted(tmp_path, sockd_script):
    """The configuration and the handler are named absolutely, or by none: goes on, or one clear line."""
    (tmp_path / "sockd.toml").write_text(TOML.format(tmp_path / "s"))
    gone = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    for words, code, said in (
        ([*STAY_ROOT, "--check", "-c", f"{tmp_path}/sockd.toml"], 0, "configuration OK"),
        ([*STAY_ROOT, "--check", "-c", "sockd.toml"], 78, "sockd.toml: No such file or directory (ENOENT)"),
        ([*STAY_ROOT, "-f", "-l", f"unix:{tmp_path}/s=app:nothing"], 78, "no module 'app'"),
    ):
        command = ["sh", "-c", gone, "sh", sockd_script, *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
        assert said in done.stderr


def test_an_interface_that_the_parent_calls_otherwise(tmp_path, sockd_script):
    """tcpserver says fe80::1%nosuch: fails with a traceback in the log, and no answer"""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        environment = {**os.environ, "TCPREMOTEIP": "fe80::1%nosuch", "TCPREMOTEPORT": "1"}
        words = [sockd_script, "--inetd", "upper"]
        process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environment)
        theirs.close()
        ours.settimeout(20)
        ours.sendall(b"x\n")
        assert ours.recv(100) == b"X\n"
        ours.close()
        assert process.wait(20) == 0
        process.stderr.close()
