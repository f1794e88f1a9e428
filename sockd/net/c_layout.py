# SPDX-License-Identifier: MIT
"""The layout of structs of the C core, as its compiler has made them.

Python reads many structs at once with the struct module, which takes a fifth of what cffi does for each field.  Its
formats are made here from what the extension was compiled with, so that no layout is written down twice.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from sockd._sockbuf import ffi

if TYPE_CHECKING:
    from typing import Any

_LETTERS = {1: "b", 2: "h", 4: "i", 8: "q"}


def _format(kind: Any) -> str:  # noqa: ANN401 - a type of cffi
    if kind.kind == "array":
        return f"{kind.length}s" if kind.item.cname == "char" else _format(kind.item) * kind.length
    letter = _LETTERS[ffi.sizeof(kind)]
    return letter.upper() if int(ffi.cast(kind, -1)) > 0 else letter


def layout(name: str) -> struct.Struct:
    """Return the format of a struct of the C core.

    An array of char is read as bytes, other arrays number by number; padding is left out.

    Raises:
        ffi.error: the core has no struct of that name.
    """
    kind, text, at = ffi.typeof(name), "=", 0
    for _, field in kind.fields:
        text += f"{field.offset - at}x" * (field.offset > at) + _format(field.type)
        at = field.offset + ffi.sizeof(field.type)
    return struct.Struct(text + f"{ffi.sizeof(kind) - at}x" * (ffi.sizeof(kind) > at))


def place(name: str, field: str) -> int:
    """Return which place a field has in a struct whose fields up to there have its own size."""
    size = ffi.sizeof(dict(ffi.typeof(name).fields)[field].type)
    return int(ffi.offsetof(name, field)) // int(size)


__all__ = ["layout", "place"]
