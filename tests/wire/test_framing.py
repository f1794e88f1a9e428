# SPDX-License-Identifier: MIT
"""Framings as name and arguments, as they go to another process.

Seen to fail: with the arguments in another order than the fields, Delimiter gets its delimiter as a size.
"""

from __future__ import annotations

import msgspec
import pytest

from sockd.units import Size
from sockd.wire.framing import (
    BlankLine,
    Delimiter,
    DotBlock,
    Fixed,
    Line,
    Netstring,
    Nul,
    OctetCount,
    Prefix,
    Raw,
    Record,
    StrictLine,
    Varint,
    make_framing,
    spell,
)

ALL = [
    Line(Size(100), b"\r\n"),
    Line(100, "same"),
    StrictLine(100),
    Delimiter(100, b"\xff;"),
    Nul(100),
    Netstring(Size(100)),
    Prefix(100, 2, "little", True),
    Varint(100),
    OctetCount(100, mixed=True),
    Fixed(16),
    DotBlock(100),
    BlankLine(100),
    Raw(7),
    Record("!IHd"),
]


@pytest.mark.parametrize("framing", ALL, ids=repr)
def test_a_framing_is_spelt_and_made_again(framing):
    told = msgspec.msgpack.decode(msgspec.msgpack.encode(spell(framing)))
    assert make_framing(*told) == framing


@pytest.mark.parametrize(("name", "arguments"), [("Datagram", [1]), ("object", []), ("Line", []), ("Fixed", [0])])
def test_none_is_made_of_something_else(name, arguments):
    with pytest.raises((ValueError, TypeError)):
        make_framing(name, arguments)
