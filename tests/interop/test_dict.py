# SPDX-License-Identifier: MIT
"""examples/dictionary.py asked by dict(1) and curl."""

from __future__ import annotations

import pytest
from programs import needs, port_of

curl = needs("curl", "curl")


@pytest.fixture
def daemon(serve_example):
    return serve_example("dictionary:service")


@pytest.fixture
def dict_of(daemon, run, tmp_path):
    """Run dict(1) without anybody's configuration."""
    (tmp_path / "dict.conf").write_text("server 127.0.0.1\n")  # an empty one is an error

    def ask(*words):
        where = ("-c", tmp_path / "dict.conf", "-h", "127.0.0.1", "-p", port_of(daemon.addresses[0]), "--pager", "-")
        done = run("dict", *where, *words, env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin"})
        return done.returncode, done.stdout.decode() + done.stderr.decode()

    return ask


WORDS = [  # of dict(1), and a part of what it then says
    (["socket"], "one end of a conversation"),
    (["Söckel"], "spelt by ear"),
    ([".plan"], "  .plan\n"),
    (["--match", "--strategy", "prefix", "so"], "words:  socket  sockd"),
    (["--match", "--strategy", "substring", "ock"], "words:  socket  sockd"),
    (["--match", "--strategy", "suffix", "KEL"], "words:  Söckel"),
    (["--dbs"], "The words of this dictionary"),
    (["--strats"], "substring"),
    (["--info", "words"], "The words of this dictionary"),
    (["--serverinfo"], "5 words"),
]


@needs("dict", "dict")
def test_dict(daemon, dict_of):
    for words, said in WORDS:
        code, text = dict_of(*words)
        assert said in text, words
        assert code == 0, words
    assert {daemon.wait_for("closed", count)["reason"] for count in range(1, len(WORDS) + 1)} <= {"closed", "eof"}


@needs("dict", "dict")
def test_dict_without_an_answer(dict_of):
    """Its exit codes, of dict(1)."""
    assert dict_of("nowhere")[0] == 20
    assert dict_of("--database", "other", "socket")[0] == 39
    assert dict_of("--match", "--strategy", "soundex", "socket")[0] == 40


@curl
def test_curl_whose_commands_come_before_the_greeting(daemon, run):
    url = f"dict://127.0.0.1:{port_of(daemon.addresses[0])}"
    done = run("curl", "-s", f"{url}/d:socket", f"{url}/m:frame::exact", f"{url}/show:db")
    assert done.returncode == 0
    said = done.stdout.decode().splitlines()
    assert "    one end of a conversation between two processes" in said
    assert 'words "frame"' in said
    assert 'words "The words of this dictionary"' in said
    assert said.count("221 bye") == 3


COMMANDS = [  # and the first line of the reply
    (b"DEFINE \"words\" '.plan'", b"150 1 definitions retrieved"),
    (b"define words", b"501 Syntax error, illegal parameters"),
    (b'DEFINE words "socket', b"501 Syntax error, illegal parameters"),
    (b"DEFINE words \xff", b"501 Syntax error, illegal parameters"),
    (b"SHOW DB now", b"501 Syntax error, illegal parameters"),
    (b"AUTH ann 0", b"500 Syntax error, command not recognized"),
    (b"", b"500 Syntax error, command not recognized"),
    (b"STATUS", b"210 ok"),
    (b"MATCH ! . sock", b"152 2 matches found"),
]


def test_commands(daemon):
    for command, reply in COMMANDS:
        client = daemon.connect()
        assert client.line().startswith(b"220 ")
        assert client.ask(command) == reply + b"\r", command
        client.send(b"QUIT\n")
        assert client.to_end().endswith(b"221 bye\r\n")
        assert daemon.end_of(client)["reason"] == "closed"


def test_a_line_that_is_a_dot_is_doubled(daemon):
    client = daemon.connect()
    assert b"\r\n..plan\r\n" in client.finish_with(b"DEFINE * .plan\r\nQUIT\r\n")
