# SPDX-License-Identifier: MIT
"""Where something stands, among states of which a table says what may follow which.

A state is a member of an Enum, and the table has a row for each of them; what it does not have is a defect of sockd, so
it raises where it happens, and nothing goes on in a state that nobody thought of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Set
    from enum import Enum

S = TypeVar("S", bound="Enum")


class IllegalTransitionError(RuntimeError):
    """A state was to follow that cannot."""


class StateMachine(Generic[S]):
    """Knows the state of one thing.

    Args:
        first: its state at the beginning.
        table: what may follow each state.

    Attributes:
        now: its state.
    """

    def __init__(self, first: S, table: Mapping[S, Set[S]]) -> None:
        self._table = table
        self.now = first

    def become(self, state: S) -> None:
        """Go over to another state.

        Raises:
            IllegalTransitionError: it cannot follow.
        """
        if state not in self._table[self.now]:
            raise IllegalTransitionError(f"{type(state).__name__}: {state.name} cannot follow {self.now.name}")
        self.now = state

    def is_in(self, *states: S) -> bool:
        """Tell whether it is one of these."""
        return self.now in states


__all__ = ["IllegalTransitionError", "StateMachine"]
