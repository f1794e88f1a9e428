# SPDX-License-Identifier: MIT
"""What the author of a service can get wrong: each is an error where it is written, which names it and what is right.

Seen to fail: before options were checked, most of these were accepted, also by `sockd --check`; the others were
errors of a comparison inside sockd.
"""

from __future__ import annotations

import re

import pytest

import sockd
from sockd import testing
from sockd.buffer import PayloadError, encode

OPTIONS = [
    (
        {"idle_timeout": "5m"},
        TypeError,
        "idle_timeout must be a number of seconds, such as 300 or 0.5, not '5m'; text",
    ),
    ({"frame_timeout": True}, TypeError, "frame_timeout must be a number of seconds"),
    ({"write_timeout": float("nan")}, ValueError, "write_timeout must be a finite number, not nan"),
    ({"linger_timeout": -1}, ValueError, "linger_timeout must not be negative, not -1"),
    ({"high_water": "64 KiB"}, TypeError, "high_water must be a number of bytes, such as 65536, not '64 KiB'; texts"),
    ({"max_buffer": 1.5}, TypeError, "max_buffer must be a number of bytes"),
    ({"max_connections": "5"}, TypeError, "max_connections must be a number of connections, not '5'"),
    ({"max_in_flight": 0}, ValueError, "max_in_flight must be positive, not 0"),
    ({"goodbye": "bye"}, TypeError, "goodbye must be bytes, not 'bye'"),
    ({"blocking": "yes"}, TypeError, "blocking must be True or False, not 'yes'"),
    ({"datagram_lines": 1}, TypeError, "datagram_lines must be True or False, not 1"),
    ({"too_long": "drop"}, ValueError, "too_long must be 'close' or 'skip' or 'cut', not 'drop'"),
    ({"unfinished": True}, ValueError, "unfinished must be 'drop' or 'deliver', not True"),
    ({"idle_timeout": 1e300}, ValueError, "idle_timeout must be at most 604800 seconds, not 1e+300"),
    ({"linger_timeout": 10**400}, ValueError, "linger_timeout must be at most 600 seconds, not 1000"),
    ({"high_water": 2**63}, ValueError, "high_water must be at most 1073741824 bytes, not 9223372036854775808"),
    ({"max_connections": 10**7}, ValueError, "max_connections must be at most 1000000 connections, not 10000000"),
    ({"max_in_flight": "4"}, TypeError, "max_in_flight must be a number of calls, not '4'"),
    ({"text": 5}, ValueError, "text must be an encoding such as utf-8, not 5"),
    (
        {"framing": sockd.Line(2**40)},
        ValueError,
        "frames of a service have at most 1073741824 bytes, not 1099511627776",
    ),
    (
        {"framing": sockd.Fixed(2**40)},
        ValueError,
        "frames of a service have at most 1073741824 bytes, not 1099511627776",
    ),
    (
        {"framing": sockd.Record("!2147483648s")},
        ValueError,
        "frames of a service have at most 1073741824 bytes, not 21",
    ),
    ({"framing": "line"}, ValueError, "stream framings, such as Line(8192), not 'line'"),
]


@pytest.mark.parametrize(("options", "error", "text"), OPTIONS, ids=[next(iter(one[0])) for one in OPTIONS])
def test_an_option(options, error, text):
    with pytest.raises(error) as raised:
        sockd.Service(**options)
    assert text in str(raised.value)


def test_what_a_service_may_have():
    sockd.Service(
        idle_timeout=1,
        linger_timeout=0,
        high_water=1,
        goodbye=b"",
        blocking=False,
        too_long="cut",
        unfinished="deliver",
    )


@pytest.mark.parametrize("decorator", ["frame", "frames", "connect", "startup", "shutdown", "snapshot", "restore"])
def test_what_a_decorator_is_given(decorator):
    with pytest.raises(TypeError, match="must be a function or another callable, not 5"):
        getattr(sockd.Service(), decorator)(5)


FRAMINGS = [
    (lambda: sockd.Line("8 KiB"), "max_bytes must be a whole number of bytes, such as 8192, not '8 KiB'"),
    (lambda: sockd.Netstring(1.5), "max_bytes must be a whole number of bytes, such as 8192, not 1.5"),
    (lambda: sockd.Raw(None), "max_bytes must be a whole number of bytes"),
    (lambda: sockd.Fixed("3"), "size must be a whole number of bytes"),
    (lambda: sockd.Prefix(10, 2, includes_header=1), "includes_header must be True or False, not 1"),
    (lambda: sockd.OctetCount(10, "mixed"), "mixed must be True or False, not 'mixed'"),
    (lambda: sockd.Delimiter(10, ";"), "a delimiter is bytes, such as b\";\", not ';'"),
]


def test_a_framing_of_a_number_that_is_not_whole_or_an_ending_that_is_not_bytes():
    """Seen to fail: --check found them right, and the start ended with a traceback."""
    with pytest.raises(ValueError, match=r"width must be one of .*, not 2\.0"):
        sockd.Prefix(10, 2.0)
    with pytest.raises(ValueError, match="ending must be LF"):
        sockd.Line(10, bytearray(b"\n"))


@pytest.mark.parametrize(("make", "text"), FRAMINGS, ids=[one[1][-8:] for one in FRAMINGS])
def test_a_framing(make, text):
    with pytest.raises(TypeError) as raised:
        make()
    assert text in str(raised.value)


PAYLOADS = [
    (sockd.BlankLine(100), b"action=dunno\n\n", "a payload has no empty line: the one that ends it is added"),
    (sockd.Delimiter(100, b";"), b"a;", "a payload does not contain its ending, which is added"),
    (sockd.Fixed(3), b"a", "a payload has exactly 3 bytes"),
    (sockd.OctetCount(100), b"", "a payload has at least one byte"),
]


@pytest.mark.parametrize(("framing", "payload", "remedy"), PAYLOADS, ids=[repr(one[0]) for one in PAYLOADS])
def test_a_payload_says_what_it_must_be(framing, payload, remedy):
    with pytest.raises(PayloadError, match=remedy):
        encode(framing, payload)


REPLIES = [(5, r"is int, not str or None; make text of it: str\(number\)"), (["a"], r'join it: "\\n"\.join')]


@pytest.mark.parametrize(("reply", "remedy"), REPLIES, ids=["int", "list"])
@pytest.mark.parametrize("is_async", [False, True])
def test_the_remedy_for_a_reply_of_a_service_of_text_is_text(caplog, reply, remedy, is_async):
    async def later(line):
        return reply

    service = sockd.Service(text="utf-8")
    service.frame(later if is_async else lambda line: reply)
    with testing.connect(service) as peer:
        peer.send(b"a\n")
        assert peer.close_reason == sockd.CloseReason.HANDLER_ERROR
    assert re.search(remedy, caplog.text)
