# SPDX-License-Identifier: MIT
"""Rules of a SOCKS server as people write them, and what the text alone can tell of its other keys.

A rule is `[from NETWORK] [user NAME] [to] WHERE[:PORTS]`, and matches what all of its parts match.  WHERE is
`*`, a network, the name of a host (`*.example.com` for all below it), or a kind of address; PORTS one number, or
two with a dash between.  To hold rules against addresses is the business of sockd.services.socks.rules.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sockd.config.convert import Problem
from sockd.text import show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sockd.config.toml import KeyPath
    from sockd.settings.service import ServiceSettings


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
                reason = "names a user, and nobody logs in; add users, or remove the user"
                yield Problem((*here, key, index), f"{show(rule.text)} {reason}", rule.text)
    users = service.socks.users
    if users is not None and (not os.path.isabs(users) or users.endswith("/") or "\0" in users):
        reason = (
            "is no absolute path of a file, and a daemon changes its directory; write one, such as /etc/sockd/users"
        )
        yield Problem((*here, "users"), f"{show(users)} {reason}", users)


__all__ = ["check_socks"]
