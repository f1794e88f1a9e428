# SPDX-License-Identifier: MIT
"""Rules of a [[service]] table, and of the service that a listener names."""

from __future__ import annotations

import keyword
import re
from typing import TYPE_CHECKING

from sockd.config.check_exec import check_program
from sockd.config.check_framing import check_framing
from sockd.config.check_socks import check_socks
from sockd.config.convert import Problem
from sockd.text import quote, show, suggest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sockd.config.toml import KeyPath
    from sockd.settings.service import ServiceSettings

BUILTIN_SERVICES = ("upper", "echo", "discard", "chargen", "qotd", "systat", "daytime", "time", "metrics")


KINDS = ("handler", "builtin", "exec", "relay", "socks", "metrics")
"""Of which a service has exactly one."""


_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # fits a metrics label and ADDRESS=SERVICE, is not module:attribute


def check_service(name: str, service: ServiceSettings) -> Iterator[Problem]:
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
    if service.handler is not None and (reason := not_handler(service.handler)):
        yield Problem((*path, "handler"), f"{show(service.handler)} {reason}", service.handler)
    if service.metrics is False:
        yield Problem((*path, "metrics"), "false says nothing; write true, or one of the other kinds")
    if service.blocking is not None and service.what is not None:
        yield Problem((*path, "blocking"), "has no meaning for a built-in, which never blocks")
    yield from check_program(path, service)
    yield from check_framing(path, service)
    yield from check_socks(path, service)


def not_handler(text: str) -> str:
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


__all__ = ["BUILTIN_SERVICES"]
