# SPDX-License-Identifier: MIT
"""Programs of inetd and xinetd as the exec service runs them, and their internal services.

The exec service gives a program its path as argv[0], unless the old configuration has a name that differs from it.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from sockd.settings.builtin import INETD_BUILTINS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sockd.importer.model import Draft, Host, Place

DAEMON_DIRECTORY = "/usr/sbin"
"""REAL_DAEMON_DIR of tcpd(8) on Debian and most others."""


def internal(draft: Draft, name: str, *, stream: bool) -> None:
    """Replace an internal service of inetd by its equivalent, or note that there is none."""
    if name in INETD_BUILTINS:
        draft.builtin = INETD_BUILTINS[name]
    else:
        kind = "stream" if stream else "dgram"
        draft.leave_out(
            f"internal {name} ({kind}) has no equivalent; {', '.join(sorted({*INETD_BUILTINS.values()}))} have one"
        )


def external(draft: Draft, path: str, words: Sequence[str], host: Host, *, place: Place) -> None:
    """Give a service its program.

    Args:
        draft: gets exec, argv0 and stderr.
        path: of the program.
        words: from argv[0] on; may be empty.
        host: for tcpd(8).
        place: of the program in its file.
    """
    name, *arguments = words or (os.path.basename(path),)
    if os.path.basename(path) == "tcpd":
        path = name if os.path.isabs(name) else f"{DAEMON_DIRECTORY}/{name}"
        ask_access(draft, "tcpd(8)", host, place)
        if not host.access_rule:
            draft.lose("tcpd(8) is left out: hosts.allow and hosts.deny have no rules; write allow and deny", place)
    elif os.path.basename(name) != os.path.basename(path):
        draft.program["argv0"] = name
    draft.program |= {"exec": [path, *arguments], "stderr": "socket"}


def ask_access(draft: Draft, who: str, host: Host, place: Place) -> None:
    """Leave a service out if it checked hosts_access(5) and there are rules."""
    if host.access_rule:
        text = f"{who} checked hosts_access(5), and there are rules ({host.access_rule}), which sockd does not read"
        draft.leave_out(f"{text}; write them as allow and deny", place)


def leave_out_wait(draft: Draft, what: str, place: Place) -> None:
    """Leave out a program that needs the listening socket itself, and say how to run it."""
    if draft.is_left_out:  # for another reason, by which this is no remedy
        return
    user, group = draft.program.get("user"), draft.program.get("group")
    words = ["sockctl", "bind", *(["--user", str(user)] if user else []), *(["--group", str(group)] if group else [])]
    command = draft.program.get("exec")
    program = command if isinstance(command, list) else []
    lines = (shlex.join([*words, "--stdin", address, "--", *program]) for address in draft.addresses)
    text = f"{what}: the program uses the listening socket itself, and exec passes connections; it can be run by"
    draft.leave_out(f"{text}: {'; '.join(lines)}", place)
