# SPDX-License-Identifier: MIT
"""Rounds of figures in, tables for people out. Ratios are taken round by round, then their median."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from scenarios import CEILING, MODEL, PEERS, RIVAL, SUPERSERVERS, IdleMemory, Programs, Redis, Scenario, Trickle

Round = dict[str, float]  # one peer's figures of one round, as its generator prints them
Figures = Mapping[str, Sequence[Round]]  # by peer
Table = list[list[str]]  # the first row has the heads of the columns, the first column the peers

FULL = 0.97  # CPU share from which a side is the limit
BUSY = 0.85  # both sides below it: something else had the cores
NOTES = {
    "*": "* the generator was the limit, not this server: compare us each (server CPU), not the rate",
    "?": "? neither side had its core to itself: the machine was busy, measure again",
}


def rate(row: Round) -> float:
    return row["per_second"]


def cost_us(row: Round) -> float:
    """Server CPU for each reply, line, visit or request, in microseconds."""
    return row["cpu_us"] if "cpu_us" in row else row["server_cpu"] / row["per_second"] * 1e6


def ratios(value: Callable[[Round], float], peer: Sequence[Round], other: Sequence[Round]) -> list[float]:
    """`peer` against `other`, each round against the same round."""
    pairs = {row["round"]: value(row) for row in other}
    return [value(row) / pairs[row["round"]] for row in peer if row["round"] in pairs]


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


def table(scenario: Scenario, figures: Figures) -> tuple[Table, list[str]]:
    """The table of a scenario and what its marks mean."""
    measured = {name: rows for name, rows in figures.items() if rows}
    if isinstance(scenario, IdleMemory):
        return memory_table(measured), []
    if isinstance(scenario, Trickle):
        return trickle_table(measured), []
    if isinstance(scenario, Programs):
        return rate_table(measured, SUPERSERVERS)
    return rate_table(measured, (CEILING, MODEL if isinstance(scenario, Redis) else RIVAL))


def rate_table(figures: Figures, rivals: tuple[str, str]) -> tuple[Table, list[str]]:
    """One row a peer: what it did, against the ceiling and the rival, and who had CPU to spare."""
    others = [(other, PEERS[other].label) for other in rivals]
    percentiles = [key for key in ("p50_us", "p99_us", "p99_9_us") if all(key in row[0] for row in figures.values())]
    head = ["", "per second", *(f"x {label}" for _, label in others)]
    head += [key[: -len("_us")].replace("_", ".") + " us" for key in percentiles]
    cells = [[*head, "server CPU", "us each", *(f"us x {label}" for _, label in others), "generator CPU"]]
    marks = set()
    for name, rows in figures.items():
        middle = medians(rows)
        mark = doubt(middle)
        marks.add(mark)
        row = [f"{PEERS[name].label} {mark}".rstrip(), f"{middle['per_second']:,.0f}"]
        row += [spread(ratios(rate, rows, figures.get(other, []))) for other, _ in others]
        row += [f"{middle[key]:,.0f}" for key in percentiles]
        row += [f"{middle['server_cpu']:.2f}", f"{median(map(cost_us, rows)):.3g}"]
        row += [spread(ratios(cost_us, rows, figures.get(other, []))) for other, _ in others]
        cells.append([*row, f"{middle['generator_cpu']:.2f}"])
    return cells, [NOTES[mark] for mark in sorted(marks - {""})]


def memory_table(figures: Figures) -> Table:
    """One row a peer: what each connection added, and the whole process before and after."""
    cells = [["", "bytes/connection", "empty, MiB", "with them, MiB"]]
    for name, rows in figures.items():
        middle = medians(rows)
        sizes = [f"{middle[key] / 2**20:.1f}" for key in ("rss_before", "rss_after")]
        cells.append([PEERS[name].label, f"{middle['bytes_per_connection']:,.0f}", *sizes])
    return cells


def trickle_table(figures: Figures) -> Table:
    """One row a peer: seconds for both lines, and how much longer the second took (O(n): 2)."""
    cells = [["", "s", "s, twice as long", "x", "server CPU s", "server CPU s, twice", "x"]]
    for name, rows in figures.items():
        row = [PEERS[name].label]
        for clock in ("wall", "cpu"):
            once, twice = f"{clock}_s", f"{clock}_twice_s"
            row += [f"{median(one[key] for one in rows):.2f}" for key in (once, twice)]
            row.append(spread([one[twice] / one[once] for one in rows]))
        cells.append(row)
    return cells


def aligned(cells: Table) -> str:
    """Columns as wide as their widest cell; the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells
    )


def markdown(cells: Table) -> str:
    """The same as a table of a document."""
    rule = "|---|" + "---:|" * (len(cells[0]) - 1)
    head, *rows = ("| " + " | ".join(row) + " |" for row in cells)
    return "\n".join([head, rule, *rows])
