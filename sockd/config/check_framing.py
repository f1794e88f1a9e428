# SPDX-License-Identifier: MIT
"""Rules of [service.NAME] framing: which key goes with which type, and which a type cannot do without."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from sockd.config.convert import Problem
from sockd.settings.framing import FRAMINGS, FramingForm, FramingSettings
from sockd.text import quote, show
from sockd.values import fields
from sockd.wire.framing import DELIMITER_MAX_BYTES, PREFIX_WIDTHS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sockd.settings.service import ServiceSettings
    from sockd.text import KeyPath

BUILTIN_FRAMINGS = ("line", "raw")


def check_framing(path: KeyPath, service: ServiceSettings) -> Iterator[Problem]:
    """Check a service's framing.

    Args:
        path: of the service's table.
        service: as read.

    Returns:
        The problems, each with the path of its key.
    """
    here: KeyPath = (*path, "framing")
    if service.framing is None:
        return
    is_table = isinstance(service.framing, FramingSettings)
    framing = service.framing if isinstance(service.framing, FramingSettings) else FramingSettings(type=service.framing)
    if framing.type is None:
        text = 'needs a type; write framing = { type = "netstring", max = "100 KB" }'
        yield Problem(here, text, missing=("type",))
        return
    if service.builtin is not None and framing.type not in BUILTIN_FRAMINGS:
        usable = " or ".join(map(quote, BUILTIN_FRAMINGS))
        text = f"{show(framing.type)} cannot be used with a built-in service; use {usable}"
        yield Problem((*here, "type") if is_table else here, text, framing.type)
    yield from _check_keys(here, framing, framing.type, FRAMINGS[framing.type])
    yield from _check_values(here, framing)
    if service.max_frame is not None and FRAMINGS[framing.type].is_sized:
        text = f"does not apply to {quote(framing.type)}, whose frames have a fixed size; remove it"
        yield Problem((*path, "max_frame"), text)
    elif service.max_frame is not None and framing.max is not None:
        yield Problem((*here, "max"), "duplicates max_frame; remove one of the two")


def _check_keys(here: KeyPath, framing: FramingSettings, kind: str, form: FramingForm) -> Iterator[Problem]:
    for field in fields(framing):
        if field.name not in ("type", *form.keys) and getattr(framing, field.name) is not None:
            keys = ", ".join(form.keys) or "none"
            yield Problem((*here, field.name), f"does not apply to {quote(kind)}; its keys: {keys}")
    if form.needs and getattr(framing, form.needs) is None:
        text = f'{quote(kind)} needs {form.needs}; write {{ type = "{kind}", {form.needs} = {form.example} }}'
        yield Problem(here, text, kind, missing=(form.needs,))


def _check_values(here: KeyPath, framing: FramingSettings) -> Iterator[Problem]:
    if framing.delimiter is not None:
        size = len(framing.delimiter.encode())
        if not 1 <= size <= DELIMITER_MAX_BYTES:
            text = f"{show(framing.delimiter)} has {size} bytes; a delimiter has 1 to {DELIMITER_MAX_BYTES}"
            yield Problem((*here, "delimiter"), text, framing.delimiter)
    if framing.width is not None and framing.width not in PREFIX_WIDTHS:
        *others, last = PREFIX_WIDTHS
        text = f"{framing.width} is not a valid width; a length has {', '.join(map(str, others))} or {last} bytes"
        yield Problem((*here, "width"), text, framing.width)
    if framing.format is not None and (reason := _not_format(framing.format)):
        yield Problem((*here, "format"), f"{show(framing.format)} {reason}", framing.format)


def _not_format(text: str) -> str:
    """Return why a text is not a record format; empty when it is one."""
    try:
        size = struct.calcsize(text)
    except struct.error as error:
        return f'is not a format of the struct module, such as "!IHd" ({error})'
    return "" if size else 'describes no bytes; write a format such as "!IHd"'
