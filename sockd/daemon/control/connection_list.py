# SPDX-License-Identifier: MIT
"""`sockctl connections`: what is known of each connection, those that are asked for, in the order that is asked for.

A row costs 7 to 9 us, its place and its JSON as much again, so that 50,000 of them take most of a second.  All of that
is done in steps (sockd.net.loop.slices), of connections that are there at the first step; one that has ended since is
left out.
"""

from __future__ import annotations

import heapq
import sys
from itertools import chain, islice
from typing import TYPE_CHECKING

from sockd.errors import UsageError
from sockd.net.address.sockaddr import plain
from sockd.net.connection.info import ConnectionFilter
from sockd.settings.networks import read_network
from sockd.units import parse_duration
from sockd.values import dataclass
from sockd.wire.control import ControlResponse, EncodedRows, encode_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sockd.daemon.control.server import Deferred
    from sockd.daemon.listeners import ListenerRegistry
    from sockd.settings.networks import Network
    from sockd.wire.control import JsonObject

STATES = ("open", "closing", "connecting", "relayed")
SORTS = {
    "id": "id",
    "peer": "peer",
    "service": "service",
    "age": "seconds",
    "idle": "idle_seconds",
    "frames": "frames",
    "received": "received",
    "sent": "sent",
    "unsent": "output_pending_bytes",
}
"""What can be sorted by, and its key in a row."""
SMALLEST_FIRST = ("id", "peer", "service")
"""The others begin with the largest."""
SORTED_ROWS = 200
"""So many are sorted at once; what comes of that is merged."""


@dataclass(frozen=True)
class ConnectionQuery:
    """Which connections are asked for; times in seconds.

    Attributes:
        limit: rows at most; 0: all.
    """

    service: str = ""
    network: Network | None = None
    state: str = ""
    idle: float = 0.0
    older: float = 0.0
    sort: str = "id"
    limit: int = 0

    @classmethod
    def read(cls, words: JsonObject) -> ConnectionQuery:
        """Read the words of the verb; raises UsageError where one is wrong."""
        sort, state, limit = words.get("sort") or "id", words.get("state", ""), words.get("limit", 0)
        if sort not in SORTS:
            raise UsageError(f"{sort}: cannot sort by that; known: {', '.join(SORTS)}")
        if state and state not in STATES:
            raise UsageError(f"{state} is no state; known: {', '.join(STATES)}")
        if limit < 0:
            raise UsageError(f"limit {limit}: must be 0 or more")
        idle, older = (_seconds(words.get(word, "")) for word in ("idle", "older"))
        return cls(words.get("service", ""), _network(words.get("network", "")), state, idle, older, sort, limit)

    def wants(self, row: JsonObject, host: str) -> bool:
        """Tell whether a connection is asked for."""
        if self.network is not None:
            address = plain(host) if host else None
            if address is None or address.version != self.network.version or address not in self.network:
                return False
        return (
            self.service in ("", row["service"])
            and self.state in ("", row.get("state"))
            and (not self.idle or (row.get("idle_seconds") or 0) >= self.idle)
            and row["seconds"] >= self.older
        )

    def _place(self, row: JsonObject) -> tuple[int, object]:
        """Return what rows are sorted by: programs are the last ones, behind those of which the key is not known."""
        value = row.get(SORTS[self.sort])
        if "id" not in row or value is None:  # such as the id of a relayed one
            return (1 if "id" in row else 2), 0
        return 0, value if self.sort in SMALLEST_FIRST else -value

    def arrange(self, rows: Iterable[JsonObject]) -> list[JsonObject]:
        """Sort some rows, and return as many as are wanted."""
        found = sorted(rows, key=self._place)
        return found[: self.limit] if self.limit else found

    def merge(self, runs: Sequence[list[JsonObject]]) -> Iterator[JsonObject]:
        """Yield as many rows as are wanted of those that were arranged, of one process or of many."""
        return islice(heapq.merge(*runs, key=self._place), min(self.limit, sys.maxsize) or None)

    def programs(self, serving: ListenerRegistry) -> list[JsonObject]:
        """Return a row, without `id`, for each program of this process that is asked for."""
        return [row for row in serving.tools.executor.rows() if self.wants(row, "")]


