# SPDX-License-Identifier: MIT
"""Settings from options of the command line, over those of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sockd.config.check_daemon import check_daemon
from sockd.config.check_listen import check_listeners, why_not_service
from sockd.config.convert import choice
from sockd.errors import AddressError, UsageError
from sockd.lazy import lazily
from sockd.settings import DaemonSettings, LogSettings, Settings
from sockd.settings.address import Address
from sockd.settings.listen import ListenSettings
from sockd.text import show
from sockd.values import replace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sockd.config import load
    from sockd.settings.address import Services
else:
    load = lazily("sockd.config.load")


def from_command_line(
    listen: Sequence[str] = (),
    *,
    base: Settings | None = None,
    multiplexer: str | None = None,
    log_level: str | None = None,
    log_format: str | None = None,
    user: str | None = None,
    group: str | None = None,
    chroot: str | None = None,
    pidfile: str | None = None,
    inetd: str | None = None,
    services: Services | None = None,
) -> Settings:
    """Make settings from the command line, alone or over those of a file.

    Args:
        listen: ADDRESS=SERVICE texts, split at the last "="; if there are any, they replace the listeners of `base`,
            and may name its services.
        base: settings below the options; None is every default and no listener.
        multiplexer: [daemon] multiplexer, None to leave it.
        log_level: [daemon] log.level, None to leave it.
        log_format: [daemon] log.format, None to leave it.
        user: [daemon] user, None to leave it; group, chroot and pidfile likewise.
        inetd: the service of --inetd, checked as that of a listener.
        services: as for load.

    Returns:
        The settings, checked as those of a file are.

    Raises:
        UsageError: an argument is wrong; one line for each error, beginning with the argument.
    """
    base = base or Settings()
    errors = [
        f"{option} {problem.text}"
        for option, kind, key, value in (
            ("--multiplexer", DaemonSettings, "multiplexer", multiplexer),
            ("--log-level", LogSettings, "level", log_level),
            ("--log-format", LogSettings, "format", log_format),
        )
        if value is not None and (problem := choice(kind, key, value))
    ]
    if inetd is not None and (reason := why_not_service(inetd, base.service)):
        errors.append(f"--inetd {show(inetd)} {reason}")
    listeners: list[ListenSettings] = []
    for argument in listen:
        address, _, service = argument.rpartition("=")
        if not address or not service:
            errors.append(f"--listen {show(argument)}: write ADDRESS=SERVICE, such as tcp://127.0.0.1:7007=upper")
            continue
        try:
            listeners.append(ListenSettings(address=Address.parse(address, services=services), service=service))
        except AddressError as error:
            errors.append(f"--listen {show(argument)}: {error}")
    if errors:
        raise UsageError("\n".join(errors))
    problems = list(check_listeners(listeners, base.service))
    if problems:
        raise UsageError("\n".join(f"--listen {show(listen[load._index(p.path)])}: {p.text}" for p in problems))
    log = {"level": log_level, "format": log_format}
    process = {"user": user, "group": group, "chroot": chroot, "pidfile": pidfile}
    given = {"multiplexer": multiplexer, "log": replace(base.daemon.log, **_given(log)), **process}
    daemon = replace(base.daemon, **_given(given))
    if wrong := list(check_daemon(daemon)):
        raise UsageError("\n".join(f"--{problem.path[-1]} {problem.text}" for problem in wrong))
    return replace(base, daemon=daemon, listen=tuple(listeners) or base.listen)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


__all__ = ["from_command_line"]
