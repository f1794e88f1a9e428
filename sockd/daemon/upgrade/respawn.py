# SPDX-License-Identifier: MIT
"""Starting the program again: its command line, and the new process."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

from sockd.daemon.upgrade import UPGRADE_VARIABLE
from sockd.errors import fault
from sockd.files.kept_directory import current_directory
from sockd.lazy import lazily
from sockd.values import dataclass

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

    from sockd.daemon.upgrade import channel
    from sockd.daemon.upgrade.channel import Channel
else:
    channel = lazily("sockd.daemon.upgrade.channel")
    subprocess = lazily("subprocess")


@dataclass(frozen=True)
class StartCommand:
    """How this process was started, to start it again in the same way.

    Args:
        words: the program and its arguments.
        environment: of the start, without what was meant for this process alone.
        directory: the working directory of the start.
    """

    words: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str

    @classmethod
    def from_this_process(cls) -> StartCommand:
        """Record it, before the environment, the working directory or the root directory changes."""
        return cls((sys.executable, *sys.orig_argv[1:]), dict(os.environ), current_directory() or os.sep)

    def start(self) -> ChildProcess:
        """Start the program.

        Raises: SystemFault, PermissionFault: it cannot be started; the reason is the kernel's.
        """
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:  # no descriptor is left
            raise fault(error, "cannot create a channel to a new process") from None
        environment = {**self.environment, UPGRADE_VARIABLE: str(theirs.fileno())}
        try:
            process = subprocess.Popen(
                self.words, cwd=self.directory, env=environment, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
            )
        except OSError as error:
            ours.close()
            raise fault(error, f"cannot be started: {error.filename or self.words[0]}") from None
        finally:
            theirs.close()
        return ChildProcess(process, channel.Channel(ours))


@dataclass(eq=False)
class ChildProcess:
    """The new process; this one may kill it until it has taken over.

    Args:
        process: its parent (sockd.process.intermediate), which ends as it ends.
        channel: to the new process.
        pid: of the new process, once it is released.
    """

    process: subprocess.Popen[bytes]
    channel: Channel
    pid: int = 0

    def release(self, pid: int) -> None:
        """Make it a child of the service manager, or of process 1, by ending its parent."""
        self.pid = pid
        self.process.kill()
        self.process.wait()

    def kill(self) -> None:
        """End it at once; it is still to be reaped, by ended()."""
        self.process.terminate()

    def ended(self) -> str:
        """Return how it ended, and reap it; empty while it runs."""
        if self.pid:
            return "it exited"  # how, its new parent knows
        code = self.process.poll()
        if code is None:
            return ""
        return f"it exited with code {code}" if code >= 0 else f"it was killed by signal {-code}"


__all__ = ["ChildProcess", "StartCommand"]
