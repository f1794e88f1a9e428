# SPDX-License-Identifier: MIT
"""Rules of a relay: what the text alone can tell.

Whether a target is there is the network's to say, when a client comes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sockd.config.convert import Problem
from sockd.errors import AddressError
from sockd.net.address.address import Address
from sockd.settings.relay import SocksUrl, parse_via
from sockd.text import show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sockd.config.toml import KeyPath
    from sockd.net.address.address import Services
    from sockd.settings.relay import RelaySettings
    from sockd.settings.service import ServiceSettings


def check_relay(path: KeyPath, service: ServiceSettings, known: Services | None) -> Iterator[Problem]:
    """Check the keys of a relay.

    Args:
        path: of the service's table.
        service: as read.
        known: as `services` of Address.parse.
    """
    if service.relay is None:
        return
    here = (*path, "relay")
    if not service.relay.to:
        yield Problem((*here, "to"), 'names no target; write to = ["tcp://10.0.0.5:25"]', missing=("to",))
    seen: dict[str, int] = {}
    for index, text in enumerate(service.relay.to):
        first = seen.setdefault(text, index)
        reason = _not_target(text, service.relay, known)
        if first != index:
            reason = f"stands twice; it is to[{first}] already"
        if reason:
            yield Problem((*here, "to", index), f"{show(text)} {reason}", text)
    yield from _check_via(here, service.relay, known)


def _not_target(text: str, relay: RelaySettings, known: Services | None) -> str:
    """Say why nothing can be relayed to an address; empty when it can."""
    try:
        Address.parse(text, services=known)
    except AddressError as error:
        return f"cannot be a target: {error}"
    if not text.startswith(("tcp:", "unix:")):
        return "cannot be a target; one is tcp://host:port or unix:/path"
    if text.startswith("tcp:") and text.endswith(":0"):
        return "has port 0, to which nobody can connect; write the target's"
    if text.startswith("unix:") and relay.via is not None:
        return "is on this host, where no SOCKS server reaches it; remove it, or via"
    return ""


def _check_via(here: KeyPath, relay: RelaySettings, known: Services | None) -> Iterator[Problem]:
    via: SocksUrl | None = None
    if relay.via is not None and relay.balance == "race":
        reason = "is for addresses that are connected to, and the SOCKS server connects; write round-robin"
        yield Problem((*here, "balance"), f"{show(relay.balance)} {reason}", relay.balance)
    if relay.via is not None:
        try:
            via = parse_via(relay.via)
            Address.parse(via.address, services=known)
        except AddressError as error:
            yield Problem((*here, "via"), f"{show(relay.via)} is no SOCKS server: {error}", relay.via)
        except ValueError as error:
            yield Problem((*here, "via"), f"{show(relay.via)} {error}", relay.via)
    password = relay.via_password
    if password is None:
        if via is not None and via.user is not None:
            text = "names a user without a password; write via_password = the path of the file that holds it"
            yield Problem((*here, "via"), f"{show(relay.via)} {text}", relay.via)
        return
    if not os.path.isabs(password) or password.endswith("/") or "\0" in password:
        reason = "is no absolute path of a file; write one, such as /etc/sockd/via.password"
        yield Problem((*here, "via_password"), f"{show(password)} {reason}", password)
    if relay.via is None or (via is not None and via.user is None):
        reason = "is nobody's password; write via = socks5://user@host:port, or remove it"
        yield Problem((*here, "via_password"), f"{show(password)} {reason}", password)


__all__ = ["check_relay"]
