"""A descriptor kept in reserve, for the moment when the process has no other (FAQ II.10).

Without it a connection that cannot be accepted stays in the queue, the
listening socket stays readable, and the loop spins.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


KIND = socket.SOCK_DGRAM | getattr(socket, "SOCK_NONBLOCK", 0)


class Reserve:
    """One spare descriptor of the process, shared by all listeners."""

    def __init__(self) -> None:
        self._fd = -1
        self._fill()

    def _fill(self) -> None:
        if self._fd < 0:
            try:
                self._fd = socket.socket(socket.AF_UNIX, KIND).detach()  # needs no path, so it works after chroot(2)
            except OSError:
                self._fd = -1  # somebody was quicker; the next shed() tries again

    def shed(self, accept: Callable[[], tuple[socket.socket, object]]) -> bool:
        """Accept one connection with the spare descriptor, and close it at once.

        Returns:
            Whether there was one.
        """
        self.close()
        try:
            accept()[0].close()
        except OSError:
            return False
        finally:
            self._fill()
        return True

    def close(self) -> None:
        """Give it back."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):  # closed all the same (close(2))
                os.close(fd)
