# SPDX-License-Identifier: MIT
"""Replies of the daemon as text for people: tables that fit a terminal, numbers with units."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.log.escape import printable
from sockd.log.format import LEVELS
from sockd.units import format_duration
from sockd.wire.control import as_object, as_objects

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sockd.wire.control import JsonObject

    Table = JsonObject

CHANGES = ("deny", "allow", "limit", "rate", "target", "clear")
"""Verbs whose reply is an override."""
CONNECTION_EXTRAS = {"tls": "TLS", "user": "USER", "destination": "DESTINATION", "pid": "PID"}
"""Columns of connections that are there where one of these has it."""
LEVEL_NAMES = {number: name for name, number in LEVELS.items()}
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
STEP = 1024


def printable_answer(result: object) -> object:
    """Escape a reply's texts for a terminal: peers choose their names, and paths can be chosen by anyone."""
    if isinstance(result, str):
        return "\n".join(map(printable, result.split("\n")))
    if isinstance(result, list):
        return [printable_answer(one) for one in result]
    if isinstance(result, dict):
        return {printable(key): printable_answer(value) for key, value in result.items()}
    return result


def format_reply(verb: str, reply: object) -> str:
    """Write the reply to a verb, ended by a newline.

    Raises:
        TypeError, LookupError: it is not that of this verb.
    """
    if verb == "connections":
        return "\n".join(_connections(as_objects(reply))) + "\n"
    if verb == "overrides":
        return "\n".join(_overrides(as_objects(reply))) + "\n"
    if verb == "certificates":
        return "\n".join(_certificates(as_objects(reply))) + "\n"
    result = as_object(reply)
    if verb == "plan":
        return "\n".join(_changes(result)) + "\n"
    if verb == "reload":
        return "\n".join(["reloaded", *_changes(result["changes"])]) + "\n"
    if verb == "upgrade":
        return f"upgraded: process {result['pid']} is now serving\n{_moved(result)}\n"
    if "kind" in result and verb in (*CHANGES, "log-level"):
        return "\n".join(_overrides([result])) + "\n"
    if verb == "stop":
        return "stopped\n" if "stopped" in result else "stopping\n"
    if verb == "status":
        return "\n".join(_status(result)) + "\n"
    return "\n".join(f"{key.replace('_', ' ')} {_plain(value)}".rstrip() for key, value in result.items()) + "\n"


def _overrides(result: Sequence[Table]) -> Iterator[str]:
    if not result:
        yield "no overrides"
        return
    rows: list[Sequence[object]] = [("ID", "KIND", "SUBJECT", "VALUE", "UNTIL")]
    rows += [(one["id"], one["kind"], one["subject"], _value(one), one["until"] or "next reload") for one in result]
    yield from columns(rows, right=(0, 3))


def _value(one: Table) -> object:
    match one["kind"]:
        case "limit":
            return one["value"]
        case "rate" | "total-rate":
            interval = format_duration(one["per_seconds"])
            interval = interval[1:] if interval[1:].isalpha() else interval  # 100/s, and not 100/1s
            return f"{one['value']}/{interval}" if one["value"] else "off"
        case _:
            return LEVEL_NAMES.get(one["value"], "-")


def _certificates(result: Sequence[Table]) -> Iterator[str]:
    if not result:
        yield "no certificates: no listener uses TLS"
        return
    rows: list[Sequence[object]] = [("FILE", "ENDS IN", "UNTIL", "RENEWED", "LISTENERS")]
    for one in result:
        left = format_duration(one["seconds_left"]) if one["seconds_left"] else "expired"
        renewed = "reload to use it" if one["renewed"] else "-"
        rows.append((one["file"], left, one["until"] or "-", renewed, ", ".join(one["listeners"])))
    yield from columns(rows)


def _moved(result: Table) -> str:
    moved, stay = result["moved"], result["stay"]
    text = f"  {moved} connection{'s'[: moved != 1]} moved to it"
    return f"{text}, {stay} stay{'s'[: stay == 1]} in the old process" if stay else text


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is True else str(value)


def size(number: float) -> str:
    """Format a number of bytes for people: 1.5 MiB."""
    for unit in UNITS:
        if number < STEP or unit == UNITS[-1]:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 10 * STEP else f"{number:.1f} {unit}"
        number /= STEP
    raise AssertionError("unreachable")  # pragma: no cover


