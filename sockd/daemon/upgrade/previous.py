# SPDX-License-Identifier: MIT
"""Processes before this one that have not exited, because some of their connections could not move.

They end when this one does: each sees the end of the channel that it shares with this process, which is passed on from
upgrade to upgrade.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sockd.daemon.upgrade.channel import Channel
    from sockd.daemon.upgrade.receiver import UpgradeReceiver
    from sockd.net.loop.loop import EventLoop


class PreviousProcesses:
    """Previous processes, which still serve connections that could not move; they exit when this one does."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self.channels: list[Channel] = []

    def __len__(self) -> int:
        """Return the number that have not exited."""
        return len(self.channels)

    def watch(self, predecessor: UpgradeReceiver) -> None:
        """Add a previous process, and those before it."""
        for channel in (predecessor.channel, *predecessor.previous_processes):
            self.channels.append(channel)
            self._loop.add_reader(channel.fileno(), partial(self._ended, channel))

    def _ended(self, channel: Channel) -> None:
        self.channels.remove(channel)
        self._loop.remove_reader(channel.fileno())
        channel.close()

    def close(self) -> None:
        """Let them close their connections gracefully, unless another process has the channels as well."""
        for channel in list(self.channels):
            self._ended(channel)


__all__ = ["PreviousProcesses"]
