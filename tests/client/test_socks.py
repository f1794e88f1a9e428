# SPDX-License-Identifier: MIT
"""sockctl connect --via: through a SOCKS server, with the header of a proxy behind it, and what goes wrong."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading

import pytest

LIMIT_S = 30
OK = b"\5\0\0\1" + bytes(6)


@pytest.fixture
def socks():
    """A server that takes one client: what it is to say to each message of so many bytes."""
    listener = socket.create_server(("127.0.0.1", 0))
    heard, threads = [], []

    def start(*steps):
        def run():
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(LIMIT_S)
                for size, answer in steps:
                    data = b""
                    while len(data) < size and (some := sock.recv(size - len(data))):
                        data += some
                    heard.append(data)
                    sock.sendall(answer)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return f"127.0.0.1:{listener.getsockname()[1]}", heard

    yield start
    listener.close()
    for thread in threads:
        thread.join(LIMIT_S)


def sockctl(*words, text=b"", **environment):
    program = shutil.which("sockctl", path=os.path.dirname(sys.executable))
    return subprocess.run(
        [program, "connect", *words],
        input=text,
        capture_output=True,
        timeout=LIMIT_S,
        env={**os.environ, **environment},
    )


def test_the_name_is_the_servers_to_look_up_and_nothing_of_the_answer_is_lost(socks):
    name = b"inside.example"
    request = b"\5\1\0\3" + bytes((len(name),)) + name + (2525).to_bytes(2, "big")
    at, heard = socks((3, b"\5\0"), (len(request), OK + b"220 welcome\n"), (5, b"bye\n"))
    done = sockctl("--via", f"socks5://{at}", "tcp://inside.example:2525", text=b"QUIT\n")
    assert (done.returncode, done.stdout) == (0, b"220 welcome\nbye\n"), done.stderr
    assert heard == [b"\5\1\0", request, b"QUIT\n"]


@pytest.mark.parametrize("how", ["file", "environment"])
def test_the_password_comes_from_a_file_or_the_environment(socks, tmp_path, how):
    at, heard = socks((4, b"\5\2"), (14, b"\1\0"), (10, OK))
    (tmp_path / "password").write_text("secret\nnot this\n")
    more = ["--via-password", tmp_path / "password"] if how == "file" else []
    variables = {"SOCKD_VIA_PASSWORD": "secret"} if how == "environment" else {}
    done = sockctl("--via", f"socks5://alice@{at}", *more, "tcp://192.0.2.1:25", **variables)
    assert done.returncode == 0, done.stderr
    assert heard == [b"\5\2\0\2", b"\1\5alice\6secret", b"\5\1\0\1\xc0\0\2\1\0\x19"]


def test_the_proxy_header_goes_behind_it(socks):
    at, heard = socks((3, b"\5\0"), (10, OK), (1000, b""))
    done = sockctl("--via", f"socks5://{at}", "--proxy-header", "v1", "tcp://192.0.2.1:25")
    assert done.returncode == 0, done.stderr
    assert heard[2].startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([(3, b"\5\0"), (10, b"\5\5\0\1" + bytes(6))], "connection refused"),
        ([(3, b"\5\xff")], "it accepts none of the offered methods; add a user"),
        ([(3, b"HTTP/1.1 400")], "it answers with 0x48, which is not SOCKS 5"),
        ([(3, b"\5\0"), (10, b"\5\0\0\7xx")], "it replies with an address of type 7"),
        ([(3, b"")], "closed by the server while waiting for the method selection"),
    ],
)
def test_what_it_says_is_said(socks, steps, words):
    at, _ = socks(*steps)
    done = sockctl("--via", f"socks5://{at}", "tcp://192.0.2.1:25")
    assert (done.returncode, done.stdout) == (75, b"")
    assert f"tcp://192.0.2.1:25 via tcp://{at}: {words}" in done.stderr.decode()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--via", "socks4://h:1", "tcp://h:1"], "is not a SOCKS server"),
        (["--via", "socks5://alice:secret@h:1", "tcp://h:1"], "contains a password, which others could read"),
        (["--via", "socks5://h:1", "unix:/x"], "--via supports only tcp://"),
        (["--via", "socks5://alice@h:1", "tcp://h:1"], "no password for alice, and no terminal"),
        (["--via", "socks5://h:1", "--via-password", "/x", "tcp://h:1"], "needs a user in --via"),
        (["--via", "socks5://h:99999", "tcp://h:1"], "99999"),
    ],
)
def test_a_wrong_command_line_is_named(words, reason):
    done = sockctl(*words)
    assert done.returncode == 64
    assert reason in done.stderr.decode()
