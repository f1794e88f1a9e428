# SPDX-License-Identifier: MIT
"""The differences between two configurations, and which of them a reload can apply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.errors import EX_OSERR
from sockd.values import dataclass, fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sockd.daemon.listeners import ActiveListener
    from sockd.daemon.plan import ListenerPlan
    from sockd.daemon.programs import StderrFiles
    from sockd.net.address.address import Address
    from sockd.net.listen.bind import ServerSocket
    from sockd.settings import DaemonSettings, LogSettings, Settings
    from sockd.settings.listen import ListenSettings


AT_ONCE = (
    "path", "stop_timeout", "pre_drain", "upgrade_timeout", "previous_timeout", "store_connections", "max_memory",
    "max_worker_memory", "max_worker_requests", "max_worker_age", "handler_timeout",
)  # fmt: skip
"""Keys of [daemon] that a reload applies; every other key, except the log level, waits for the next start."""


BEFORE_BIND = (
    "reuse_address", "reuse_port", "free_bind", "ipv6_only", "interface", "multicast", "broadcast",
    "defer_accept", "fast_open", "mode", "owner", "group", "mptcp",
)  # fmt: skip
"""Keys of [[listen]] that are set on a listening socket before it is bound, or only once."""


@dataclass(frozen=True)
class BoundAddress:
    """An address of the running configuration, its sockets, and its number among equal ones of its service."""

    address: Address
    service: str
    served: tuple[ActiveListener, ...]
    number: int = 0


@dataclass(frozen=True)
class Changes:
    """What a configuration would change, as texts for people.

    Attributes:
        kept, added, removed: (address, service).
        later: what takes effect only at the next start.
        impossible: what prevents the reload.
    """

    kept: tuple[tuple[str, str], ...]
    added: tuple[tuple[str, str], ...]
    removed: tuple[tuple[str, str], ...]
    later: tuple[str, ...]
    impossible: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReloadResult:
    """The result of a reload: when (seconds since 1970), what it changed, or why it failed."""

    when: float
    changes: Changes | None
    error: str = ""
    exit_code: int = EX_OSERR


@dataclass(frozen=True)
class PreparedReload:
    """What will be served, once every step that can fail is done.

    Attributes:
        renewed: sockets that replace those whose path was lost.
    """

    settings: Settings
    plans: list[ListenerPlan]
    stands: list[BoundAddress | None]
    made: list[ActiveListener]
    renewal: StderrFiles
    renewed: dict[ActiveListener, ServerSocket]


def continued(
    wanted: Sequence[tuple[Address, ListenerPlan]],
    stands: Sequence[BoundAddress | None],
    renewed: Mapping[ActiveListener, ServerSocket],
) -> Iterator[tuple[Address, ServerSocket, ListenerPlan, ActiveListener]]:
    """Yield what ListenerRegistry.prepare() wants of each socket that stays, or that replaces one.

    Args:
        wanted: each address as written, and its service.
        stands: of each of these, the bound address that it continues; None for a new one.
        renewed: sockets that replace those whose path was lost.
    """
    for (address, one), stand in zip(wanted, stands, strict=True):
        for served in stand.served if stand is not None else ():
            yield address, renewed.get(served, served.listening), one, served


def why_not_switched(stand: BoundAddress, shares_socket: bool) -> str:
    """Say why a service cannot go on with the socket of the one before it; empty where it can."""
    if stand.served[0].plan.service.kind.shares_socket == shares_socket:
        return ""
    text = "wait cannot be switched on or off by a reload, because a running program may have the socket"
    return f"{text}; remove the address, reload, add it, and reload, or restart"


def not_switched(kept: Sequence[tuple[ListenSettings, BoundAddress]], settings: Settings) -> Iterator[str]:
    """Yield why each kept address prevents a reload, if it does: `wait` was switched on or off."""
    for listen, stand in kept:
        table = settings.service.get(listen.service)
        if text := why_not_switched(stand, bool(table is not None and table.wait)):
            yield f"{stand.address}: {text}"


def later_keys(place: str, old: DaemonSettings | LogSettings, new: DaemonSettings | LogSettings) -> Iterator[str]:
    """Yield the keys of a table that differ and take effect only at the next start, such as `daemon.user`.

    Args:
        place: of the table, as keys are written in messages.
    """
    for field in fields(old):
        if field.name in AT_ONCE or getattr(old, field.name) == getattr(new, field.name):
            continue
        if field.name == "log":
            yield from later_keys("daemon.log", getattr(old, field.name), getattr(new, field.name))
        elif (place, field.name) != ("daemon.log", "level"):
            yield f"{place}.{field.name}"


def later_listen_keys(kept: Sequence[tuple[ListenSettings, BoundAddress]]) -> Iterator[str]:
    """Yield, for each kept address, the keys of its [[listen]] that take effect only when it is bound again."""
    for listen, stand in kept:
        yield from _bound_before(str(stand.address), stand.served[0].plan.settings, listen)


def later_for_rebound(replaced: dict[ActiveListener, ActiveListener]) -> Iterator[str]:
    """Yield the same of listeners that were replaced: from the new one to the old one."""
    for new, old in replaced.items():
        yield from _bound_before(str(new), old.plan.settings, new.plan.settings)


def _bound_before(address: str, old: ListenSettings, new: ListenSettings) -> Iterator[str]:
    changed = [key for key in BEFORE_BIND if getattr(old, key) != getattr(new, key)]
    if changed:
        yield f"{address}: {', '.join(changed)}"


__all__ = [
    "BoundAddress",
    "Changes",
    "PreparedReload",
    "ReloadResult",
    "continued",
    "later_for_rebound",
    "later_keys",
    "later_listen_keys",
    "not_switched",
    "why_not_switched",
]
