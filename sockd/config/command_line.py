# SPDX-License-Identifier: MIT
"""Settings from options of the command line, over those of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from sockd.errors import AddressError, UsageError
from sockd.lazy import lazily
from sockd.settings import DaemonSettings, LogSettings, Settings
from sockd.settings.address import Address
from sockd.settings.builtin import BUILTINS
from sockd.settings.listen import ListenSettings
from sockd.text import show
from sockd.values import replace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sockd.config import check_daemon, check_listen, convert
    from sockd.settings.address import Services
    from sockd.settings.daemon import LogFormat, LogLevel, Multiplexer
    from sockd.text import KeyPath
else:
    check_daemon = lazily("sockd.config.check_daemon")
    check_listen = lazily("sockd.config.check_listen")
    convert = lazily("sockd.config.convert")

T = TypeVar("T")


def from_command_line(
    listen: Sequence[str] = (),
    *,
    base: Settings | None = None,
    multiplexer: Multiplexer | None = None,
    log_level: LogLevel | None = None,
    log_format: LogFormat | None = None,
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
        if value is not None and (problem := convert.choice(kind, key, value))
    ]
    if inetd is not None and inetd not in BUILTINS and (reason := check_listen.why_not_service(inetd, base.service)):
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
    if listeners and (problems := list(check_listen.check_listeners(listeners, base.service))):
        raise UsageError("\n".join(f"--listen {show(listen[_index(p.path)])}: {p.text}" for p in problems))
    former = base.daemon
    log = replace(former.log, level=_either(log_level, former.log.level), format=_either(log_format, former.log.format))
    daemon = replace(
        former,
        log=log,
        multiplexer=_either(multiplexer, former.multiplexer),
        user=_either(user, former.user),
        group=_either(group, former.group),
        chroot=_either(chroot, former.chroot),
        pidfile=_either(pidfile, former.pidfile),
    )
    if daemon != former and (wrong := list(check_daemon.check_daemon(daemon))):
        raise UsageError("\n".join(f"--{problem.path[-1]} {problem.text}" for problem in wrong))
    given = {"user": user, "group": group, "chroot": chroot, "pidfile": pidfile, "multiplexer": multiplexer}

    def find_place(key: KeyPath) -> tuple[str, KeyPath]:
        if key[0] == "listen" and (listeners or inetd is not None):
            return f"--listen {show(listen[_index(key)])}" if listeners else "--inetd", key[3:]
        if key[0] == "daemon" and given.get(str(key[1])) is not None:
            return f"--{key[1]}", key[2:]
        return base.find_place(key)

    return replace(base, daemon=daemon, listen=tuple(listeners) or base.listen, find_place=find_place)


def _index(path: KeyPath) -> int:
    """Return which [[listen]] table a key is of."""
    return int(path[1])


def _either(given: T | None, former: T) -> T:
    return former if given is None else given


__all__ = ["from_command_line"]
