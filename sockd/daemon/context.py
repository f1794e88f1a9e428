# SPDX-License-Identifier: MIT
"""The context of a start: what a daemon inherits, who started it, and its callbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.process.socket_activation import Inherited
from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sockd.daemon.upgrade.fdstore import StoredConnections
    from sockd.daemon.upgrade.receiver import UpgradeReceiver
    from sockd.daemon.upgrade.respawn import StartCommand
    from sockd.process.signals import Signals
    from sockd.settings import Settings


@dataclass(frozen=True)
class StartContext:
    """What a daemon gets besides its settings.

    Args:
        ready: called with (address, service) of every listener, once it serves.
        imported: called once every handler is imported, or one could not be.
        check: reads the configuration again, and raises what is wrong with it; None where there is not a file.
        parse: does the same for a text, its name, and the variables that it may name.
        configuration: the absolute path of that file.
        background: no terminal: the log goes to syslog if nothing else is said, and root needs a user to become.
        root_may_stay: root may serve without the configuration's word.
        given: what systemd, or whoever started us, passed.
        trace: each frame is a line of the log.
        command: how this process was started, for an upgrade; None where it cannot be started again.
        predecessor: the process before us, in an upgrade.
        stored: connections of the process before us, in a restart.
        contained: process 1 of the namespace, which ends with this one, stands before it.
        dropped: called once rights are dropped.
        let_go: lets go of whoever waits for the start, in a process that was forked from this one.
        signals: taken over already; None: the daemon does so itself.
    """

    ready: Callable[[Sequence[tuple[str, str, bool]]], None]
    imported: Callable[[], None] = lambda: None
    check: Callable[[], Settings] | None = None
    parse: Callable[[str, str, Mapping[str, str]], Settings] | None = None
    configuration: str | None = None
    background: bool = False
    root_may_stay: bool = False
    given: Inherited = Inherited()
    trace: bool = False
    command: StartCommand | None = None
    predecessor: UpgradeReceiver | None = None
    stored: StoredConnections | None = None
    contained: bool = False
    dropped: Callable[[], None] = lambda: None
    let_go: Callable[[], None] = lambda: None
    signals: Signals | None = None
