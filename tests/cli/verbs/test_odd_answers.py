# SPDX-License-Identifier: MIT
"""sockctl beside a control socket that answers what no daemon of this version does: another version, or an attacker.

Before: a traceback for each reply of another shape, exit codes of the other's choice (0 for an error), and a reply
without an end was read without an end.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from contextlib import suppress

import pytest

from sockd.cli import sockctl
from sockd.cli.verbs import admin

ESCAPES = "\x1b]0;title\x07\x1b[31m\u202e\x9b31m[/x]\r\n"
VERBS = (
    ("status",), ("connections",), ("close", "1"), ("drain", "tcp://127.0.0.1:1"), ("reload",), ("upgrade",),
    ("stop",), ("log-level", "info"), ("status", "--json"), ("plan", "--json"), ("plan",),
)  # fmt: skip


def good(result):
    return json.dumps({"ok": True, "result": result}).encode() + b"\n"


def bad(error, code):
    return json.dumps({"ok": False, "error": error, "exit": code}).encode() + b"\n"


SHAPES = {
    "list": good([]),
    "number": good(5),
    "null": good(None),
    "text": good(ESCAPES),
    "object": good({}),
    "keys": good({ESCAPES: ESCAPES}),
    "wrong parts": good({"listeners": 5, "services": "x", "pid": ESCAPES, "changes": 1, "impossible": 7}),
    "no daemon": good({"kept": [], "added": [], "removed": [], "later": [], "impossible": [], "daemon": 5}),
    "rows": good([{"id": ESCAPES, "peer": ESCAPES}] * 2),
    "numbers": good([1, 2]),
    "nan": b'{"ok": true, "result": NaN}\n',
    "surrogate": b'{"ok": true, "result": "\\ud800"}\n',
}
NO_ANSWERS = {
    "exit 0": bad("x", 0),
    "a huge exit code": bad("x", 10**30),
    "a negative exit code": bad("x", -5),
    "a true exit code": bad("x", True),
    "deep": b"[" * 200_000 + b"\n",
    "many digits": b'{"ok": true, "result": ' + b"9" * 5000 + b"}\n",
    "words": b"hello\x1b[31m\n",
    "cut": b'{"ok": true, "resu',
    "nothing": b"",
    "bytes": bytes(range(256)) + b"\n",
}


@pytest.fixture
def answering(tmp_path):
    """A control socket that gives each client the next of these answers."""
    path = tmp_path / "control"
    listening = socket.create_server(str(path), family=socket.AF_UNIX)
    answers: list[bytes] = []

    def serve():
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            with client, suppress(ConnectionError):  # it leaves at its bound
                client.recv(1 << 20)
                client.sendall(answers[0])

    thread = threading.Thread(target=serve)
    thread.start()
    yield path, answers
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


def run(path, words, answer, answering, capfd):
    answering[:] = [answer]
    words = [*words, os.devnull] if words[0] == "plan" else words
    code = sockctl.main(["--control", str(path), *words])
    said = capfd.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_an_answer_of_another_shape_is_an_error_of_one_line_or_is_printed_escaped(answering, capfd, words):
    path, answers = answering
    for name, answer in SHAPES.items():
        code, out, err = run(path, words, answer, answers, capfd)
        assert code in (0, 76, 78), (name, code, err)
        assert not set("\x1b\x07\x9b\u202e") & set(out + err), (name, out, err)
        if code == 76:
            assert err.startswith(f"sockctl: {path}: the reply to {words[0]} cannot be printed"), (name, err)
            assert err.count("\n") == 1, (name, err)


@pytest.mark.parametrize("name", NO_ANSWERS)
def test_what_is_no_answer_is_75(answering, capfd, name):
    path, answers = answering
    for words in VERBS[:3]:
        code, out, err = run(path, words, NO_ANSWERS[name], answers, capfd)
        assert (code, out) == (75, ""), (words, code, err)
        assert "another program listens there" in err


def test_an_answer_without_an_end_is_left_at_a_bound(answering, capfd, monkeypatch):
    path, answers = answering
    monkeypatch.setattr(admin, "MAX_ANSWER_BYTES", 1 << 20)
    code, _, err = run(path, ("status",), b"x" * (3 << 20), answers, capfd)
    assert (code, "a reply of more than 1 MiB" in err) == (75, True), err


def test_an_answer_that_comes_byte_by_byte_is_left_at_the_time_limit(tmp_path):
    ours, theirs = socket.socketpair()
    stop = threading.Event()

    def drip():
        while not stop.wait(0.02):
            try:
                theirs.send(b" ")
            except OSError:
                return

    thread = threading.Thread(target=drip)
    thread.start()
    with ours, theirs, pytest.raises(TimeoutError):
        admin._receive_all(ours, 0.2)
    stop.set()
    thread.join()
