# SPDX-License-Identifier: MIT
"""How a setting is declared: its kind, its unit, its default, where that comes from, and what it may be.

The settings themselves are in sockd.settings and beside it, table by table.
"""

# ruff: noqa: ANN401 - setting() is a field specifier, typed and used like dataclasses.field

from __future__ import annotations

from dataclasses import field
from typing import Any

KIB = 1024
MIB = 1024 * KIB


def setting(
    default: Any,
    *,
    help: str,
    source: str,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """Declare one setting; a callable default makes a fresh value each time."""
    about = {"help": help, "source": source, "unit": unit, "low": low, "high": high}
    if callable(default):
        return field(default_factory=default, metadata=about)
    return field(default=default, metadata=about)


def key_of(name: str) -> str:
    """Return the key of a field: its name, without the underscore of one that is a word of Python."""
    return name.removesuffix("_")
