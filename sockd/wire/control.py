"""The control socket's protocol: a JSON object in one line asks, a JSON object in one line answers, and that is all.

A question is {"verb": "close", ...}; an answer {"ok": true, "result": ...}, or {"ok": false, "error": "...",
"exit": 71} with an exit code of sysexits(3).  Then the connection is closed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_QUESTION_BYTES = 20 * 1024 * 1024
"""`plan` sends a configuration, which has 16 MiB at most (sockd.config), escaped for JSON."""
VERBS = ("status", "connections", "close", "drain", "reload", "plan", "upgrade", "stop", "log-level")


class ControlError(ValueError):
    """The bytes are no question, or no answer."""


@dataclass(frozen=True)
class Question:
    """What is asked.

    Args:
        verb: one of VERBS.
        words: what goes with it.
    """

    verb: str
    words: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Write it as a line."""
        return _line({"verb": self.verb, **self.words})


def read_question(line: bytes, verbs: Sequence[str] = VERBS) -> Question:
    """Read a question.

    Raises:
        ControlError: it is none, or its verb is unknown.
    """
    table = _table(line)
    verb = table.pop("verb", None)
    if verb not in verbs:
        raise ControlError(f"verb: {json.dumps(verb)} is none of {', '.join(verbs)}")
    return Question(verb, table)


@dataclass(frozen=True)
class Answer:
    """What is answered: a result, or an error and the exit code that goes with it."""

    result: Any = None
    error: str = ""
    exit_code: int = 0

    def encode(self) -> bytes:
        """Write it as a line."""
        if self.error:
            return _line({"ok": False, "error": self.error, "exit": self.exit_code})
        return _line({"ok": True, "result": self.result})


def read_answer(line: bytes) -> Answer:
    """Read an answer.

    Raises:
        ControlError: it is none, such as one that was cut.
    """
    table = _table(line)
    if table.get("ok") is True:
        return Answer(table.get("result"))
    error, code = table.get("error"), table.get("exit")
    if not isinstance(error, str) or not isinstance(code, int):
        raise ControlError("an answer without result and without error")
    return Answer(error=error, exit_code=code)


def _line(table: dict[str, Any]) -> bytes:
    return json.dumps(table).encode("ascii") + b"\n"


def _table(line: bytes) -> dict[str, Any]:
    try:
        table = json.loads(line)
    except ValueError as error:
        raise ControlError(f"not JSON: {error}") from None
    if not isinstance(table, dict):
        raise ControlError("not a JSON object")
    return table
