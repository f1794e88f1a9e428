# SPDX-License-Identifier: MIT
"""A stream means the same however it arrives, and its frames are known as soon as they can be."""

import os
import random

import pytest
from framing_oracle import events
from framing_streams import LONGEST, STREAMS, CoreCutter, Cutter, every_split, random_split, random_stream

from sockd.buffer import BlankLine, Delimiter, DotBlock, Line, Nul, OctetCount, StrictLine

SOAK = os.environ.get("SOCKD_SOAK") == "1"
RANDOM_SPLITS = 100_000 if SOAK else 250  # of each framing
SPLITS_A_STREAM = 10
WITH_DELIMITER = (Line, StrictLine, Delimiter, Nul, OctetCount, DotBlock, BlankLine)

CUTTERS = {
    "iteration": Cutter,
    "views": lambda framing: Cutter(framing, views=True),
    "core": CoreCutter,
}


def check(expected, cutter, pieces):
    """After each piece exactly that is known which can be."""
    fed = 0
    for piece in pieces:
        cutter.feed(piece)
        fed += len(piece)
        known = [(what, it) for at, what, it in expected if at <= fed and what != "truncated"]
        assert cutter.events == known, (pieces, fed)
    cutter.end()
    assert cutter.events == [(what, it) for _, what, it in expected], pieces


CASES = [
    pytest.param(framing, stream, id=f"{framing}-{stream!r}")
    for framing, streams in STREAMS.items()
    for stream in streams
]


@pytest.mark.parametrize("way", list(CUTTERS))
@pytest.mark.parametrize(("framing", "stream"), CASES)
def test_every_split(framing, stream, way):
    expected = events(framing, stream)
    short = stream if SOAK or way == "iteration" else stream[:9]
    if short != stream:
        expected = events(framing, short)
    for pieces in every_split(short):
        check(expected, CUTTERS[way](framing), pieces)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("framing", "stream"), list(LONGEST.items()), ids=str)
def test_every_split_of_16_bytes(framing, stream):
    assert len(stream) == 16
    expected = events(framing, stream)
    for pieces in every_split(stream):
        cutter = Cutter(framing)
        for piece in pieces:
            cutter.feed(piece)
        cutter.end()
        assert cutter.events == [(what, it) for _, what, it in expected], pieces


@pytest.mark.parametrize(
    ("framing", "stream"),
    [case for case in CASES if isinstance(case.values[0], WITH_DELIMITER)],
)
def test_every_split_with_discarding(framing, stream):
    stream = stream if SOAK else stream[:10]
    expected = events(framing, stream, discard=True)
    for pieces in every_split(stream):
        check(expected, Cutter(framing, discard=True), pieces)


@pytest.mark.timeout(3600 if SOAK else 120)
@pytest.mark.parametrize("discard", [False, True])
@pytest.mark.parametrize("framing", list(STREAMS), ids=str)
def test_random_splits(framing, discard):
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    for _ in range(RANDOM_SPLITS // SPLITS_A_STREAM // 2):
        stream = random_stream(chance, framing)
        expected = events(framing, stream, discard=discard)
        for _ in range(SPLITS_A_STREAM):
            pieces = random_split(chance, stream)
            try:
                check(expected, Cutter(framing, discard=discard), pieces)
            except AssertionError as error:
                error.add_note(f"seed {seed}")
                raise
