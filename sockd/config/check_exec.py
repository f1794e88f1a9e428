# SPDX-License-Identifier: MIT
"""Rules of a service that executes a program, as far as the text alone decides.

Whether the program, its user or its file exists depends on the host.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from sockd.config.convert import Problem
from sockd.lazy import pattern, shutil
from sockd.settings.networks import ClientCid, ClientName
from sockd.text import show, suggest
from sockd.values import fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sockd.settings.listen import ListenSettings
    from sockd.settings.networks import Network
    from sockd.settings.service import ServiceSettings
    from sockd.text import KeyPath

ERROR_TARGETS = ("log", "socket", "null")
OWN_VARIABLES = pattern(r"PROTO|REMOTE_(ADDR|PORT)|(TCP|UNIX)(LOCAL|REMOTE)[A-Z]+")
NOT_FOR_WAIT = (
    "max_connections", "max_connections_per_source", "rate", "at_limit", "banner", "names", "tls",
    "proxy_protocol", "datagram_budget", "total_rate", "greeting_files", "banner_files",
    "hosts_access", "deny_time", "ident",
)  # fmt: skip
"""Keys of [[listen]] that need each connection or datagram to be looked at."""
_NAME = pattern(r"[A-Za-z_][A-Za-z0-9_]*")  # POSIX, 8.1: what a shell can name as well


def check_program(path: KeyPath, service: ServiceSettings) -> Iterator[Problem]:
    """Check what a program is executed with.

    Args:
        path: of the table.
        service: as read.

    Returns:
        The problems, each with the path of its key.
    """
    if service.exec is None:
        return
    yield from _check_words(path, service.exec)
    yield from _check_account(path, service)
    if service.argv0 is not None and (not service.argv0 or "\0" in service.argv0):
        yield Problem((*path, "argv0"), f"{show(service.argv0)} is empty or contains a NUL character", service.argv0)
    yield from _check_environment(path, service.environment or ())
    yield from _check_client_environment(path, service)
    if service.umask is not None and not re.fullmatch("[0-7]{1,4}", service.umask):
        text = 'is not a umask in octal; write one such as "022" or "077"'
        yield Problem((*path, "umask"), f"{show(service.umask)} {text}", service.umask)
    if service.directory is not None and not os.path.isabs(service.directory):
        text = f"is not an absolute path; write {show(os.path.abspath(service.directory))}"
        yield Problem((*path, "directory"), f"{show(service.directory)} {text}", service.directory)
    to = service.stderr
    if to is not None and to not in ERROR_TARGETS and not os.path.isabs(to):
        text = f"{show(to)} is neither {', '.join(ERROR_TARGETS)} nor an absolute path{suggest(to, ERROR_TARGETS)}"
        yield Problem((*path, "stderr"), text, to)
    if service.wait and to == "socket":
        text = 'cannot be written to: with wait, the socket is not one client\'s; write stderr = "log", or remove it'
        yield Problem((*path, "stderr"), f"{show(to)} {text}", to)


def check_wait_listen(path: KeyPath, listen: ListenSettings) -> Iterator[Problem]:
    """Name the keys of a [[listen]] that have no meaning where a program accepts or receives by itself."""
    for field in fields(listen):
        value = getattr(listen, field.name)
        if field.name in NOT_FOR_WAIT and value != field.default:
            text = "does not apply to a service with wait = true: its program accepts or receives by itself; remove it"
            yield Problem((*path, field.name), text)
    for key in ("allow", "deny"):
        for index, client in enumerate(getattr(listen, key)):
            if isinstance(client, ClientName | ClientCid):
                what = "a name" if isinstance(client, ClientName) else "a CID"
                text = f"is {what}, and the kernel judges clients of wait = true by address; write networks"
                yield Problem((*path, key, index), f"{show(str(client))} {text}", str(client))


def check_tcpmux(path: KeyPath, service: ServiceSettings, services: Mapping[str, ServiceSettings]) -> Iterator[Problem]:
    """Check that each name of tcpmux leads to a program that gets a connection."""
    seen: dict[str, str] = {}
    for index, one in enumerate(service.tcpmux or ()):
        table = services.get(one.service)
        if table is None or table.exec is None:
            text = f"is not a service that executes a program; add [service.{one.service}] with exec"
        elif table.wait:
            text = "has wait = true: its program accepts by itself, and cannot get a connection of tcpmux"
        elif one.name.lower() in seen:
            text = f"is a duplicate of {show(seen[one.name.lower()])}; names are the same in any case (RFC 1078)"
        else:
            seen[one.name.lower()] = one.name
            continue
        shown = one.name if text.startswith("is a dup") else one.service
        yield Problem((*path, "tcpmux", index), f"{show(shown)} {text}", str(one))
    if service.tcpmux == ():
        yield Problem((*path, "tcpmux"), 'is empty; write tcpmux = ["+rsync"], with [service.rsync] and its exec')


def _check_words(path: KeyPath, words: tuple[str, ...]) -> Iterator[Problem]:
    if not words:
        yield Problem((*path, "exec"), 'is empty; write exec = ["/path/of/program", "argument"]')
        return
    for index, word in enumerate(words):
        if "\0" in word:
            yield Problem((*path, "exec", index), f"{show(word)} contains a NUL character; remove it", word)
    if not os.path.isabs(words[0]):
        found = shutil.which(words[0]) or f"/usr/bin/{words[0]}"
        text = (
            f"{show(words[0])} is not an absolute path, and PATH is not searched; write {show(os.path.abspath(found))}"
        )
        yield Problem((*path, "exec", 0), text, words[0])


def _check_account(path: KeyPath, service: ServiceSettings) -> Iterator[Problem]:
    for key in ("user", "group"):
        name = getattr(service, key)
        if name is not None and (not name or not name.isprintable() or ":" in name):
            yield Problem((*path, key), f"{show(name)} is not a valid {key}; write a name or a number", name)
    if service.group is not None and service.user is None:
        text = f'{show(service.group)} requires a user; add user = "nobody" or another one'
        yield Problem((*path, "group"), text, service.group)
    if service.groups is not None and service.user is None:
        yield Problem((*path, "groups"), 'requires a user; add user = "nobody" or another one')


def _check_client_environment(path: KeyPath, service: ServiceSettings) -> Iterator[Problem]:
    entries = service.client_environment or ()
    if entries and service.wait:
        text = "does not apply with wait = true: the program accepts or receives by itself; remove it"
        yield Problem((*path, "client_environment"), text)
    own = {entry.partition("=")[0] for entry in service.environment or ()}
    seen: set[tuple[Network, str]] = set()
    for index, one in enumerate(entries):
        if OWN_VARIABLES.fullmatch(one.name):
            text = "is set by sockd for each connection; remove it"
        elif one.name in own:
            text = f"sets {one.name}, which environment sets for all; write it for each network, 0.0.0.0/0 and ::/0 too"
        elif one.name and (one.network, one.name) in seen:
            text = f"sets {one.name} a second time for {one.network}; remove one"
        else:
            seen.add((one.network, one.name))
            continue
        yield Problem((*path, "client_environment", index), f"{show(str(one))} {text}", str(one))


def _check_environment(path: KeyPath, entries: tuple[str, ...]) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        name, _, value = entry.partition("=")
        if not _NAME.fullmatch(name):
            text = "has no variable name; write NAME to pass on the daemon's value, or NAME=value"
        elif OWN_VARIABLES.fullmatch(name):
            text = "is set by sockd for each connection; remove it"
        elif name in seen:
            text = f"sets {name} a second time; remove one"
        elif "\0" in value:
            text = "contains a NUL character; remove it"
        else:
            seen.add(name)
            continue
        yield Problem((*path, "environment", index), f"{show(entry)} {text}", entry)
