# SPDX-License-Identifier: MIT
"""`sockctl top`: the current state of the daemon as a table that is redrawn (needs the extra `sockd[top]`: rich).

All data comes from the control socket; rates are differences between two replies, by the daemon's own clock. The time
of a reply shows how long the event loop keeps clients waiting.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from sockd.cli.render import TIMES, bound, duration, handler_times, printable_answer, queue, refused, size
from sockd.cli.verbs.top_keys import TopView, keyboard, wait_for_keys
from sockd.errors import UsageError
from sockd.values import dataclass
from sockd.wire.control import as_object, as_objects

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType
    from rich.table import Table

    from sockd.wire.control import JsonObject

    Row = JsonObject

OWN_LINES = 12
"""Lines of the screen that are not table rows."""
FEWEST_ROWS = 3


@dataclass(frozen=True)
class TopSample:
    """One sample: the status, the connections, and the seconds until the reply."""

    status: Row
    connections: list[Row]
    seconds: float


def run(ask: Callable[[str], object], *, interval: float, times: int | None = None) -> None:
    """Redraw until Ctrl-C or `q`, or that many times; keys are those of sockd.cli.verbs.top_keys.

    Args:
        ask: sends the daemon a request without arguments.
        interval: seconds between two samples.
        times: None for ever.

    Raises:
        UsageError: rich is not installed.
        SockdError: the daemon does not reply.
    """
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        raise UsageError("top requires the package rich: pip install rich, or apt-get install python3-rich") from None
    console, view = Console(), TopView()
    before = _look(ask)
    with keyboard() as keys, Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        count, show = 0, partial(_screen, before, before)
        while times is None or count < times:
            due = time.monotonic() + interval
            while (left := due - time.monotonic()) > 0:
                if wait_for_keys(keys, view, left):
                    live.update(show(console.height, view), refresh=True)
                if view.is_over:
                    return
            now = _look(ask)
            show = partial(_screen, before, now)
            live.update(show(console.height, view), refresh=True)
            before = now
            count += 1


def _look(ask: Callable[[str], object]) -> TopSample:
    began = time.monotonic()
    status = as_object(printable_answer(ask("status")))
    seconds = time.monotonic() - began
    rows = as_objects(printable_answer(ask("connections")))
    return TopSample(status, [row for row in rows if "id" in row], seconds)  # the others are programs


def _screen(before: TopSample, now: TopSample, height: int, view: TopView) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    status = now.status
    seconds = max(status["seconds"] - before.status["seconds"], 0.001)
    head = f"sockd {status['version']}  pid {status['pid']}  {status['state']}  up {duration(status['seconds'])}"
    load = f"{status['connections']} connections  {size(status['memory'])} buffered"
    load += f"  answered in {now.seconds * 1000:.1f} ms"
    last = status["reload"]
    note = Text("reload failed; see sockctl status", style="bold red") if last and not last["ok"] else Text("")
    room = max(0, height - OWN_LINES - FEWEST_ROWS)
    services = _services(before, now, seconds, view, max(1, room // 2))
    listeners = _listeners(before, now, seconds, view, max(1, room - services.row_count))
    left = height - OWN_LINES - services.row_count - listeners.row_count
    connections = _connections(before, now, seconds, max(FEWEST_ROWS, left), view)
    keys = Text(view.help, style="dim", no_wrap=True, overflow="ellipsis")
    gap = Text("")
    return Group(Text(head, style="bold"), Text(load), note, listeners, gap, services, gap, connections, keys)


def _table(*heads: str) -> Table:
    from rich import box
    from rich.table import Table

    # 80 columns have to do
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0), expand=True)
    for head in heads:
        is_text = head in ("LISTENER", "SERVICE", "PEER", "THROUGH")
        width = None if is_text else len(head)  # else rich would cut the numbers to show whole names
        table.add_column(
            head, justify="left" if is_text else "right", no_wrap=True, overflow="ellipsis", min_width=width
        )
    return table


def _add(table: Table, *cells: str) -> None:
    """Add a row of plain texts: rich would take `[::1]` for markup."""
    from rich.text import Text

    table.add_row(*map(Text, cells))


def _listeners(before: TopSample, now: TopSample, seconds: float, view: TopView, limit: int) -> Table:
    mark = bound(now.status)
    table = _table("LISTENER", "SERVICE", "ACCEPTED/S", "REFUSED/S", "OPEN", "PEAK" + mark, "QUEUE", "OVERFLOWS")
    former = {row["address"]: row for row in before.status["listeners"]}
    rows = [row for row in now.status["listeners"] if view.shows(row["address"], row["service"])]
    for row in rows[: limit - (len(rows) > limit)]:
        was = former.get(row["address"], {"accepted": 0})
        rate = (row["accepted"] - was["accepted"]) / seconds
        turned_away = (sum(row.get("refused", {}).values()) - sum(was.get("refused", {}).values())) / seconds
        is_open = (str(row.get("open", "-")), str(row.get("peak", "-")))
        overflows = str((row.get("queue") or {}).get("overflows", "-"))
        rates = (f"{rate:.1f}", f"{turned_away:.1f}")
        _add(table, row["address"], row["service"], *rates, *is_open, queue(row), overflows)
    _add_rest(table, len(rows) - limit + 1 if len(rows) > limit else 0)
    return table


def _services(before: TopSample, now: TopSample, seconds: float, view: TopView, limit: int) -> Table:
    table = _table("SERVICE", "OPEN", "REFUSED", "ERRORS", "FRAMES/S", "RECEIVED/S", "SENT/S", "UNSENT", *TIMES)
    rows = [(name, row) for name, row in now.status["services"].items() if view.shows(name)]
    for name, row in rows[: limit - (len(rows) > limit)]:
        former = before.status["services"].get(name, dict.fromkeys(row, 0))
        frames, received, sent = ((row[key] - former[key]) / seconds for key in ("frames", "received", "sent"))
        _add(
            table,
            name,
            str(row["open"]),
            str(refused(row)),
            str(row["errors"]),
            f"{frames:.1f}",
            size(received),
            size(sent),
            size(row["output_pending_bytes"]),
            *handler_times(row),
        )
    _add_rest(table, len(rows) - limit + 1 if len(rows) > limit else 0)
    return table


def _add_rest(table: Table, more: int) -> None:
    """Say how many rows there is no room for."""
    if more > 0:
        _add(table, f"... {more} more", *[""] * (len(table.columns) - 1))


def _connections(before: TopSample, now: TopSample, seconds: float, limit: int, view: TopView) -> Table:
    """Show connections, in the order that was chosen."""
    former = {(row["id"], row["peer"]): row for row in before.connections}

    def rate(row: Row, key: str) -> float:
        was: float = former.get((row["id"], row["peer"]), row)[key]
        return float(row[key] - was) / seconds

    orders: dict[str, Callable[[Row], object]] = {
        "traffic": lambda row: (rate(row, "received") + rate(row, "sent"), row["output_pending_bytes"]),
        "frames": lambda row: rate(row, "frames"),
        "unsent": lambda row: row["output_pending_bytes"],
        "idle": lambda row: row["idle_seconds"] or 0.0,
        "age": lambda row: row["seconds"],
        "peer": lambda row: row["peer"],
    }
    table = _table("PEER", "SERVICE", "AGE", "IDLE", "FRAMES/S", "RECEIVED/S", "SENT/S", "UNSENT")
    rows = [row for row in now.connections if view.shows(row["peer"], row["service"])]
    rows.sort(key=orders[view.sort], reverse=view.sort != "peer")  # type: ignore[arg-type]  # each order has one type
    for row in rows[:limit]:
        rates = (f"{rate(row, 'frames'):.1f}", size(rate(row, "received")), size(rate(row, "sent")))
        idle = "-" if row["idle_seconds"] is None else duration(row["idle_seconds"])
        times = duration(row["seconds"]), idle
        _add(table, row["peer"], row["service"], *times, *rates, size(row["output_pending_bytes"]))
    return table


__all__ = ["run"]
