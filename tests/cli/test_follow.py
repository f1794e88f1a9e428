# SPDX-License-Identifier: MIT
"""What `sockctl trace --redact` shows of a frame that the daemon has cut."""

from __future__ import annotations

import argparse
import re

import pytest

from sockd.cli.verbs.follow import MARGIN_BYTES, MAX_BYTES, _content, _question

CARD = "4111111111111111"


@pytest.mark.parametrize("shown", [256, 3000, MAX_BYTES])
@pytest.mark.parametrize("between", ["-" * 3, "-" * 25, "\xff" * 5])
def test_no_part_of_a_match_is_shown_where_the_frame_is_cut(shown, between):
    words = argparse.Namespace(verb="trace", subject="", rate=1, sizes=False, bytes=shown, redact=re.compile(r"\d{16}"))
    asked = _question(words, again=False).words["bytes"]
    assert asked == min(shown + MARGIN_BYTES, MAX_BYTES)
    for begin in range(len(CARD) + len(between)):
        frame = ((CARD + between) * 500)[begin:]
        text = _content(words, frame[:asked], is_cut=True)
        assert re.findall(r"\d+", text[len(CARD) :].replace("\\xff", "")) == []
        assert "***" in text


def test_a_whole_frame_is_shown_to_its_end():
    words = argparse.Namespace(bytes=256, redact=re.compile(r"secret=\S+"))
    assert _content(words, "user secret=" + "x" * 900 + " and more", is_cut=False) == "user *** and more"
    assert _content(words, "secret=1", is_cut=False) == "***"
