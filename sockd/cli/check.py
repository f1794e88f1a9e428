# SPDX-License-Identifier: MIT
"""`sockd --check` and `sockd --print`: what a configuration comes to, and whether it could be served."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

from sockd.cli.config_source import Source, read_source
from sockd.config.dump import dump
from sockd.daemon.conflicts import conflicts
from sockd.daemon.plan import plan
from sockd.errors import EX_OK, ConfigurationError, under_key
from sockd.log.format import event_fields
from sockd.net.address.address import resolve_endpoints
from sockd.net.address.sockaddr import AF_VSOCK
from sockd.net.listen import bind
from sockd.process.privileges import check_directory, look_up, why_unreadable
from sockd.process.signals import reset_signals
from sockd.services.reimport import authors_files
from sockd.values import replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sockd.cli.options import Options
    from sockd.daemon.plan import ListenerPlan
    from sockd.settings import DaemonSettings


class Notes(logging.Handler):
    """Prints what the daemon would log, such as of a certificate that expires soon, as a note.

    Args:
        name: of the configuration.
    """

    def __init__(self, name: str) -> None:
        super().__init__(logging.WARNING)
        self._name = name

    def emit(self, record: logging.LogRecord) -> None:
        """Print it."""
        fields = "".join(f" {key}={value}" for key, value in event_fields(record).items())
        print(f"sockd: {self._name}: note: {record.getMessage()}{fields}", file=sys.stderr)


def look(options: Options) -> int:
    """Check, or print the effective settings, without serving."""
    reset_signals()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # else a module that is being imported seems to have failed
    source = read_source(options)
    logging.getLogger("sockd").addHandler(Notes(source.name))
    with source.settings.located():
        if options.check and not options.show:
            return _check(source)
        plan(source.settings)
    print(dump(source.settings), end="")
    return EX_OK


def _check(source: Source) -> int:
    settings, daemon = source.settings, source.settings.daemon
    plans = plan(settings)
    if daemon.user is not None:
        with under_key("daemon"):
            look_up(daemon.user, daemon.group)
    if daemon.chroot is not None:
        check_directory(daemon.chroot)
    if found := [*conflicts(plans)]:
        raise ConfigurationError("\n".join(str(settings.locate(one)) for one in found))
    directories = _missing_directories(plans, daemon)
    notes = [*_port_notes(plans), *_vsock_notes(plans), *directories, *_unreadable(daemon)]
    if daemon.user is None and source.check is not None and os.geteuid() == 0:
        notes.append(
            'daemon.user is not set, so sockd refuses to start as root; write user = "nobody" or user = "root"'
        )
    for note in notes:
        print(f"sockd: {source.name}: note: {note}", file=sys.stderr)
    count = len(settings.listen)
    print(f"sockd: {source.name}: configuration OK: {count} listener{'s'[: count != 1]}", file=sys.stderr)
    return EX_OK


def _unreadable(daemon: DaemonSettings) -> Iterator[str]:
    """Report modules of handlers that the serving user may not read: root imports them at a start, and a reload
    cannot.
    """
    if daemon.user is None or daemon.chroot is not None or os.geteuid() != 0:
        return
    account = look_up(daemon.user, daemon.group)
    for path in authors_files():
        if reason := why_unreadable(path, account):
            yield f"{path}: {reason}; the daemon serves as {account.user} and cannot import it at a reload"


def _missing_directories(plans: Iterable[ListenerPlan], daemon: DaemonSettings) -> Iterator[str]:
    """Report directories that a start needs; a service manager may make them at a start (RuntimeDirectory=)."""
    paths = {"daemon.control": daemon.control, "daemon.pidfile": daemon.pidfile, "daemon.log.to": daemon.log.to}
    paths |= {str(address): address.path for one in plans for address in one.addresses}
    for place, path in paths.items():
        parent = os.path.dirname(path or "")
        if parent.startswith(os.sep) and not os.path.isdir(parent):
            yield f"{place}: {parent} does not exist, and a start needs it; create it: install -d -m 755 {parent}"


def _port_notes(plans: Iterable[ListenerPlan]) -> Iterator[str]:
    """Report ports that services(5) registers for a service of another name (FAQ IV.11)."""
    for one in plans:
        for address in one.addresses:
            registered = address.registered_service()
            if registered is not None and registered != one.service.name:
                named = replace(address, port=registered)
                text = (
                    f"/etc/services registers port {address.port} for {registered}; "
                    f"if you mean that service, write {named}"
                )
                yield f"{address}: {text}"


def _vsock_notes(plans: Iterable[ListenerPlan]) -> Iterator[str]:
    """Report a vsock, of which a kernel may have nothing."""
    address = next((one for plan in plans for one in plan.addresses if one.scheme == "vsock"), None)
    if address is None:
        return
    try:
        socket.socket(AF_VSOCK).close()
    except OSError as error:
        yield str(bind.explain(error, resolve_endpoints(address, passive=True)[0]))


__all__ = ["look"]