def duration(seconds: float) -> str:
    """Format a time for people: 3m20s."""
    return format_duration(round(seconds) if seconds >= 1 else round(seconds, 3))


def columns(rows: Iterable[Sequence[object]], right: Sequence[int] = ()) -> Iterator[str]:
    """Write rows in columns; those whose number is in `right` are right-aligned."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in texts) for i in range(len(texts[0]))] if texts else []
    for row in texts:
        cells = (
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def _status(result: Table) -> Iterator[str]:
    yield f"sockd {result['version']}, pid {result['pid']}, {result['state']} for {duration(result['seconds'])}"
    programs = f", {result['programs']} programs" if result["programs"] else ""
    connections = f"{result['connections']} connection{'s'[: result['connections'] != 1]}"
    yield f"{connections}{programs}, {size(result['memory'])} buffered"
    yield from _descriptors(result)
    yield from _last_reload(result)
    yield from _last_upgrade(result)
    yield ""
    yield from _listeners(result["listeners"], bound(result))
    for address in result["draining"]:
        yield f"{address}  draining"
    for absent in result.get("absent", ()):
        yield f"{absent['address']}  {absent['service']}: {_absent(absent)}"
    yield ""
    yield from _services(result["services"], bound(result))
    yield from _programs(result["running"])
    yield from _workers(result.get("workers", ()))


def _absent(row: Table) -> str:
    return f"not bound, tried again: {row['error']}" if row["error"] else "drained"


def _workers(workers: Sequence[Table]) -> Iterator[str]:
    if not workers:
        return
    yield ""
    rows: list[Sequence[object]] = [("WORKER", "PID", "AGE", "CONNECTIONS", "MEMORY", "STATE")]
    for one in workers:
        state = "serving" if one["accepts"] else "finishing"
        if not one["answers"]:
            state = f"does not answer: {one['stalled']}" if one["stalled"] else "does not answer"
        numbers = (one["worker"], one["pid"], duration(one["seconds"]), one["connections"], size(one["memory"]))
        rows.append((*numbers, state))
    yield from columns(rows, right=range(5))


def _programs(running: Sequence[Table]) -> Iterator[str]:
    if not running:
        return
    yield ""
    rows: list[Sequence[object]] = [("PROGRAM", "SERVICE", "CLIENT OR LISTENER", "AGE")]
    rows += (
        (one["pid"], one["service"], one.get("peer") or one.get("address"), duration(one["seconds"])) for one in running
    )
    yield from columns(rows, right=(0, 3))


def bound(status: Table) -> str:
    """Return what follows the name of a peak: with workers it is a bound, for each has had its own at another time."""
    return "<=" if status.get("workers") else ""


def _listeners(listeners: Sequence[Table], bound: str) -> Iterator[str]:
    head = ("LISTENER", "SERVICE", "ACCEPTED", "REFUSED", "OPEN", f"PEAK{bound}", "MAX", "QUEUE", "OVERFLOWS")
    rows: list[Sequence[object]] = [head]
    for row in listeners:
        own = (row["accepted"], refused(row), row.get("open", "-"), row.get("peak", "-"))
        limit = row.get("max_connections")
        overflows = (row.get("queue") or {}).get("overflows", "-")
        rows.append((row["address"], row["service"], *own, "-" if limit is None else limit, queue(row), overflows))
    yield from columns(rows, right=range(2, 9))
    for row in listeners:
        if row.get("refused"):
            yield f"{row['address']}  refused: {reasons(row['refused'])}"
        if "problem" in row:
            yield f"{row['address']}  {row['problem']}"


def _services(services: Table, bound: str) -> Iterator[str]:
    numbers = ("OPEN", f"PEAK{bound}", "MAX", "ACCEPTED", "REFUSED", "ERRORS", "FRAMES", "RECEIVED", "SENT", "UNSENT")
    rows: list[Sequence[object]] = [("SERVICE", *numbers, *TIMES, "CLOSED")]
    for name, one in services.items():
        limit = "-" if one["max_connections"] is None else one["max_connections"]
        connections = (one["open"], one["peak"], limit, one["accepted"], refused(one), one["errors"])
        traffic = (one["frames"], size(one["received"]), size(one["sent"]), size(one["output_pending_bytes"]))
        rows.append((name, *connections, *traffic, *handler_times(one), reasons(one["reasons"])))
    yield from columns(rows, right=range(1, 14))


TIMES = ("P50", "P99", "SLOWEST")
"""Columns of handler_times()."""


def handler_times(service: Table) -> tuple[str, str, str]:
    """Write how long the calls of a service's handler last; `-` where that is not measured."""
    known = service["handler_seconds"]
    if known is None:
        return "-", "-", "-"
    p50, p99, slowest = (_time(known[key]) for key in ("p50", "p99", "max"))
    return p50, p99, slowest


