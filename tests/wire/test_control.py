"""Questions and answers of the control socket, as bytes."""

from __future__ import annotations

import pytest

from sockd.wire.control import Answer, ControlError, Question, read_answer, read_question


def test_what_is_asked_comes_back():
    question = Question("close", {"id": 7, "text": "line\nfeed \udcff"})
    line = question.encode()
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert read_question(line) == question


@pytest.mark.parametrize("answer", [Answer({"a": [1, None, "ü\n"]}), Answer(None), Answer(error="no", exit_code=77)])
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


@pytest.mark.parametrize("line", [b"\xff\n", b"[]\n", b'{"verb": []}\n', b'{"verb": "fly"}\n'])
def test_what_is_no_question(line):
    with pytest.raises(ControlError):
        read_question(line)
