# SPDX-License-Identifier: MIT
"""Programs of inetd and xinetd as the exec service runs them, and their internal services.

The exec service gives a program its path as argv[0], unless the old configuration has a name that differs from it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sockd.settings.builtin import INETD_BUILTINS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sockd.importer.model import Draft, Host, Place

DAEMON_DIRECTORY = "/usr/sbin"
"""REAL_DAEMON_DIR of tcpd(8) on Debian and most others."""
AT_ONCE = 64
"""Programs of a datagram service with nowait, which inetd starts for each datagram: as max_instances of others."""
TCPMUX = "tcpmux"
"""The internal service that passes clients on to programs (RFC 1078); the writer gives it their names."""
LOOK_AT_EACH = {
    "rate", "max_connections_per_source", "source_prefix_ipv6", "at_limit", "total_rate", "greeting_files",
    "banner_files", "deny_time", "ident",
}  # fmt: skip
"""Keys of [[listen]] for which each client is looked at (sockd.config.check_exec, NOT_FOR_WAIT)."""


def internal(draft: Draft, name: str, *, stream: bool) -> None:
    """Replace an internal service of inetd by its equivalent, or note that there is none."""
    if name == TCPMUX:
        draft.builtin = TCPMUX
    elif name in INETD_BUILTINS:
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
        ask_access(draft, os.path.basename(name), host, place)
    elif os.path.basename(name) != os.path.basename(path):
        draft.program["argv0"] = name
    draft.program |= {"exec": [path, *arguments], "stderr": "socket"}


def ask_access(draft: Draft, daemon: str, host: Host, place: Place) -> None:
    """Have hosts_access(5) asked for each connection, by the name of a daemon in its rules.

    Datagrams cannot be held against it: their service is left out where there are rules.
    """
    if all(address.startswith(("tcp:", "unix:")) for address in draft.addresses):
        draft.listen["hosts_access"] = {"daemon": daemon}
    elif host.access_rule:
        text = f"datagrams of {daemon} were held against hosts_access(5), and there are rules ({host.access_rule})"
        draft.leave_out(f"{text}; write them as allow and deny", place)
    else:
        draft.lose("tcpd(8) is left out: hosts.allow and hosts.deny have no rules; write allow and deny", place)


def pass_socket(draft: Draft, place: Place, instances: int | None = None) -> None:
    """Have a program get the listening or datagram socket itself, as wait has it; done last, for it drops keys.

    Args:
        draft: complete but for that.
        place: of the word in its file.
        instances: programs at once; None for one at a time.
    """
    draft.program["wait"] = True
    del draft.program["stderr"]  # what is written to a socket that has no peer is lost; it goes into the log
    draft.program.pop("max_instances", None)
    if instances is not None:
        draft.program["max_instances"] = instances
    for key in LOOK_AT_EACH & draft.listen.keys():
        del draft.listen[key]
        if key not in ("at_limit", "source_prefix_ipv6"):
            draft.lose(f"{key} has no meaning for a program that accepts or receives by itself", place)
