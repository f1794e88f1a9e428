# SPDX-License-Identifier: MIT
"""Readiness of descriptors of any kind: a socket, a terminal, a pipe or a file.

For programs that copy standard input and output (FAQ II.18); the daemon's own connections do not use it.
"""

from __future__ import annotations

import selectors


class Poller:
    """A selector that also accepts what epoll(7) rejects: files, which are always ready."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._files: dict[int, int] = {}

    def close(self) -> None:
        """Close the selector."""
        self._selector.close()

    def is_file(self, fd: int) -> bool:
        """Return whether epoll rejected the descriptor, so that it never blocks for long."""
        return fd in self._files

    def want(self, fd: int, events: int) -> None:
        """Set the events to wait for on a descriptor; 0 for none, not even a hang-up."""
        if fd in self._files:
            self._files[fd] = events
            return
        now = self._selector.get_map().get(fd)
        if now is None and events:
            try:
                self._selector.register(fd, events)
            except PermissionError:  # EPERM of epoll_ctl(2): a file or a directory
                self._files[fd] = events
        elif now is not None and not events:
            self._selector.unregister(fd)
        elif now is not None and now.events != events:
            self._selector.modify(fd, events)

    def wait(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait up to that many seconds, None for ever; return descriptors with their events."""
        ready = [(fd, events) for fd, events in self._files.items() if events]
        selected = self._selector.select(0 if ready else timeout)
        return ready + [(key.fd, events) for key, events in selected]
