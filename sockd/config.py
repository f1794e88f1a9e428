"""TOML and command line -> Settings; every mistake named at once, each on its own line.

A message has the form of a compiler's: `file:line: key.path: value and what is wrong; what
is allowed; did you mean ...?`.  This module finds and reads the file and holds the rules
between several keys; single values belong to sockd.config_values.  What an address is
belongs to the layer above, which passes it in as `check_address`.  Nothing here binds,
imports a handler, or looks beyond the text.
"""

from __future__ import annotations

import ipaddress
import keyword
import os
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from sockd import trusted
from sockd.config_daemon import check_daemon
from sockd.config_dump import dump
from sockd.config_exec import check_program
from sockd.config_framing import check_framing
from sockd.config_relay import check_relay
from sockd.config_socks import check_socks
from sockd.config_tls import check_tls
from sockd.config_values import MOST_PROBLEMS, Problem, choice, read, show, suggest
from sockd.errors import AddressError, ConfigurationError, PermissionFault, SockdError, UsageError
from sockd.settings import DaemonSettings, ListenSettings, LogSettings, ServiceSettings, Settings
from sockd.toml_text import KeyPath, parse, quote, quote_key
from sockd.units import nearest

__all__ = ["BUILTIN_SERVICES", "CheckAddress", "dump", "find", "from_command_line", "load", "loads"]

CheckAddress = Callable[[str], Hashable]
"""Raises AddressError with the reason; gives equal results for equal addresses, None for one that is never taken."""

BUILTIN_SERVICES = ("upper", "echo", "discard", "chargen", "qotd", "systat", "daytime", "time", "metrics")
KINDS = ("handler", "builtin", "exec", "relay", "socks", "metrics")
"""Of which a service has exactly one."""

LOCAL_FILE = Path("sockd.toml")
SYSTEM_FILE = Path("/etc/sockd/sockd.toml")
MAX_FILE_BYTES = 16 * 1024 * 1024  # some 100,000 listeners; a device or a log given by mistake is larger

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # fits a metrics label and ADDRESS=SERVICE, is not module:attribute
_MAX_INTERFACE_BYTES = 15  # IFNAMSIZ of if.h is 16 with the NUL; the kernel would cut a longer name
_MAPPED_BITS = 96  # RFC 4291: ::ffff:0:0/96 holds the IPv4 addresses
_EXAMPLE = 'address = "tcp://127.0.0.1:7007" and service = "upper"'


def find() -> Path | None:
    """Find the configuration file that is read when none is named.

    Returns:
        One of candidates(), else None.  A link that leads nowhere counts, so that it is reported and not
        passed over.
    """
    return next((path for path in candidates() if os.path.lexists(path)), None)


def candidates() -> tuple[Path, ...]:
    """Return where a configuration is looked for: root has none of the current folder, which may be anybody's."""
    return (SYSTEM_FILE,) if os.geteuid() == 0 else (LOCAL_FILE, SYSTEM_FILE)


def load(
    path: str | os.PathLike[str],
    *,
    check_address: CheckAddress | None = None,
    opener: Callable[[str, int], int] | None = None,
    listens: bool = True,
) -> Settings:
    """Read and check a configuration file.

    Args:
        path: the file, at most MAX_FILE_BYTES.
        opener: as for open(): how the file is found where the path no longer leads to it, as after chroot(2).
        check_address: checks the text of each address; None leaves them unchecked.
        listens: whether a file without a listener is wrong.

    Returns:
        Settings in which everything that one can see without sockets and imports is right.

    Raises:
        ConfigurationError: it is not there, or wrong; one line for each mistake.
        PermissionFault: it may not be read.
    """
    name = os.fspath(path)
    try:
        data = trusted.read(name, name, MAX_FILE_BYTES + 1, opener or os.open)
    except PermissionFault:
        raise
    except SockdError as error:
        raise ConfigurationError(str(error)) from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{name}: larger than {MAX_FILE_BYTES} bytes; this is no configuration")
    return loads(data, name=name, check_address=check_address, listens=listens)


