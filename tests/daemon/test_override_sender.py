# SPDX-License-Identifier: MIT
"""The list of overrides on its way to workers, of which one does not answer."""

from __future__ import annotations

from sockd.daemon.overrides import Override
from sockd.daemon.workers.ipc import HAS_ENDED
from sockd.daemon.workers.override_sender import OverrideSender
from sockd.wire.control import ControlResponse


class Member:
    """A worker that answers when it is told to."""

    def __init__(self):
        self.asking = self
        self.lists, self.waiting = [], []

    def ask(self, question, then):
        self.lists.append([row["subject"] for row in question.words["rows"]])
        self.waiting.append(then)

    def answer(self, response=None):
        self.waiting.pop(0)(response or ControlResponse({}))


def test_a_worker_that_does_not_answer_has_one_list_waiting_and_then_gets_the_last():
    rows, hangs, answers = [], Member(), Member()
    sender = OverrideSender(lambda: rows)
    for number in range(100):
        rows.append(Override(number, "sensor", f"192.0.2.{number}/32", 0, None))
        sender.send([hangs, answers])
        answers.answer()
    assert (len(hangs.lists), len(answers.lists)) == (1, 100)
    hangs.answer()
    assert list(map(len, hangs.lists)) == [1, 100]
    hangs.answer()
    assert hangs.waiting == []


def test_one_that_has_ended_gets_none():
    ended = Member()
    sender = OverrideSender(list)
    sender.send([ended])
    sender.send([ended])
    ended.answer(HAS_ENDED)
    assert len(ended.lists) == 1
