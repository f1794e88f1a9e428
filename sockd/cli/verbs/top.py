# SPDX-License-Identifier: MIT
"""`sockctl top`: the current state of the daemon as a table that is redrawn (needs the extra `sockd[top]`: rich).

All data comes from the control socket; rates are differences between two replies, by the daemon's own clock. The time
of a reply shows how long the event loop keeps clients waiting.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sockd.cli.render import TIMES, bound, duration, handler_times, printable_answer, queue, refused, size
from sockd.errors import UsageError
from sockd.values import dataclass
from sockd.wire.control import as_object, as_objects

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType
    from rich.table import Table

    from sockd.wire.control import JsonObject

    Row = JsonObject

OWN_LINES = 10
"""Lines of the screen that are not table rows."""
FEWEST_ROWS = 3


@dataclass(frozen=True)
class TopSample:
    """One sample: the status, the connections, and the seconds until the reply."""

    status: Row
    connections: list[Row]
    seconds: float


def run(ask: Callable[[str], object], *, interval: float, times: int | None = None) -> None:
    """Redraw until Ctrl-C, or that many times.

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
        raise UsageError("top requires the package rich; install sockd[top]") from None
    console = Console()
    before = _look(ask)
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        count = 0
        while times is None or count < times:
            time.sleep(interval)  # nothing else is waited for
            now = _look(ask)
            live.update(_screen(before, now, console.height), refresh=True)
            before = now
            count += 1


def _look(ask: Callable[[str], object]) -> TopSample:
    began = time.monotonic()
    status = as_object(printable_answer(ask("status")))
    seconds = time.monotonic() - began
    rows = as_objects(printable_answer(ask("connections")))
    return TopSample(status, [row for row in rows if "id" in row], seconds)  # the others are programs


def _screen(before: TopSample, now: TopSample, height: int) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    status = now.status
    seconds = max(status["seconds"] - before.status["seconds"], 0.001)
    head = f"sockd {status['version']}  pid {status['pid']}  {status['state']}  up {duration(status['seconds'])}"
    load = f"{status['connections']} connections  {size(status['memory'])} buffered"
    load += f"  answered in {now.seconds * 1000:.1f} ms"
    last = status["reload"]
    note = Text("reload failed; see sockctl status", style="bold red") if last and not last["ok"] else Text("")
    listeners, services = _listeners(before, now, seconds), _services(before, now, seconds)
    used = OWN_LINES + listeners.row_count + services.row_count
    connections = _connections(before, now, seconds, max(FEWEST_ROWS, height - used))
    return Group(Text(head, style="bold"), Text(load), note, listeners, services, connections)


def _table(*heads: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0), expand=True)  # 80 columns have to do
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


def _listeners(before: TopSample, now: TopSample, seconds: float) -> Table:
    mark = bound(now.status)
    table = _table("LISTENER", "SERVICE", "ACCEPTED/S", "REFUSED/S", "OPEN", "PEAK" + mark, "QUEUE", "OVERFLOWS")
    former = {row["address"]: row for row in before.status["listeners"]}
    for row in now.status["listeners"]:
        was = former.get(row["address"], {"accepted": 0})
        rate = (row["accepted"] - was["accepted"]) / seconds
        turned_away = (sum(row.get("refused", {}).values()) - sum(was.get("refused", {}).values())) / seconds
        is_open = (str(row.get("open", "-")), str(row.get("peak", "-")))
        overflows = str((row.get("queue") or {}).get("overflows", "-"))
        rates = (f"{rate:.1f}", f"{turned_away:.1f}")
        _add(table, row["address"], row["service"], *rates, *is_open, queue(row), overflows)
    return table


def _services(before: TopSample, now: TopSample, seconds: float) -> Table:
    table = _table("SERVICE", "OPEN", "REFUSED", "ERRORS", "FRAMES/S", "RECEIVED/S", "SENT/S", "UNSENT", *TIMES)
    for name, row in now.status["services"].items():
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
    return table


def _connections(before: TopSample, now: TopSample, seconds: float, limit: int) -> Table:
    """Show the connections with the most traffic."""
    former = {(row["id"], row["peer"]): row for row in before.connections}

    def rate(row: Row, key: str) -> float:
        was: float = former.get((row["id"], row["peer"]), row)[key]
        return float(row[key] - was) / seconds

    def moved(row: Row) -> tuple[float, float]:
        return rate(row, "received") + rate(row, "sent"), row["output_pending_bytes"]

    table = _table("PEER", "SERVICE", "AGE", "FRAMES/S", "RECEIVED/S", "SENT/S", "UNSENT")
    for row in sorted(now.connections, key=moved, reverse=True)[:limit]:
        rates = (f"{rate(row, 'frames'):.1f}", size(rate(row, "received")), size(rate(row, "sent")))
        _add(table, row["peer"], row["service"], duration(row["seconds"]), *rates, size(row["output_pending_bytes"]))
    return table


__all__ = ["run"]
