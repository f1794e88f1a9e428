# SPDX-License-Identifier: MIT
"""The servers of examples/embedding run and answer."""

import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

DIRECTORY = Path(__file__).resolve().parents[2] / "examples" / "embedding"
LIMIT_S = 30


@contextmanager
def serving(name):
    """Start an example; gives a function that sends bytes, ends, and returns all that is answered."""
    command = [sys.executable, str(DIRECTORY / name)]
    with subprocess.Popen(command, cwd=DIRECTORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            word, port = process.stdout.readline().split()
            assert word == "listening"
            yield lambda *pieces: asked(int(port), pieces)
        finally:
            process.terminate()


def asked(port, pieces):
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while data := connection.recv(65536):
            answer += data
        return answer


def test_asyncio_lines():
    with serving("asyncio_lines.py") as ask:
        assert ask(b"hel", b"lo\nwor", b"ld\r\n") == b"HELLO\nWORLD\n"
        long = b"x" * 2000
        assert ask(b"a\n" + long, long + b"\nb\n") == b"A\n? a line has at most 1000 bytes\nB\n"
        assert ask(b"a\nbc") == b"A\n? 2 bytes without a newline\n"


def test_twisted_netstrings():
    pytest.importorskip("twisted", reason="Twisted is not installed")
    with serving("twisted_netstrings.py") as ask:
        assert ask(b"5:he", b"llo,0:,5:wo") == b"5:HELLO,0:,"
        assert ask(b"1:a,01:b,") == b"1:A,"


def test_blocking_mail():
    with serving("blocking_mail.py") as ask:
        session = b"HELO a\r\nDATA\r\nSubject: x\r\n\r\n..\r\nQUIT\r\n.\r\nQUIT\r\n"
        answers = b"220 here\r\n250 ok\r\n354 end with a dot\r\n250 23 bytes in 4 lines\r\n221 bye\r\n"
        assert ask(session) == answers
        assert ask(*(session[at : at + 1] for at in range(len(session)))) == answers
        assert ask(b"x" * 600).startswith(b"220 here\r\n500 the frame at byte 0 is longer than 512")


@pytest.mark.skipif(shutil.which("cc") is None or shutil.which("make") is None, reason="no C compiler, or no make")
def test_two_c_files_beside_a_program(tmp_path):
    csrc = DIRECTORY.parents[1] / "csrc"
    if not csrc.exists():
        pytest.skip("needs csrc/")
    subprocess.run(["make", "-s", "-C", str(csrc), "dist", f"BUILD={tmp_path}/build"], check=True)
    for name in ("sockbuf.c", "sockbuf.h"):
        shutil.copy(tmp_path / "build" / "dist" / name, tmp_path)
    shutil.copy(DIRECTORY / "netstrings.c", tmp_path)
    subprocess.run(["cc", "netstrings.c", "sockbuf.c", "-o", "netstrings"], check=True, cwd=tmp_path)
    run = subprocess.run([tmp_path / "netstrings"], input=b"5:hello,0:,5:world,", capture_output=True, check=True)
    assert run.stdout == b"hello\n\nworld\n"
    assert subprocess.run([tmp_path / "netstrings"], input=b"5:hello,0:", capture_output=True).returncode == 65
    assert subprocess.run([tmp_path / "netstrings"], input=b"01:a,", capture_output=True).returncode == 65
