# SPDX-License-Identifier: MIT
"""Rules of a [[service]] table, and of the service that a listener names."""

from __future__ import annotations

import keyword
from typing import TYPE_CHECKING

from sockd.config.check_exec import check_program
from sockd.config.check_framing import check_framing
from sockd.config.check_socks import check_socks
from sockd.config.convert import Problem
from sockd.lazy import pattern
from sockd.settings.builtin import BUILTINS
from sockd.settings.service import KINDS, PROGRAM_KEYS, SERVICE_KEYS
from sockd.text import quote, show, suggest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sockd.settings.service import ServiceSettings
    from sockd.text import KeyPath

_NAME = pattern(r"[A-Za-z0-9_.-]{1,64}")  # fits a metrics label and ADDRESS=SERVICE, is not module:attribute


def check_service(name: str, service: ServiceSettings) -> Iterator[Problem]:
    """Check one [service.NAME]; the name of a built-in is allowed only for that built-in with other limits."""
    path: KeyPath = ("service", name)
    given = service.kinds
    if not _NAME.fullmatch(name):
        yield Problem(path, f"{show(name)} is not a valid name; use 1 to 64 of the characters A-Z a-z 0-9 _ . -")
    if len(given) > 1:
        text = f"is set together with {given[0]}; a service has exactly one of {', '.join(KINDS)}"
        yield Problem((*path, given[1]), text)
    if not given:
        *others, last = (rules.example for rules in KINDS.values())
        text = f"has no handler; write {', '.join(others)} or {last}"
        yield Problem(path, text, missing=tuple(KINDS))
    if service.builtin is not None and service.builtin not in BUILTINS:
        text = f"{show(service.builtin)} is not a built-in service; known: {', '.join(BUILTINS)}"
        yield Problem((*path, "builtin"), text + suggest(service.builtin, BUILTINS), service.builtin)
    elif name in BUILTINS and given and service.what != name:
        text = f"{quote(name)} is the name of a built-in; choose another, or set builtin = {quote(name)}"
        yield Problem(path, text)
    if service.handler is not None and (reason := not_handler(service.handler)):
        yield Problem((*path, "handler"), f"{show(service.handler)} {reason}", service.handler)
    if service.metrics is False:
        yield Problem((*path, "metrics"), "must be true, or removed; a service has exactly one kind")
    yield from _check_keys(path, service)
    yield from check_program(path, service)
    yield from check_framing(path, service)
    yield from check_socks(path, service)


def _check_keys(path: KeyPath, service: ServiceSettings) -> Iterator[Problem]:
    """Name the keys that have no meaning for a service of this kind."""
    rules = KINDS[service.kinds[0]] if service.kinds else None
    for key in SERVICE_KEYS:
        if getattr(service, key) is None or (rules is not None and key in rules.keys):
            continue
        if key in PROGRAM_KEYS:
            yield Problem(
                (*path, key), f"applies only to a service that executes a program; add {KINDS['exec'].example}"
            )
        elif rules is not None:
            what, meant = rules.what, dict(rules.instead).get(key)
            what = f"{what.partition(',')[0]}; use {meant}" if meant else what
            yield Problem((*path, key), f"does not apply to {what}")


def not_handler(text: str) -> str:
    """Return why a text is not module:attribute, both dotted identifiers; empty when it is."""
    module, colon, attribute = text.partition(":")
    if not colon:
        module, dot, attribute = text.rpartition(".")
        meant = f"; did you mean {quote(f'{module}:{attribute}')}?" if dot else ""
        return f'has no ":"; a handler is module:attribute, such as "app:greet"{meant}'
    for part, what in ((module, "module"), (attribute, "attribute")):
        if not part:
            return f'has no {what}; a handler is module:attribute, such as "app:greet"'
        if any(not word.isidentifier() or keyword.iskeyword(word) for word in part.split(".")):
            return f'is not module:attribute, such as "app:greet"; {quote(part)} is not a valid {what} name'
    return ""


__all__ = ["check_service", "not_handler"]
