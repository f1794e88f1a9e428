# SPDX-License-Identifier: MIT
"""Questions and answers of the control socket, as bytes."""

from __future__ import annotations

import re

import pytest

from sockd.wire.control import ControlError, ControlRequest, ControlResponse, read_answer, read_question


def test_what_is_asked_comes_back():
    question = ControlRequest("plan", {"name": "7", "text": "line\nfeed \udcff"})
    line = question.encode()
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert read_question(line) == question


@pytest.mark.parametrize(
    "answer",
    [ControlResponse({"a": [1, None, "ü\n"]}), ControlResponse(None), ControlResponse(error="no", exit_code=77)],
)
def test_what_is_answered_comes_back(answer):
    line = answer.encode()
    assert line.count(b"\n") == 1
    assert read_answer(line) == answer


NO_ANSWERS = (
    b"",
    b"{",
    b"1\n",
    b'{"ok": false}\n',
    b'{"ok": 1, "result": 1}\n',
    b'{"ok": false, "error": 1, "exit": 2}\n',
)


@pytest.mark.parametrize("line", NO_ANSWERS)
def test_what_is_no_answer(line):
    with pytest.raises(ControlError):
        read_answer(line)


NO_QUESTIONS = {
    b"\xff\n": "not JSON",
    b"[]\n": "not a JSON object",
    b'{"verb": []}\n': "verb: [] is not one of status, ",
    b'{"verb": "fly"}\n': 'verb: "fly" is not one of status, ',
    b"[" * 100_000 + b"\n": "nested too deeply",
    b'{"verb":' * 100_000 + b"\n": "nested too deeply",
    b'{"verb": "log-level", "level": []}\n': "log-level: level: [] is not a text",
    b'{"verb": "log-level"}\n': "log-level: level is missing",
    b'{"verb": "close", "id": true}\n': "close: id: true is not a number",
    b'{"verb": "close", "id": {"a": 1}}\n': 'close: id: {"a": 1} is not a number',
    b'{"verb": "drain", "listener": 1}\n': "drain: listener: 1 is not a text",
    b'{"verb": "plan", "text": "", "name": null}\n': "plan: name: null is not a text",
    b'{"verb": "status", "id": 1}\n': 'status: no argument "id"; known: none',
    b'{"verb": "plan", "text": 1%s, "name": ""}\n' % (b"0" * 100): "0... is not a text",
    b'{"verb": "close", "id": %s}\n' % (b"1" * 5000): "not JSON",
}


@pytest.mark.parametrize(("line", "words"), NO_QUESTIONS.items(), ids=range(len(NO_QUESTIONS)))
def test_what_is_no_question(line, words):
    with pytest.raises(ControlError, match=re.escape(words)):
        read_question(line)