def loads(text: str | bytes, *, name: str, check_address: CheckAddress | None = None, listens: bool = True) -> Settings:
    """Read and check the text of a configuration.

    Args:
        text: TOML; bytes are UTF-8.
        name: what messages call the text, commonly the path of its file.
        check_address: as for load; listens likewise.

    Returns:
        As load.

    Raises:
        ConfigurationError: it is wrong; one line for each mistake, in the order of the text.
    """
    document, lines = parse(text, name=name)
    settings, problems = read(document)
    if len(problems) < MOST_PROBLEMS:
        more = (one for one in _check(settings, check_address, listens) if not _explained(one, problems))
        problems += [*islice(more, MOST_PROBLEMS - len(problems))]
    if not problems:
        return settings
    found = [(lines.find(problem.path, problem.value), problem) for problem in problems]
    found.sort(key=lambda pair: pair[0] or 0)
    texts = [_message(name, line, problem) for line, problem in found]
    if len(problems) == MOST_PROBLEMS:
        texts.append(f"{name}: there may be more mistakes than these {MOST_PROBLEMS}")
    raise ConfigurationError("\n".join(texts))


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
    check_address: CheckAddress | None = None,
) -> Settings:
    """Make settings from the command line, alone or over those of a file.

    Args:
        listen: ADDRESS=SERVICE texts, split at the last "="; when there are any they take
            the place of the listeners of `base`, and may name its services.
        base: what the options are laid over; None is every default and no listener.
        multiplexer: [daemon] multiplexer, None to leave it.
        log_level: [daemon] log.level, None to leave it.
        log_format: [daemon] log.format, None to leave it.
        user: [daemon] user, None to leave it; group, chroot and pidfile likewise.
        inetd: the service of --inetd, checked as that of a listener.
        check_address: as for load.

    Returns:
        The settings, checked as those of a file are.

    Raises:
        UsageError: an argument is wrong; one line for each mistake, beginning with the argument.
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
    if inetd is not None and (reason := _not_service(inetd, base.service)):
        errors.append(f"--inetd {show(inetd)} {reason}")
    split = [argument.rpartition("=") for argument in listen]
    for argument, (address, _, service) in zip(listen, split, strict=True):
        if not address or not service:
            errors.append(f"--listen {show(argument)}: write ADDRESS=SERVICE, such as tcp://127.0.0.1:7007=upper")
    if errors:
        raise UsageError("\n".join(errors))
    listeners = tuple(ListenSettings(address=address, service=service) for address, _, service in split)
    problems = list(_check_listeners(listeners, base.service, check_address))
    if problems:
        raise UsageError("\n".join(f"--listen {show(listen[_index(p.path)])}: {p.text}" for p in problems))
    log = {"level": log_level, "format": log_format}
    process = {"user": user, "group": group, "chroot": chroot, "pidfile": pidfile}
    given = {"multiplexer": multiplexer, "log": replace(base.daemon.log, **_given(log)), **process}
    daemon = replace(base.daemon, **_given(given))
    if wrong := list(check_daemon(daemon)):
        raise UsageError("\n".join(f"--{problem.path[-1]} {problem.text}" for problem in wrong))
    return replace(base, daemon=daemon, listen=listeners or base.listen)


def _check(settings: Settings, check_address: CheckAddress | None, listens: bool) -> Iterator[Problem]:
    if listens and not settings.listen:
        yield Problem((), f"nothing to serve; add [[listen]] with {_EXAMPLE}", missing=("listen",))
    yield from check_daemon(settings.daemon)
    for name, service in settings.service.items():
        yield from _check_service(name, service)
        yield from check_relay(("service", name), service, check_address)
    yield from _check_listeners(settings.listen, settings.service, check_address)


def _check_service(name: str, service: ServiceSettings) -> Iterator[Problem]:
    """Check one [service.NAME]; a built-in's name is free only for that built-in with other limits."""
    path: KeyPath = ("service", name)
    given = [key for key in KINDS if getattr(service, key) is not None]
    if not _NAME.fullmatch(name):
        yield Problem(path, f"{show(name)} cannot be a name; use 1 to 64 of the letters A-Z a-z 0-9 _ . -")
    if len(given) > 1:
        text = f"stands beside {given[0]}; a service has exactly one of {', '.join(KINDS)}"
        yield Problem((*path, given[1]), text)
    if not given:
        text = (
            'has no handler; write handler = "module:attribute", builtin = "upper", exec = ["/path"], '
            'relay = { to = ["tcp://host:port"] }, socks = {} or metrics = true'
        )
        yield Problem(path, text, missing=KINDS)
    if service.builtin is not None and service.builtin not in BUILTIN_SERVICES:
        text = f"{show(service.builtin)} is no built-in; they are {', '.join(BUILTIN_SERVICES)}"
        yield Problem((*path, "builtin"), text + suggest(service.builtin, BUILTIN_SERVICES), service.builtin)
    elif name in BUILTIN_SERVICES and given and service.what != name:
        text = f"{quote(name)} is the name of a built-in; choose another, or set builtin = {quote(name)}"
        yield Problem(path, text)
    if service.handler is not None and (reason := _not_handler(service.handler)):
        yield Problem((*path, "handler"), f"{show(service.handler)} {reason}", service.handler)
    if service.metrics is False:
        yield Problem((*path, "metrics"), "false says nothing; write true, or one of the other kinds")
    if service.blocking is not None and service.what is not None:
        yield Problem((*path, "blocking"), "has no meaning for a built-in, which never blocks")
    yield from check_program(path, service)
    yield from check_framing(path, service)
    yield from check_socks(path, service)


