# SPDX-License-Identifier: MIT
"""What the author of a Service gives it, checked where it is written: the traceback shows that line."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

from sockd.lazy import lazily
from sockd.values import fields
from sockd.wire.framing import Fixed, Framing, Line, Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    import sockd.settings.service as settings
else:
    settings = lazily("sockd.settings.service")

TIMES = ("idle_timeout", "frame_timeout", "write_timeout", "linger_timeout")
COUNTS = ("high_water", "max_buffer", "max_connections", "max_in_flight")
FLAGS = ("blocking", "datagram_lines")
UNITS = {"high_water": "bytes", "max_buffer": "bytes", "max_connections": "connections", "max_in_flight": "calls"}
EXAMPLES = {"bytes": ", such as 65536"}


def check_options(given: Mapping[str, object]) -> None:
    """Check the options of a service; None stands for the default of each.

    Raises:
        TypeError: one is of another type than its default.
        ValueError: a limit is not positive, or above what sockd.toml may have; or a word is none that is allowed.
    """
    for name, value in given.items():
        if value is None:
            continue
        if name in TIMES or name in COUNTS:
            _check_limit(name, value)
        elif name in FLAGS and not isinstance(value, bool):
            raise TypeError(f"{name} must be True or False, not {value!r}")
        elif name == "goodbye" and not isinstance(value, bytes):
            raise TypeError(f"goodbye must be bytes, not {value!r}")
        elif name in ("too_long", "unfinished"):
            _check_word(name, value)


def _check_limit(name: str, value: object) -> None:
    is_time = name in TIMES
    if not isinstance(value, (int, float) if is_time else int) or isinstance(value, bool):
        unit = "seconds, such as 300 or 0.5" if is_time else UNITS[name] + EXAMPLES.get(UNITS[name], "")
        hint = "; texts with a unit are for sockd.toml" if isinstance(value, str) else ""
        raise TypeError(f"{name} must be a number of {unit}, not {value!r}{hint}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, not {value}")
    if name == "linger_timeout" and value < 0:
        raise ValueError(f"linger_timeout must not be negative, not {value}")
    if name != "linger_timeout" and value <= 0:
        raise ValueError(f"{name} must be positive, not {value}")
    if value > (highest := _highest(name)):
        raise ValueError(f"{name} must be at most {highest} {UNITS.get(name, 'seconds')}, not {value}")


def _highest(name: str) -> int:
    """Return what the configuration allows for this key."""
    (found,) = (field.metadata["high"] for field in fields(settings.ServiceSettings) if field.name == name)
    return int(found)


def check_framing(framing: object) -> None:
    """Check how the frames of a service are cut.

    Raises:
        ValueError: by no stream framing of sockd's, or they are longer than those of the configuration.
    """
    if not isinstance(framing, Framing):
        raise ValueError(f"a service needs one of sockd's stream framings, such as Line(8192), not {framing!r}")
    size = framing.size if isinstance(framing, Fixed | Record) else framing.max_bytes
    if size < 1 and isinstance(framing, Line):
        raise ValueError(f"max_bytes must be positive, not {size}")
    if size > (highest := _highest("max_frame")):
        raise ValueError(f"frames of a service have at most {highest} bytes, not {size}")


def _check_word(name: str, value: object) -> None:
    words = get_args(settings.TooLong if name == "too_long" else settings.Unfinished)
    if value not in words:
        raise ValueError(f"{name} must be {' or '.join(map(repr, words))}, not {value!r}")


def check_callable(what: str, given: object) -> None:
    """Check what a decorator is given.

    Raises:
        TypeError: it cannot be called.
    """
    if not callable(given):
        raise TypeError(f"{what} must be a function or another callable, not {given!r}")


__all__ = ["check_callable", "check_framing", "check_options"]
