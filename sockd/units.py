# SPDX-License-Identifier: MIT
"""Sizes and durations as people write them: "64 KiB", "1h30m", and back again.

Rules: exact arithmetic on the text, so that "100ms" is the float 0.1 and a
size is a whole number of bytes or an error.  KB, MB, GB are powers of 1000 and KiB,
MiB, GiB powers of 1024, as in IEC 80000-13.  Ranges belong to sockd.settings.
"""

from __future__ import annotations

from itertools import pairwise

from sockd.lazy import fractions, pattern
from sockd.text import nearest

SIZE_UNITS = {
    "B": 1,
    "KB": 1000,
    "KiB": 1024,
    "MB": 1000**2,
    "MiB": 1024**2,
    "GB": 1000**3,
    "GiB": 1024**3,
}
"""In bytes."""
DURATION_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
"""In milliseconds."""
FOREVER = 1e10  # seconds, three centuries: above it a float no longer holds nanoseconds

# More digits than any limit needs, and few enough that int() and float() stay exact and quick.
_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,9})?"
_UNIT = r"[A-Za-z\u00b5\u03bc]+"
_SIZE = pattern(rf"(?P<number>{_NUMBER}) *(?P<unit>{_UNIT})?")
_PART = pattern(rf"(?P<number>{_NUMBER}) *(?P<unit>{_UNIT})? *")


def parse_whole(text: str, maximum: int) -> int | None:
    """Read a whole number of ASCII digits, 0 to `maximum`; None for any other text.

    int() alone reads digits of other scripts, str.isdigit() also superscripts, which int() does not; and int() refuses
    thousands of digits (sys.set_int_max_str_digits), whatever isdigit() says of them.
    """
    digits = text.lstrip("0")
    if not text or not (text.isascii() and text.isdigit()) or len(digits) > len(str(maximum)):
        return None
    number = int(digits or "0")
    return number if number <= maximum else None


def parse_size(text: str | int) -> Size:
    """Read a number of bytes.

    Args:
        text: an integer, or text such as "4096", "64 KiB", "100 KB", "1.5 MiB".

    Returns:
        The number of bytes.

    Raises:
        ValueError: the message begins with a verb, for "TEXT is ...", and says what is allowed.
    """
    if isinstance(text, bool) or not isinstance(text, (str, int)):
        raise ValueError('is not a size; write an integer or text such as "64 KiB"')
    if isinstance(text, int):
        if text < 0:
            raise ValueError("is negative")
        return Size(text)
    match = _SIZE.fullmatch(text.strip(" "))
    if match is None:
        raise ValueError('is not a size; write a number and a unit, such as "64 KiB"')
    size = fractions.Fraction(match["number"]) * _factor(match["unit"] or "B", SIZE_UNITS)
    if size.denominator != 1:
        raise ValueError("is not a whole number of bytes")
    return Size(size)


def parse_duration(text: str | float) -> Duration:
    """Read a number of seconds.

    Args:
        text: a number of seconds, or text such as "90", "90 s", "500ms", "1h30m", "2d".

    Returns:
        The number of seconds, to the nanosecond.

    Raises:
        ValueError: as parse_size.
    """
    if isinstance(text, bool) or not isinstance(text, (str, int, float)):
        raise ValueError('is not a duration; write seconds or text such as "15m"')
    if not isinstance(text, str):
        return _seconds(text)
    parts = _parts(text.strip(" "))
    if len(parts) == 1 and parts[0][1] is None:
        return _seconds(float(parts[0][0]))
    units = [_factor(unit, DURATION_UNITS) for _, unit in parts]
    if any(later >= earlier for earlier, later in pairwise(units)):
        raise ValueError('has units out of order; they go from large to small, each once, as in "1h30m"')
    return _seconds(float(sum(number * unit for (number, _), unit in zip(parts, units, strict=True)) / 1000))


def format_size(size: int) -> str:
    """Write a number of bytes so that parse_size reads the same number back.

    Args:
        size: bytes, 0 or more.

    Returns:
        The shortest whole number of a unit: "64 KiB", "100 KB", "1500 B".
    """
    whole = [(size // factor, factor, unit) for unit, factor in SIZE_UNITS.items() if size % factor == 0]
    count, _, unit = min(whole) if size else (0, 0, "B")
    return f"{count} {unit}"


def format_duration(seconds: float) -> str:
    """Write a number of seconds so that parse_duration reads the same number back.

    Args:
        seconds: 0 or more.

    Returns:
        Units down to the millisecond, "1h30m", "500ms"; more decimals of seconds where
        milliseconds are not enough, "0.0005s".
    """
    rest = round(seconds * 1000)
    if rest / 1000 != seconds:
        return f"{seconds:.9f}".rstrip("0") + "s"
    text = ""
    for unit, factor in DURATION_UNITS.items():
        count, rest = divmod(rest, factor)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def _parts(text: str) -> list[tuple[fractions.Fraction, str | None]]:
    parts: list[tuple[fractions.Fraction, str | None]] = []
    position = 0
    while match := _PART.match(text, position):
        parts.append((fractions.Fraction(match["number"]), match["unit"]))
        position = match.end()
    if not parts or position < len(text):
        raise ValueError('is not a duration; write a number and a unit, such as "15m" or "1h30m"')
    return parts


def _factor(unit: str | None, units: dict[str, int]) -> int:
    if unit in units:
        return units[unit]
    known = ", ".join(units)
    if unit is None:
        raise ValueError(f"has a number without unit; units are {known}")
    meant = _meant(unit, units)
    hint = f'; did you mean "{meant}"?' if meant else ""
    raise ValueError(f'has the unknown unit "{unit}"; units are {known}{hint}')


def _meant(unit: str, units: dict[str, int]) -> str | None:
    starts = [name for name in units if unit.lower().startswith(name.lower())]
    return max(starts, key=len) if starts else nearest(unit, units)


def _seconds(number: float) -> Duration:
    if number < 0:
        raise ValueError("is negative")
    if not number < FOREVER:
        raise ValueError("is not a finite time")
    return Duration(round(number, 9))


class Size(int):
    """A number of bytes; in TOML an integer or text such as "64 KiB" or "100 KB"."""


class Duration(float):
    """A number of seconds; in TOML a number or text such as "500ms" or "15m"."""


__all__ = ["Duration", "Size", "format_duration", "format_size", "parse_duration", "parse_size", "parse_whole"]