def _time(seconds: float) -> str:
    return (
        f"{seconds * 1e6:.0f}us" if seconds < 0.001 else f"{seconds * 1e3:.1f}ms" if seconds < 1 else f"{seconds:.1f}s"
    )


def refused(row: Table) -> int | str:
    """Return how many clients of a listener or service were not served; `-` for one of datagrams."""
    return sum(row["refused"].values()) if "refused" in row else "-"


def queue(listener: Table) -> str:
    """Write the length of a listener's accept queue and its limit."""
    found = listener.get("queue")
    return f"{found['length']}/{found['limit']}" if found else "-"


def reasons(counts: Table) -> str:
    """Write counts by their reason."""
    return ", ".join(f"{reason} {count}" for reason, count in counts.items())


def _descriptors(result: Table) -> Iterator[str]:
    held = ", ".join(f"{name} {count}" for name, count in result["descriptors"].items())
    waiting = "" if result["time_wait"] is None else f"; {result['time_wait']} TCP sockets of this host in TIME_WAIT"
    yield f"descriptors: {held or 'none'}{waiting}"


def _last_reload(result: Table) -> Iterator[str]:
    last, counts = result["reload"], result["reloads"]
    if last is None:
        yield "not reloaded yet"
    elif last["ok"]:
        yield f"reloaded {last['when']} ({counts['succeeded']} succeeded, {counts['failed']} failed)"
    else:
        yield f"reload failed {last['when']}; the previous configuration stays in effect:"
        for line in last["error"].splitlines():
            yield f"  {line}"


def _last_upgrade(result: Table) -> Iterator[str]:
    last, previous_processes = result["upgrade"], result["previous_processes"]
    if last is not None and not last["ok"]:
        yield f"upgrade failed {last['when']}; the old process keeps serving:"
        for line in last["error"].splitlines():
            yield f"  {line}"
    if previous_processes:
        text = "processes are still serving their" if previous_processes != 1 else "process is still serving its"
        yield f"{previous_processes} previous {text} connections"


def _connections(result: Sequence[Table]) -> Iterator[str]:
    heads = ("ID", "PEER", "SERVICE", "LISTENER", "STATE", "AGE", "IDLE", "FRAMES", "RECEIVED", "SENT")
    extra = [key for key in CONNECTION_EXTRAS if any(key in one for one in result if "id" in one)]
    rows: list[Sequence[object]] = [(*heads, "UNSENT", "UNPARSED", *(CONNECTION_EXTRAS[key] for key in extra))]
    for one in (row for row in result if "id" in row):
        numbers = (
            one["frames"],
            size(one["received"]),
            size(one["sent"]),
            size(one["output_pending_bytes"]),
            size(one["input_pending_bytes"]),
        )
        peer = f"{one['peer']} ({one['name']})" if "name" in one else one["peer"]
        idle = "-" if one["idle_seconds"] is None else duration(one["idle_seconds"])
        where = ("-" if one["id"] is None else one["id"], peer, one["service"], one["listener"] or "-", one["state"])
        rows.append((*where, duration(one["seconds"]), idle, *numbers, *(one.get(key, "-") for key in extra)))
    yield from columns(rows, right=(0, *range(5, 12)))
    yield from _programs([row for row in result if "id" not in row])


def _changes(result: Table) -> Iterator[str]:
    rows = [(f"  {word}", *row) for word in ("kept", "added", "removed") for row in result[word]]
    yield from columns(rows)
    for text in result["later"]:
        yield f"  at the next start  {text}"
    for text in result["impossible"]:
        yield f"  cannot be done     {text}"
    if not rows:
        yield "  no listeners"