def _check_listeners(
    listeners: Iterable[ListenSettings], services: Iterable[str], check_address: CheckAddress | None
) -> Iterator[Problem]:
    seen: dict[Hashable, str] = {}
    for index, listen in enumerate(listeners):
        path: KeyPath = ("listen", index)
        if listen.address is None and not listen.addresses:
            yield Problem(path, f"has no address; write {_EXAMPLE}", missing=("address", "addresses"))
        if listen.address is not None and listen.addresses:
            yield Problem((*path, "addresses"), "stands beside address; a listener has exactly one of the two")
        for where, text in _addresses(path, listen):
            try:
                address = check_address(text) if check_address else text
            except AddressError as error:
                yield Problem(where, str(error), text)
                continue
            first = _dotted(where) if address is None else seen.setdefault(address, _dotted(where))
            if first != _dotted(where):
                yield Problem(where, f"{show(text)} stands twice; it is {first} already", text)
        if not listen.service:
            text = 'has no service; write service = "upper", a table of [service], or "module:attribute"'
            yield Problem(path, text, missing=("service",))
        elif reason := _not_service(listen.service, services):
            yield Problem((*path, "service"), f"{show(listen.service)} {reason}", listen.service)
        yield from _check_admission(path, listen)
        yield from _check_proxies(path, listen)
        yield from check_tls(path, listen)
        if listen.interface is not None and (reason := _not_interface(listen.interface)):
            yield Problem((*path, "interface"), f"{show(listen.interface)} {reason}", listen.interface)


def _check_admission(path: KeyPath, listen: ListenSettings) -> Iterator[Problem]:
    for key in ("allow", "deny"):
        for index, text in enumerate(getattr(listen, key)):
            if reason := _not_network(text):
                yield Problem((*path, key, index), f"{show(text)} {reason}", text)
    if listen.banner and listen.at_limit == "reset":
        text = 'is never sent, for at_limit is "reset"; write at_limit = "refuse", or remove it'
        yield Problem((*path, "banner"), f"{show(listen.banner)} {text}", listen.banner)
    if any(not character.isprintable() for character in listen.banner):
        text = "has a character that is not printable; a banner is one line, and its newline is added"
        yield Problem((*path, "banner"), f"{show(listen.banner)} {text}", listen.banner)


