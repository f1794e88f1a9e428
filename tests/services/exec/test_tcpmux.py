# SPDX-License-Identifier: MIT
"""tcpmux (RFC 1078) on the running daemon: a client names a program in its first line, and gets it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from sockd.config.load import loads
from sockd.errors import ConfigurationError
from sockd.settings.tcpmux import read_name

BIN = Path(sys.executable).parent
OWN = 'user = "root"' if os.geteuid() == 0 else ""
CONFIG = f"""
[daemon]
{OWN}
stop_timeout = "1s"
[[listen]]
address = "tcp://127.0.0.1:0"
service = "mux"
[service.mux]
tcpmux = ["shout", "+cat=my-cat", "+one"]
[service.shout]
exec = ["/bin/sh", "-c", "read word; echo +Here; echo $word $TCPREMOTEPORT"]
{OWN}
[service.my-cat]
exec = ["/bin/cat"]
{OWN}
[service.one]
exec = ["/bin/cat"]
max_instances = 1
{OWN}
"""


@pytest.fixture
def mux(launch, tmp_path):
    (tmp_path / "sockd.toml").write_text(CONFIG)
    server = launch("-f", "--log-format", "json", "-c", "sockd.toml").ready()
    yield server
    server.stop()


def ask(server, said, *, half_close=True):
    with closing(server.connect()) as client:
        client.send(said)
        if half_close:
            client.half_close()
        return client.to_end()


def test_help_lists_the_names(mux):
    assert ask(mux, b"help\r\n", half_close=False) == b"shout\r\ncat\r\none\r\n"
    assert ask(mux, b"HELP\n", half_close=False) == b"shout\r\ncat\r\none\r\n"


def test_a_program_answers_by_itself_without_plus(mux):
    with closing(mux.connect()) as client:
        port = client.name.rpartition(":")[2]
        client.send(b"Shout\r\nhello\n")
        assert client.to_end() == f"+Here\nhello {port}\n".encode()


def test_sockd_answers_with_plus_and_the_rest_is_the_programs(mux):
    assert ask(mux, b"CAT\r\n" + b"x" * 100_000) == b"+Go\r\n" + b"x" * 100_000


def test_a_line_that_comes_byte_by_byte(mux):
    with closing(mux.connect()) as client:
        for byte in b"cat\r\nhi":
            client.send(bytes([byte]))
        client.half_close()
        assert client.to_end() == b"+Go\r\nhi"


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"nothing\r\n", b"-Service not available\r\n"),
        (b"\r\n", b"-Service not available\r\n"),
        (b"my-cat\r\n", b"-Service not available\r\n"),  # the name of the table, not of the service
        (b"\xff\x00\r\n", b"-Service not available\r\n"),
        (b"x" * 256, b"-Line too long\r\n"),
        (b"x" * 10_000, b"-Line too long\r\n"),
    ],
)
def test_what_is_not_there_is_answered_minus(mux, said, answer):
    assert ask(mux, said, half_close=False) == answer
    event = mux.wait_for("tcpmux: client not served")
    assert event["service"] == "mux"
    assert mux.wait_for("refused")["reason"] == "tcpmux"


def test_max_instances_of_each_program_hold(mux):
    with closing(mux.connect()) as first:
        first.send(b"one\r\n")
        assert first.line() == b"+Go\r\n"
        mux.wait_for("program started")
        assert ask(mux, b"one\r\n", half_close=False) == b"-Service busy\r\n"
        assert ask(mux, b"cat\r\n") == b"+Go\r\n"
    mux.wait_for("program ended", count=2)
    assert ask(mux, b"one\r\n") == b"+Go\r\n"


def test_a_client_that_leaves_without_a_line_is_counted(mux):
    with closing(mux.connect()) as client:
        client.send(b"hal")
    assert ask(mux, b"cat\r\n") == b"+Go\r\n"


def test_a_client_without_a_line_does_not_hold_up_a_stop(mux):
    with closing(mux.connect()) as client:
        client.send(b"hal")
        mux.signal()
        assert client.to_end() == b"-Shutting down\r\n"
        assert mux.wait() == 0


def test_under_inetd(tmp_path):
    (tmp_path / "sockd.toml").write_text(CONFIG)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = subprocess.Popen(
            [BIN / "sockd", "--inetd", "mux", "-c", "sockd.toml"], stdin=theirs, stdout=theirs, cwd=tmp_path
        )
        theirs.close()
        ours.settimeout(30)
        ours.sendall(b"cat\r\nhello")
        ours.shutdown(socket.SHUT_WR)
        said = b""
        while piece := ours.recv(100):
            said += piece
        assert said == b"+Go\r\nhello"
        assert done.wait(30) == 0


# ---- the configuration


@pytest.mark.parametrize(
    ("names", "error"),
    [
        ('["nowhere"]', "nowhere"),
        ('["handler"]', "not a service that executes a program; add [service.handler] with exec"),
        ('["waits"]', "has wait = true"),
        ('["cat", "+CAT=cat"]', "is a duplicate of"),
        ('["help=cat"]', "is what clients send to get the list of names"),
        ('["two words"]', "is not a name of tcpmux"),
        ("[]", "is empty"),
    ],
)
def test_what_cannot_be_chosen_is_named(names, error):
    text = f"""
[[listen]]
address = "tcp://127.0.0.1:0"
service = "mux"
[service.mux]
tcpmux = {names}
[service.handler]
builtin = "upper"
[service.cat]
exec = ["/bin/cat"]
[service.waits]
exec = ["/bin/cat"]
wait = true
"""
    with pytest.raises(ConfigurationError) as caught:
        loads(text, name="t")
    assert "t:6: service.mux.tcpmux" in str(caught.value)
    assert error in str(caught.value)


@pytest.mark.parametrize("text", ["cat", "+cat", "cat=other", "+a/b=c.d"])
def test_a_name_is_written_as_it_was_read(text):
    assert str(read_name(text)) == text


def test_datagrams_are_refused(tmp_path):
    text = CONFIG.replace("tcp://", "udp://")
    (tmp_path / "sockd.toml").write_text(text)
    done = subprocess.run(
        [BIN / "sockd", "--check", "-c", "sockd.toml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 78
    assert "cannot answer datagrams" in done.stderr
