"""Rounds of figures in, tables for people out. Ratios are taken round by round, then their median."""

from collections.abc import Sequence
from statistics import median

from scenarios import CEILING, PEERS, RIVAL

Round = dict[str, float]  # one peer's figures of one round, as loadgen prints them

FULL = 0.97  # CPU share from which a side is the limit
BUSY = 0.85  # both sides below it: something else had the cores
NOTES = {
    "*": "the generator was the limit, not this server: compare us/reply (server CPU), not replies/s",
    "?": "neither side had its core to itself: the machine was busy, measure again",
}


def ratios(peer: Sequence[Round], other: Sequence[Round]) -> list[float]:
    """`peer` against `other`, each round against the same round."""
    pairs = {row["round"]: row["replies_per_second"] for row in other}
    return [row["replies_per_second"] / pairs[row["round"]] for row in peer if row["round"] in pairs]


def spread(values: Sequence[float]) -> str:
    """Median, with the range when there is one: "0.98 (0.91-1.04)"."""
    if not values:
        return "-"
    text = f"{median(values):.2f}"
    return text if len(values) == 1 else f"{text} ({min(values):.2f}-{max(values):.2f})"


def doubt(middle: Round) -> str:
    """The mark of a row that does not measure the server; empty for one that does."""
    server, generator = middle["server_cpu"], middle["generator_cpu"]
    if generator >= FULL > server:
        return "*"
    return "?" if max(server, generator) < BUSY else ""


def medians(rows: Sequence[Round]) -> Round:
    return {key: median(row[key] for row in rows) for key in rows[0]}


def load_table(figures: dict[str, list[Round]]) -> str:
    """One row a peer: what it did, against the ceiling and the rival, and who had CPU to spare."""
    head = ["", "replies/s", "x plain C", "x uvloop Protocol", "p50 us", "p99 us", "p99.9 us"]
    table = [[*head, "server CPU", "us/reply", "generator CPU"]]
    marks = set()
    for name, rows in figures.items():
        if not rows:
            continue
        middle = medians(rows)
        mark = doubt(middle)
        marks.add(mark)
        cost_us = median(row["server_cpu"] / row["replies_per_second"] * 1e6 for row in rows)
        cells = [f"{PEERS[name].label} {mark}".rstrip(), f"{middle['replies_per_second']:,.0f}"]
        cells += [spread(ratios(rows, figures.get(other, []))) for other in (CEILING, RIVAL)]
        cells += [f"{middle[key]:,.0f}" for key in ("p50_us", "p99_us", "p99_9_us")]
        cells += [f"{middle['server_cpu']:.2f}", f"{cost_us:.2f}", f"{middle['generator_cpu']:.2f}"]
        table.append(cells)
    return "\n".join([aligned(table), *(f"{mark} {NOTES[mark]}" for mark in sorted(marks - {""}))])


def memory_table(figures: dict[str, list[Round]]) -> str:
    """One row a peer: what each connection added, and the whole process before and after."""
    table = [["", "bytes/connection", "empty, MiB", "with them, MiB"]]
    for name, rows in figures.items():
        if not rows:
            continue
        middle = medians(rows)
        sizes = [f"{middle[key] / 2**20:.1f}" for key in ("rss_before", "rss_after")]
        table.append([PEERS[name].label, f"{middle['bytes_per_connection']:,.0f}", *sizes])
    return aligned(table)


def aligned(table: list[list[str]]) -> str:
    """Columns as wide as their widest cell; the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in table
    )
