# SPDX-License-Identifier: MIT
"""The settings in effect: one value for all parts of a process, which a reload replaces.

Code that must react to changes registers once; all others read the settings here, when they need them, so no part can
keep old ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.settings import DaemonSettings, Settings


class EffectiveSettings:
    """What is served by.

    Args:
        settings: checked.

    Attributes:
        current: those in effect now.
    """

    def __init__(self, settings: Settings) -> None:
        self.current = settings
        self._observers: list[Callable[[Settings], None]] = []

    @property
    def daemon(self) -> DaemonSettings:
        """[daemon] of these."""
        return self.current.daemon

    def when_replaced(self, observer: Callable[[Settings], None]) -> None:
        """Call it, after earlier registrations, whenever other settings take effect."""
        self._observers.append(observer)

    def replace(self, settings: Settings) -> None:
        """Have others take effect: those keys of [daemon] that can be changed while it serves."""
        self.current = settings
        for observer in self._observers:
            observer(settings)


__all__ = ["EffectiveSettings"]
