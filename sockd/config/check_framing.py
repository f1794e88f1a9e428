# SPDX-License-Identifier: MIT
"""Rules of [service.NAME] framing: which key goes with which type, and which a type cannot do without."""

from __future__ import annotations

import struct
from dataclasses import fields
from typing import TYPE_CHECKING

from sockd.config.convert import Problem
from sockd.settings.service import FramingSettings
from sockd.text import quote, show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sockd.config.toml import KeyPath
    from sockd.settings.service import ServiceSettings

NEEDED = {"delimiter": "delimiter", "prefix": "width", "fixed": "size", "record": "format"}
"""The key without which a type says too little."""
OPTIONAL = {"line": ("ending",), "prefix": ("order", "includes_header"), "octet-count": ("mixed",)}
UNBOUNDED = ("fixed", "record")
"""Types whose size is their limit."""
OF_BUILTINS = ("line", "raw")
_EXAMPLES = {"delimiter": '";"', "width": "4", "size": "16", "format": '"!IHd"'}
_WIDTHS = (1, 2, 3, 4, 8)
_DELIMITER_MAX_BYTES = 8


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
        text = 'says not which; write framing = { type = "netstring", max = "100 KB" }'
        yield Problem(here, text, missing=("type",))
        return
    if service.builtin is not None and framing.type not in OF_BUILTINS:
        text = f"{show(framing.type)} is not for a built-in, which takes {' or '.join(map(quote, OF_BUILTINS))}"
        yield Problem((*here, "type") if is_table else here, text, framing.type)
    yield from _check_keys(here, framing)
    yield from _check_values(here, framing)
    if service.max_frame is not None and framing.type in UNBOUNDED:
        text = f"has no meaning for {quote(framing.type)}, which is of one size; remove it"
        yield Problem((*path, "max_frame"), text)
    elif service.max_frame is not None and framing.max is not None:
        yield Problem((*here, "max"), "stands beside max_frame, which says the same; remove one")


def _check_keys(here: KeyPath, framing: FramingSettings) -> Iterator[Problem]:
    kind = str(framing.type)
    needed = NEEDED.get(kind)
    known = {"type", *OPTIONAL.get(kind, ()), *([needed] if needed else []), *([] if kind in UNBOUNDED else ["max"])}
    for field in fields(framing):
        if field.name not in known and getattr(framing, field.name) is not None:
            keys = ", ".join(sorted(known - {"type"})) or "no other"
            yield Problem((*here, field.name), f"has no meaning for {quote(kind)}, whose keys are {keys}")
    if needed and getattr(framing, needed) is None:
        text = f'{quote(kind)} needs {needed}; write {{ type = "{kind}", {needed} = {_EXAMPLES[needed]} }}'
        yield Problem(here, text, kind, missing=(needed,))


def _check_values(here: KeyPath, framing: FramingSettings) -> Iterator[Problem]:
    if framing.delimiter is not None:
        size = len(framing.delimiter.encode())
        if not 1 <= size <= _DELIMITER_MAX_BYTES:
            text = f"{show(framing.delimiter)} has {size} bytes; a delimiter has 1 to {_DELIMITER_MAX_BYTES}"
            yield Problem((*here, "delimiter"), text, framing.delimiter)
    if framing.width is not None and framing.width not in _WIDTHS:
        text = f"{framing.width} is no width; a length has {', '.join(map(str, _WIDTHS[:-1]))} or {_WIDTHS[-1]} bytes"
        yield Problem((*here, "width"), text, framing.width)
    if framing.format is not None and (reason := _not_format(framing.format)):
        yield Problem((*here, "format"), f"{show(framing.format)} {reason}", framing.format)


def _not_format(text: str) -> str:
    """Say why a text describes no record; empty when it does."""
    try:
        size = struct.calcsize(text)
    except struct.error as error:
        return f'is no format of the struct module, such as "!IHd" ({error})'
    return "" if size else 'describes no bytes; write such as "!IHd"'
