# SPDX-License-Identifier: MIT
"""TOML and command line -> Settings; all errors reported at once, each on its own line.

A message has the form of a compiler's: `file:line: key.path: value and problem; what is allowed; did you mean ...?`.
This module finds and reads the file and applies the rules between several keys; sockd.config.convert handles single
values.  Nothing here binds, imports a handler, or looks beyond the text and services(5).
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

from sockd.config.check_daemon import check_daemon
from sockd.config.check_exec import check_tcpmux
from sockd.config.check_listen import EXAMPLE, check_listeners
from sockd.config.check_relay import check_relay
from sockd.config.check_service import check_service
from sockd.config.convert import MAX_PROBLEMS, Problem, read
from sockd.config.include import Document, KeyPlace, open_in, read_document
from sockd.config.relative import with_absolute_paths
from sockd.config.substitute import Unresolved, hide, substitute
from sockd.errors import ConfigurationError, PermissionFault, SockdError, say_reader
from sockd.files import trusted
from sockd.text import dotted, nearest
from sockd.values import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sockd.settings import Settings
    from sockd.settings.address import Services

LOCAL_FILE = "sockd.toml"
SYSTEM_FILE = "/etc/sockd/sockd.toml"
MAX_FILE_BYTES = 16 * 1024 * 1024  # some 100,000 listeners; a device or a log given by mistake is larger


def find() -> str | None:
    """Find the configuration file to read when none is named.

    Returns:
        One of candidates(), else None.  A dangling link counts, so that it is reported and not skipped.
    """
    return next((path for path in candidates() if os.path.lexists(path)), None)


def candidates() -> tuple[str, ...]:
    """Return where a configuration is searched: for root not in the current directory, which others may control."""
    return (SYSTEM_FILE,) if os.geteuid() == 0 else (LOCAL_FILE, SYSTEM_FILE)


def load(
    path: str | os.PathLike[str],
    *,
    services: Services | None = None,
    opener: Callable[[str, int], int] | None = None,
    listens: bool = True,
    directory: str | None = None,
) -> Settings:
    """Read and check a configuration file.

    Args:
        path: the file, at most MAX_FILE_BYTES.
        opener: as for open(): how the file is found where the path no longer leads to it, as after chroot(2).
        services: the ports that have names, where services(5) can no longer be read, as after chroot(2).
        listens: whether a file without a listener is wrong.
        directory: which paths of handlers and certificates are relative to; None is that of the path.

    Returns:
        Settings in which everything is valid that can be checked without sockets and imports.

    Raises:
        ConfigurationError: it does not exist, or wrong; one line for each mistake.
        PermissionFault: it may not be read.
    """
    name = os.fspath(path)
    try:
        data = trusted.read(name, name, MAX_FILE_BYTES + 1, opener or os.open)
    except PermissionFault as error:
        raise PermissionFault(f"{error}; {say_reader()}") from None
    except SockdError as error:
        raise ConfigurationError(str(error)) from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{name}: larger than {MAX_FILE_BYTES} bytes; this is not a configuration")
    directory = directory or os.path.dirname(os.path.abspath(name))
    return loads(
        data, name=name, services=services, listens=listens, directory=directory, opener=opener or open_in(directory)
    )


def loads(
    text: str | bytes,
    *,
    name: str,
    services: Services | None = None,
    listens: bool = True,
    directory: str | None = None,
    opener: Callable[[str, int], int] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Settings:
    """Read and check the text of a configuration.

    Args:
        text: TOML; bytes are UTF-8.
        name: what messages call the text, commonly the path of its file.
        services: as for load; listens likewise.
        directory: as for load; None leaves relative paths as they are, which is wrong then.
        opener: how the files that it includes are found, by paths relative to that directory.
        environment: the variables that it may name.

    Returns:
        As load.

    Raises:
        ConfigurationError: it is wrong; one line for each error, in the order of the text.
    """
    document = read_document(
        text,
        name=name,
        directory=directory,
        opener=opener or open_in(directory or os.curdir),
        max_bytes=MAX_FILE_BYTES,
        environment=environment,
    )
    unresolved: list[Unresolved] = []
    table = substitute(document.table, unresolved, environment)
    if unresolved:
        raise _errors(document, [Problem(one.path, one.text, one.value) for one in unresolved])
    settings, problems = read(table, services)
    settings = replace(settings, include=(), find_place=document.where)
    settings = with_absolute_paths(settings, directory) if directory else settings
    if len(problems) < MAX_PROBLEMS:
        more = (one for one in _check(settings, listens) if not _explained(one, problems))
        problems += [*islice(more, MAX_PROBLEMS - len(problems))]
    if not problems:
        return settings
    raise _errors(document, problems)


def _errors(document: Document, problems: Sequence[Problem]) -> ConfigurationError:
    """Return the error of all problems, in the order of the text."""
    found = [(document.find(problem.path, problem.value), problem) for problem in problems]
    found.sort(key=lambda pair: pair[0].order)
    texts = [hide(_message(place, problem)) for place, problem in found]
    if len(problems) == MAX_PROBLEMS:
        texts.append(f"{document.parts[0].name}: there may be more than these {MAX_PROBLEMS} errors")
    return ConfigurationError("\n".join(texts))


def _check(settings: Settings, listens: bool) -> Iterator[Problem]:
    if listens and not settings.listen:
        yield Problem((), f"nothing to serve; add [[listen]] with {EXAMPLE}", missing=("listen",))
    yield from check_daemon(settings.daemon)
    for name, service in settings.service.items():
        yield from check_service(name, service)
        yield from check_relay(("service", name), service)
        yield from check_tcpmux(("service", name), service, settings.service)
    yield from check_listeners(settings.listen, settings.service)


def _explained(problem: Problem, others: Iterable[Problem]) -> bool:
    """Return whether a missing key is present but misspelt or wrong, as may be the whole table, or its list."""
    depth = len(problem.path)
    near = [other.path[depth:] for other in others if other.path[:depth] == problem.path]
    return any(not rest or isinstance(rest[0], int) or nearest(str(rest[0]), problem.missing) for rest in near)


def _message(place: KeyPlace, problem: Problem) -> str:
    parts = (str(place), dotted(place.path), problem.text)
    return ": ".join(part for part in parts if part)


__all__ = ["LOCAL_FILE", "MAX_FILE_BYTES", "candidates", "find", "load", "loads"]
