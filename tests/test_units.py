# SPDX-License-Identifier: MIT
"""Sizes and durations: tables of texts and values."""

import random

import pytest

from sockd.settings import Duration, Size
from sockd.text import nearest
from sockd.units import format_duration, format_size, parse_duration, parse_size, parse_whole


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        (4096, 4096),
        ("0 B", 0),
        ("4096", 4096),
        ("4096 B", 4096),
        ("64 KiB", 65_536),
        ("64KiB", 65_536),
        (" 64  KiB ", 65_536),
        ("100 KB", 100_000),
        ("1.5 MiB", 1_572_864),
        ("1.3 KB", 1300),
        ("2 MB", 2_000_000),
        ("1 GB", 1_000_000_000),
        ("1 GiB", 1_073_741_824),
    ],
)
def test_size(text, size):
    assert parse_size(text) == size
    assert type(parse_size(text)) is Size


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a size"),
        ("KiB", "is not a size"),
        ("64 KiB 2", "is not a size"),
        ("64\nKiB", "is not a size"),
        ("64\tKiB", "is not a size"),
        ("-1 B", "is not a size"),
        ("1e3", "is not a size"),
        ("1_000", "is not a size"),
        ("\u0664", "is not a size"),
        ("9" * 5000, "is not a size"),
        (-1, "is negative"),
        (True, "is not a size"),
        (1.0, "is not a size"),
        (None, "is not a size"),
        ("0.3 B", "is not a whole number of bytes"),
        ("1.0001 KiB", "is not a whole number of bytes"),
        ("1 K", 'did you mean "KB"'),
        ("1 kb", 'did you mean "KB"'),
        ("1 kib", 'did you mean "KiB"'),
        ("1 bytes", 'did you mean "B"'),
        ("1 TB", "has the unknown unit"),
    ],
)
def test_not_a_size(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (0, 0.0),
        (90, 90.0),
        (0.25, 0.25),
        ("90", 90.0),
        ("0.5", 0.5),
        ("90 s", 90.0),
        ("500ms", 0.5),
        ("100ms", 0.1),
        ("0.1s", 0.1),
        ("15m", 900.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("1.5h", 5400.0),
        ("2d", 172_800.0),
        ("1d2h3m4s5ms", 93_784.005),
    ],
)
def test_duration(text, seconds):
    assert parse_duration(text) == seconds
    assert type(parse_duration(text)) is Duration


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a duration"),
        ("m", "is not a duration"),
        ("-5s", "is not a duration"),
        ("5 s x", "is not a duration"),
        ("5\ns", "is not a duration"),
        (True, "is not a duration"),
        ([], "is not a duration"),
        (-1, "is negative"),
        (float("-inf"), "is negative"),
        (float("inf"), "is not a finite time"),
        (float("nan"), "is not a finite time"),
        (10**400, "is not a finite time"),
        ("999999999999999d", "is not a finite time"),
        ("1m30", "has a number without unit"),
        ("1 30", "has a number without unit"),
        ("30s1m", "has units out of order"),
        ("1s1s", "has units out of order"),
        ("5 min", 'did you mean "m"'),
        ("5 sec", 'did you mean "s"'),
        ("5 msec", 'did you mean "ms"'),
        ("5 hours", 'did you mean "h"'),
        ("5S", 'did you mean "s"'),
        ("5us", "has the unknown unit"),
    ],
)
def test_not_a_duration(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_duration(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1000, "1 KB"),
        (1024, "1 KiB"),
        (1500, "1500 B"),
        (65_536, "64 KiB"),
        (100_000, "100 KB"),
        (1_024_000, "1000 KiB"),
        (2**30, "1 GiB"),
    ],
)
def test_format_size(size, text):
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.001, "1ms"), (0.5, "500ms"), (90, "1m30s"), (900, "15m"), (5400, "1h30m"), (172_800, "2d")],
)
def test_format_duration(seconds, text):
    assert format_duration(seconds) == text


def test_what_is_formatted_reads_back_as_the_same_number():
    chance = random.Random(20261123)
    for _ in range(2000):
        size = chance.randrange(10 ** chance.randrange(1, 13))
        assert parse_size(format_size(size)) == size
        seconds = parse_duration(chance.random() * 10 ** chance.randrange(-9, 6))
        assert parse_duration(format_duration(seconds)) == seconds


def test_nearest():
    assert nearest("EPOL", ["epoll", "poll"]) == "epoll"
    assert nearest("xyz", ["epoll", "poll"]) is None
    assert nearest("a", []) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0), ("007", 7), ("65535", 65_535), ("65536", None), ("9" * 5_000, None), ("0" * 5_000 + "1", 1),
        ("", None), ("-1", None), ("+1", None), (" 1", None), ("1_0", None), ("\u00b2", None), ("\u0661", None),
    ],
)  # fmt: skip
def test_whole_numbers(text, number):
    """Seen to fail with isdigit() and int(): for 5,000 digits, and for a superscript."""
    assert parse_whole(text, 65_535) == number
