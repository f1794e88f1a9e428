# SPDX-License-Identifier: MIT
"""What a handler has raised is gone once it is logged, and with it the frames and replies of a turn.

Seen to fail: those of functions and of datagrams stayed until the collector came, for a frame of their traceback had
them by name.
"""

from __future__ import annotations

import gc
import logging
import weakref

import pytest

import sockd
from sockd import testing


class Wrong(Exception):
    """One that tells when it is gone."""


raised = []


def fail():
    error = Wrong()
    raised.append(weakref.ref(error))
    try:
        raise error
    finally:
        del error


def function(line):
    fail()


def words(line):
    try:
        fail()
    except Wrong:
        error = sockd.Close(b"bye")
        raised.append(weakref.ref(error))
    try:
        raise error
    finally:
        del error


def of_two(line, connection):
    fail()


async def waiting(line):
    fail()


async def session(reader, writer):
    async for _ in reader:
        fail()


class Protocol(sockd.LineProtocol):
    def line_received(self, line):
        fail()


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No collector, and no log, whose records pytest keeps."""
    del raised[:]
    for name in ("sockd.handler", "sockd.connection", "sockd.datagram"):
        monkeypatch.setattr(logging.getLogger(name), "disabled", True)
    gc.disable()
    yield
    gc.enable()


def left():
    assert raised
    return [one for one in raised if one() is not None]


@pytest.mark.parametrize("handler", [function, words, of_two, waiting, session, Protocol])
def test_of_a_connection(handler):
    with testing.connect(handler) as peer:
        peer.send(b"a\nb\n")
        assert peer.ended
    assert left() == []


@pytest.mark.parametrize("handler", [function, words, waiting])
def test_of_a_datagram(handler):
    with testing.datagrams(handler) as client:
        client.send(b"a")
        client.send(b"b")
        assert left() == []
