# SPDX-License-Identifier: MIT
"""sockctl import: the files of inetd, xinetd, tcpserver and of systemd's sockets to sockd.toml."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from typing import TYPE_CHECKING

from sockd.cli.verbs import PROGRAM
from sockd.errors import EX_OK, ConfigurationError

EX_DIFFERS = 1
"""As diff(1)."""

if TYPE_CHECKING:
    import argparse

    from sockd.importer.model import Host


def run(arguments: argparse.Namespace) -> int:
    """Import, and return the exit code."""
    from sockd import importer  # here, for connect has no use for it and shall start fast

    sources = importer.read(arguments.files, form=arguments.format)
    result = importer.convert(sources, _this_host(), _accept, with_disabled=arguments.all)
    if arguments.check_against:
        return _check_against(result.text if result.served else "")
    print(result.text, end="")
    sys.stdout.flush()
    for note in result.notes:
        print(f"{PROGRAM}: {_printable(note)}", file=sys.stderr)
    services = f"{result.served} service{'s'[: result.served != 1]}"
    counts = f"{services}; commented out: {result.left_out} left out, {result.disabled} disabled"
    print(f"{PROGRAM}: {counts}", file=sys.stderr)
    if not result.served:
        remedy = "; use --all to convert disabled services" if result.disabled else ""
        raise ConfigurationError(f"nothing to serve{remedy}")
    return EX_OK


def _this_host() -> Host:
    from sockd import importer
    from sockd.importer.model import Host
    from sockd.process.accounts import has_groups

    return Host(
        access_rule=importer.access_rule(),
        has_groups=has_groups,
        find_program=shutil.which,
        addresses=_addresses,
        port=_port,
        has_file=os.path.isfile,
    )


def _addresses(name: str) -> list[str]:
    """Return the numeric addresses of a name, each once; none if it does not resolve."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [*dict.fromkeys(str(one[4][0]) for one in found)]


def _port(name: str, protocol: str) -> int | None:
    """Return the port of a service in /etc/services; None if it has no such service for this protocol."""
    try:
        return socket.getservbyname(name, protocol)
    except (OSError, UnicodeError):
        return None


def _check_against(text: str) -> int:
    """Print what would differ on this host, as a table; return the exit code."""
    from sockd.cli.render import columns
    from sockd.cli.verbs import import_check
    from sockd.config.load import loads
    from sockd.settings import Settings

    settings = loads(text, name="result") if text else Settings()
    rows = import_check.compare(settings, import_check.host_sockets())
    table = [("ADDRESS", "SERVICE", "CHANGE", "NOW"), *((one.address, one.service, one.word, one.text) for one in rows)]
    for line in columns(table):
        print(line)
    return EX_OK if all(one.word == import_check.SAME for one in rows) else EX_DIFFERS


def _accept(text: str) -> None:
    """Raise the errors that `sockd --check` would report for a configuration."""
    from sockd.config.load import loads
    from sockd.daemon.conflicts import conflicts
    from sockd.daemon.plan import plan

    settings = loads(text, name="result")
    with settings.located():
        if found := [*conflicts(plan(settings))]:
            raise ConfigurationError("\n".join(str(settings.locate(one)) for one in found))


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


__all__ = ["run"]
