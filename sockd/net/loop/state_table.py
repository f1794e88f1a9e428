# SPDX-License-Identifier: MIT
"""States as a table: the allowed transitions of an object, and nothing else.

An object holds its state as a member of an Enum, compared by identity, so that a look at it costs no call.  Only a
change goes through the table.  A change that the table does not have is a failure of sockd itself: it is raised, and
whichever border it comes to (docs/architecture.md, "Borders") logs it and ends that connection alone.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

S = TypeVar("S", bound=Enum)


class IllegalTransitionError(RuntimeError):
    """An object was to change to a state that its table does not let it come to."""

    def __init__(self, now: Enum, then: Enum) -> None:
        super().__init__(f"{type(now).__name__}: from {now.name} to {then.name}, which its table does not allow")


class StateTable(Generic[S]):
    """The states that each state may be followed by.

    Args:
        steps: for each state those that may follow; a state that is not among its own followers comes once.

    Raises:
        ValueError: the steps of a state are missing.
    """

    def __init__(self, steps: Mapping[S, Collection[S]]) -> None:
        self.steps = {now: frozenset(then) for now, then in steps.items()}
        kind = type(next(iter(steps)))
        if missing := [state.name for state in kind if state not in self.steps]:
            raise ValueError(f"{kind.__name__}: nothing is said of {', '.join(missing)}")

    def step(self, now: S, then: S) -> S:
        """Return the new state.

        Raises:
            IllegalTransitionError: the table does not have this step.
        """
        if then not in self.steps[now]:
            raise IllegalTransitionError(now, then)
        return then


__all__ = ["IllegalTransitionError", "StateTable"]