def _network(text: str) -> Network | None:
    try:
        return read_network(text) if text else None
    except ValueError as error:
        raise UsageError(f"{text} {error}") from None


def _seconds(text: str) -> float:
    try:
        return float(parse_duration(text)) if text else 0.0
    except ValueError as error:
        raise UsageError(f"{text}: {error}") from None


def list_connections(serving: ListenerRegistry, query: ConnectionQuery) -> Iterator[JsonObject | None]:
    """Yield a row for each connection and each program of this process; None for one that is not asked for."""
    for row, host in chain(_table_rows(serving), _pair_rows(serving)):
        yield row if query.wants(row, host) else None
    yield from query.programs(serving)


def answer_in_steps(serving: ListenerRegistry, query: ConnectionQuery, answer: Deferred) -> Iterator[None]:
    """Answer with the connections of this process, in steps."""
    runs: list[list[JsonObject]] = []
    rows: list[JsonObject] = []
    for row in list_connections(serving, query):
        if row is not None:
            rows.append(row)
        if len(rows) >= SORTED_ROWS:
            runs.append(query.arrange(rows))
            rows = []
        yield
    yield from encode_in_steps(query, [*runs, query.arrange(rows)], answer)


def encode_in_steps(
    query: ConnectionQuery, runs: Sequence[list[JsonObject]], answer: Deferred, notes: tuple[str, ...] = ()
) -> Iterator[None]:
    """Answer with rows that were arranged, in steps."""
    encoded = []
    for row in query.merge(runs):
        encoded.append(encode_row(row))
        yield
    answer.resolve(ControlResponse(EncodedRows(encoded), notes=notes))


def _table_rows(serving: ListenerRegistry) -> Iterator[tuple[JsonObject, str]]:
    connections = serving.tools.connections
    for id in connections.groups.ids(ConnectionFilter.LIVE):
        try:
            info = connections.info(id)
        except LookupError:  # it has ended since the first step
            continue
        peer = connections.peers.find(id, info)
        served = serving.find_by_group(info.group)
        row: JsonObject = {
            "id": id,
            "peer": str(peer),
            "service": served.run.spec.name if served else "",
            "listener": str(served) if served else "",
            "state": "open" if info.open else "closing",
            "frames": info.frames,
            "received": info.received,
            "sent": info.sent,
            "output_pending_bytes": info.output_pending_bytes,
            "input_pending_bytes": info.input_pending_bytes,
            "seconds": round(info.elapsed, 3),
            "idle_seconds": round(info.idle, 3),
        }
        if name := connections.find_name(peer.host):
            row["name"] = name
        if (stream := connections.tls.find(id)) is not None:
            row["tls"] = stream.ssl_object.version()
        yield row, peer.host


def _pair_rows(serving: ListenerRegistry) -> Iterator[tuple[JsonObject, str]]:
    """Yield the clients of relays and SOCKS servers, which have no row in the table, and so no id."""
    for service, client in serving.tools.forwarding.clients():
        (received, sent), peer = client.moved, client.peer
        row: JsonObject = {
            "id": None,
            "peer": str(peer),
            "service": service,
            "listener": "",
            "state": "relayed" if client.destination else "connecting",
            "frames": 0,
            "received": received,
            "sent": sent,
            "output_pending_bytes": 0,
            "input_pending_bytes": 0,
            "seconds": round(max(0.0, serving.tools.loop.clock() - client.began), 3),
            "idle_seconds": None,
        }
        row |= {"destination": client.destination} if client.destination else {}
        row |= {"user": client.user} if client.user else {}
        yield row, peer.host


__all__ = ["ConnectionQuery", "answer_in_steps", "encode_in_steps", "list_connections"]
