# SPDX-License-Identifier: MIT
"""Rules of a SOCKS server as people write them, and of its other keys, as far as the text alone decides.

A rule is `[from NETWORK] [user NAME] [to] WHERE[:PORTS]`, and matches when all of its parts match.  WHERE is `*`, a
network, a host name (`*.example.com` for all below it), or a kind of address; PORTS is one number, or two with a dash
between.  sockd.services.socks.rules applies the rules to addresses.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sockd.config.convert import Problem
from sockd.text import show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sockd.settings.service import ServiceSettings
    from sockd.text import KeyPath


def check_socks(path: KeyPath, service: ServiceSettings) -> Iterator[Problem]:
    """Check the keys of a SOCKS server.

    Args:
        path: of the service's table.
        service: as read.
    """
    if service.socks is None:
        return
    here = (*path, "socks")
    for key in ("allow", "deny"):
        for index, rule in enumerate(getattr(service.socks, key)):
            if rule.user is not None and service.socks.users is None:
                reason = "names a user, but no client logs in; add users, or remove the user"
                yield Problem((*here, key, index), f"{show(rule.text)} {reason}", rule.text)
    users = service.socks.users
    if users is not None and (not os.path.isabs(users) or users.endswith("/") or "\0" in users):
        reason = (
            "is not an absolute path, and a daemon changes its working directory; write one, such as /etc/sockd/users"
        )
        yield Problem((*here, "users"), f"{show(users)} {reason}", users)


__all__ = ["check_socks"]
