# SPDX-License-Identifier: MIT
"""Dataclasses that cost nothing before one is made: the standard library's, by its names.

To a type checker they are those of dataclasses.  At run time sockd.values.late stands behind them, because a program
that answers one line and ends imports a hundred such classes and makes twenty objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
else:
    from sockd.values.late import asdict, dataclass, field, fields, is_dataclass, replace

__all__ = ["asdict", "dataclass", "field", "fields", "is_dataclass", "replace"]
