# SPDX-License-Identifier: MIT
"""Rules of a relay, as far as the text alone decides.

Whether a target can be reached is known only when a client connects.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sockd.config.convert import Problem
from sockd.text import show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sockd.net.address.address import Address
    from sockd.settings.relay import RelaySettings
    from sockd.settings.service import ServiceSettings
    from sockd.text import KeyPath


def check_relay(path: KeyPath, service: ServiceSettings) -> Iterator[Problem]:
    """Check the keys of a relay.

    Args:
        path: of the service's table.
        service: as read.
    """
    if service.relay is None:
        return
    here = (*path, "relay")
    if not service.relay.to:
        yield Problem((*here, "to"), 'has no target; write to = ["tcp://10.0.0.5:25"]', missing=("to",))
    seen: dict[Address, int] = {}
    for index, target in enumerate(service.relay.to):
        first, text = seen.setdefault(target, index), str(target)
        if first != index:
            yield Problem((*here, "to", index), f"{show(text)} is a duplicate of to[{first}]", text)
        elif target.path and service.relay.via is not None:
            reason = "is on this host, and the SOCKS server cannot reach it; remove it, or via"
            yield Problem((*here, "to", index), f"{show(text)} {reason}", text)
    yield from _check_via(here, service.relay)


def _check_via(here: KeyPath, relay: RelaySettings) -> Iterator[Problem]:
    via = relay.via
    if via is not None and relay.balance == "race":
        reason = "requires direct connections, but with via the SOCKS server connects; write round-robin"
        yield Problem((*here, "balance"), f"{show(relay.balance)} {reason}", relay.balance)
    password = relay.via_password
    if password is None:
        if via is not None and via.user is not None:
            text = "names a user without a password; set via_password to the path of a file that holds it"
            yield Problem((*here, "via"), f"{show(str(via))} {text}", str(via))
        return
    if not os.path.isabs(password) or password.endswith("/") or "\0" in password:
        reason = "is not an absolute path; write one, such as /etc/sockd/via.password"
        yield Problem((*here, "via_password"), f"{show(password)} {reason}", password)
    if relay.via is None or (via is not None and via.user is None):
        reason = "requires a user in via; write via = socks5://user@host:port, or remove it"
        yield Problem((*here, "via_password"), f"{show(password)} {reason}", password)


__all__ = ["check_relay"]
