# SPDX-License-Identifier: MIT
"""Lists of many connections: others are served in between, whichever process has them.

Seen to fail: with all rows built, sorted and encoded at once, nothing else ran meanwhile; with a page of all.
"""

from __future__ import annotations

import json
import random
import selectors
import time
from types import SimpleNamespace

import pytest

from sockd.daemon.control.commands import ControlCommands
from sockd.daemon.control.connection_list import SORTS, ConnectionQuery
from sockd.daemon.workers.connection_pages import ConnectionPages
from sockd.net.address.sockaddr import SocketAddress
from sockd.net.connection.info import ConnectionInfo
from sockd.net.loop.loop import EventLoop
from sockd.wire.close_reason import CloseReason

COUNT = 10_000
GONE = range(0, COUNT, 100)
"""Ids of connections that have ended since they were listed."""


class Table:
    """A table of many connections."""

    def __init__(self, loop):
        self.groups = self.peers = self.tls = self.executor = self.forwarding = self
        self.tools = SimpleNamespace(connections=self, executor=self, forwarding=self, loop=loop)
        chance = random.Random(19)
        self._sent = [chance.randrange(100) for _ in range(COUNT)]

    def ids(self, _which):
        return list(range(COUNT))

    def info(self, id):
        if id in GONE:
            raise LookupError(id)
        return ConnectionInfo(
            fd=id, group=0, open=True, reason=CloseReason.EOF, error=0, received=1, sent=self._sent[id], frames=1,
            output_pending_bytes=0, input_pending_bytes=0, elapsed=1.0, idle=1.0, peer=b"",
        )  # fmt: skip

    def find(self, id, info=None):
        return SocketAddress.parse("192.0.2.1", 1 + id) if info else None

    def find_by_group(self, _group):
        return None

    def find_name(self, _host):
        return ""

    def clients(self):
        return iter(())

    def rows(self):
        return [{"service": "program", "seconds": 1.0}]


@pytest.fixture
def loop():
    with selectors.DefaultSelector() as selector:
        one = EventLoop(selector, time.monotonic)
        yield one
        one.close()


WORDS = [{}, {"sort": "sent", "limit": 500}, {"network": "198.51.100.0/24"}]


def expected(rows, words):
    """What a list sorted at once is."""
    if words.get("network"):
        return []
    rows = [row for row in rows if row["id"] not in GONE] + [{"service": "program", "seconds": 1.0}]
    key = SORTS[words.get("sort", "id")]
    rows[:-1] = sorted(rows[:-1], key=lambda row: row[key], reverse=bool(words.get("sort")))
    return rows[: words["limit"]] if words.get("limit") else rows


def shown(rows):
    return [(row.get("id"), row.get("sent")) for row in rows]


@pytest.mark.parametrize("words", WORDS)
def test_others_are_served_while_a_long_list_is_made(loop, words):
    table = Table(loop)
    said = []
    ControlCommands(None, table, None, None, SimpleNamespace()).connections(words).then(said.append)
    turns = 0
    for _ in range(COUNT):
        if said:
            break
        loop.run_once(0)
        turns += 1
    rows = json.loads(said[0].encode())["result"]
    assert turns > 4
    everybody = [{"id": id, "sent": sent} for id, sent in enumerate(table._sent)]
    assert shown(rows) == shown(expected(everybody, words))


@pytest.mark.parametrize("words", WORDS)
def test_a_worker_is_asked_page_by_page(loop, words):
    table = Table(loop)
    pages, query, runs, number = ConnectionPages(table), ConnectionQuery.read(words), [], 0
    for _ in range(COUNT):
        page = pages.page({**words, "list": number})
        runs.append(page["rows"])
        number = page["list"]
        if not number:
            break
    assert len(runs) > 4
    assert max(map(len, runs)) < COUNT / 2
    everybody = [{"id": id, "sent": sent} for id, sent in enumerate(table._sent)]
    assert shown(query.merge(runs)) == shown(expected(everybody, words))


def test_a_list_that_nobody_asks_for_any_more_is_forgotten(loop):
    pages = ConnectionPages(Table(loop))
    first = pages.page({})["list"]
    for _ in range(100):
        last = pages.page({})["list"]
    with pytest.raises(KeyError):
        pages.page({"list": first})
    assert pages.page({"list": last})["list"] == last


def test_a_list_that_fails_is_an_error(loop, caplog):
    table = Table(loop)
    table.rows = lambda: 1 / 0
    said = []
    ControlCommands(None, table, None, None, SimpleNamespace()).connections({}).then(said.append)
    for _ in range(COUNT):
        if said:
            break
        loop.run_once(0)
    assert said[0].error == "connections: internal error, see the log"
    assert [record.getMessage() for record in caplog.records] == ["defect"]