def _check_proxies(path: KeyPath, listen: ListenSettings) -> Iterator[Problem]:
    """Hold the networks of proxies, of which one at least is needed, against the addresses, which are to be streams."""
    if listen.proxy_protocol is None:
        return
    here = (*path, "proxy_protocol")
    if not listen.proxy_protocol.from_:
        text = 'names no proxy that is believed; write from = ["10.0.0.1"], or "unix:" for Unix sockets'
        yield Problem((*here, "from"), text, missing=("from",))
    for index, text in enumerate(listen.proxy_protocol.from_):
        if text != "unix:" and (reason := _not_network(text)):
            yield Problem((*here, "from", index), f"{show(text)} {reason}", text)
    for where, text in _addresses(path, listen):
        if text.startswith(("udp:", "unixgram:")):
            reason = "takes datagrams, which have no PROXY header; give it a [[listen]] of its own"
            yield Problem(where, f"{show(text)} {reason}", text)


def _not_network(text: str) -> str:
    """Say why a text is no network; empty when it is one."""
    if "%" in text:
        return "names an interface, and a source is matched without; remove the % and what follows"
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return 'is no network; write an address or a prefix, such as "192.0.2.7", "10.0.0.0/8" or "2001:db8::/32"'
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= _MAPPED_BITS:
        meant = ipaddress.ip_network((mapped, network.prefixlen - _MAPPED_BITS))
        return f'never matches, for IPv4 clients are known as IPv4; write "{meant}"'
    if network.network_address != ipaddress.ip_interface(text).ip:
        return f'has bits behind its prefix; write "{network}", or the address alone'
    return ""


def _not_interface(name: str) -> str:
    """Say why a text cannot be the name of an interface; empty when it can."""
    size = len(os.fsencode(name))
    if not 1 <= size <= _MAX_INTERFACE_BYTES:
        return f"has {size} bytes; the name of an interface has 1 to {_MAX_INTERFACE_BYTES} (IFNAMSIZ)"
    wrong = re.search(r"[\s/:]", name)
    return f"has {show(wrong[0])}, which the name of an interface cannot have" if wrong else ""


def _addresses(path: KeyPath, listen: ListenSettings) -> Iterator[tuple[KeyPath, str]]:
    if listen.address is not None:
        yield (*path, "address"), listen.address
    yield from (((*path, "addresses", index), text) for index, text in enumerate(listen.addresses))


def _not_service(name: str, tables: Iterable[str]) -> str:
    known = [*tables, *(builtin for builtin in BUILTIN_SERVICES if builtin not in tables)]
    if name in known:
        return ""
    if ":" in name:
        return _not_handler(name)
    module, dot, attribute = name.rpartition(".")
    if dot and not nearest(name, known):
        return f"is no service; did you mean {quote(f'{module}:{attribute}')}? (a handler is module:attribute)"
    return f"is no service; known are {', '.join(known)}{suggest(name, known)}"


def _not_handler(text: str) -> str:
    """Say why a text is not module:attribute, both dotted identifiers; empty when it is."""
    module, colon, attribute = text.partition(":")
    if not colon:
        module, dot, attribute = text.rpartition(".")
        meant = f"; did you mean {quote(f'{module}:{attribute}')}?" if dot else ""
        return f'has no ":"; a handler is module:attribute, such as "app:greet"{meant}'
    for part, what in ((module, "module"), (attribute, "attribute")):
        if not part:
            return f'has no {what}; a handler is module:attribute, such as "app:greet"'
        if any(not word.isidentifier() or keyword.iskeyword(word) for word in part.split(".")):
            return f'is not module:attribute, such as "app:greet"; {quote(part)} cannot name the {what}'
    return ""


def _explained(problem: Problem, others: Iterable[Problem]) -> bool:
    """Tell whether a missing key stands there after all, misspelt or wrong, as may be the whole table."""
    depth = len(problem.path)
    near = [other.path[depth:] for other in others if other.path[:depth] == problem.path]
    return any(not rest or nearest(str(rest[0]), problem.missing) for rest in near)


def _message(name: str, line: int | None, problem: Problem) -> str:
    parts = (f"{name}:{line}" if line else name, _dotted(problem.path), problem.text)
    return ": ".join(part for part in parts if part)


def _dotted(path: KeyPath) -> str:
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{quote_key(key)}" for key in path)
    return text.removeprefix(".")


def _index(path: KeyPath) -> int:
    return int(path[1])


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
