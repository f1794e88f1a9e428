# SPDX-License-Identifier: MIT
"""Figures of a run into docs/performance.md and docs/performance.svg.

    python bench/run.py --json figures.json && python bench/publish.py figures.json

Only what stands between the two marks of performance.md is written; the words around it are a person's.
"""

import json
import sys
from html import escape
from pathlib import Path
from statistics import median

from report import Figures, cost_us, doubt, markdown, medians, rate, ratios, table
from scenarios import CEILING, PEERS, SCENARIOS, IdleMemory, Trickle

DOCS = Path(__file__).parent.parent / "docs"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
CHARTED = {
    "sockd": "#0b6e4f",
    "sockd-builtin": "#7fb69e",
    "uvloop-protocol": "#1f4e8c",
    "asyncio-protocol": "#6f94c4",
    "uvloop-streams": "#a9bfdc",
    "libevent": "#8a8a8a",
    "go": "#b5b5b5",
    "twisted": "#d6d6d6",
}
LEFT, WIDTH, BAR, GAP, HEAD = 150, 560, 9, 14, 64
TITLE = "Replies per second, plain C epoll = 1"
STYLE = "<style>text{font:11px sans-serif;fill:#222}.n{font-size:10px}.s{text-anchor:end}</style>"
FULL = 1.25
"""The ratio at the right edge; a longer bar ends there, its number tells."""


def tables(document: dict) -> str:
    """All tables, each under its scenario's title."""
    machine = document["machine"]
    parts = [
        f"{document['rounds']} rounds of {document['seconds']:g} s, {machine['cores']} cores, "
        f"CPython {machine['python']}, {machine['system']}."
    ]
    for name, figures in document["figures"].items():
        cells, notes = table(SCENARIOS[name], figures)
        parts += [f"### {name}: {SCENARIOS[name].title}", markdown(cells)]
        parts += [f"`{note[0]}`{note[1:]}" for note in notes]
    if document["left_out"]:
        parts.append("Left out: " + "; ".join(f"{name} ({why})" for name, why in document["left_out"].items()) + ".")
    return "\n\n".join(parts)


def ratio_to_ceiling(figures: Figures, peer: str) -> float | None:
    """How much of the ceiling a peer reached; by its processor time where the generator was the limit."""
    if not figures.get(peer) or not figures.get(CEILING):
        return None
    if doubt(medians(figures[peer])) == "*":
        return 1 / median(ratios(cost_us, figures[peer], figures[CEILING]))
    return median(ratios(rate, figures[peer], figures[CEILING]))


def bars(y: int, figures: Figures) -> tuple[list[str], int]:
    """The bars of one scenario from y on, and where they end."""
    drawn = []
    for peer, colour in CHARTED.items():
        ratio = ratio_to_ceiling(figures, peer)
        if ratio is None:
            continue
        length = min(ratio, FULL) / FULL * WIDTH
        drawn.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>')
        drawn.append(f'<text x="{LEFT + length + 4:.1f}" y="{y + BAR - 1}" class="n">{ratio:.2f}</text>')
        y += BAR + 2
    return drawn, y


def chart(document: dict) -> str:
    """Every scenario that has a rate, as parts of what plain C did in the same rounds."""
    parts, y = [], HEAD
    for name, figures in document["figures"].items():
        if isinstance(SCENARIOS[name], IdleMemory | Trickle):
            continue
        drawn, end = bars(y, figures)
        parts.append(f'<text x="{LEFT - 8}" y="{(y + end) // 2 + 3}" class="s">{escape(name)}</text>')
        parts += drawn
        y = end + GAP
    one = LEFT + WIDTH / FULL
    ends = f'x1="{one:.1f}" y1="{HEAD - 6}" x2="{one:.1f}" y2="{y - GAP}"'
    parts.append(f'<line {ends} stroke="#444" stroke-dasharray="3 3"/>')
    parts.append(f'<text x="{one:.1f}" y="{HEAD - 10}" class="n" text-anchor="middle">plain C epoll = 1</text>')
    for i, (peer, colour) in enumerate(CHARTED.items()):
        x, row = LEFT + i % 4 * 160, 8 + i // 4 * 16
        parts.append(f'<rect x="{x}" y="{row}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 15}" y="{row + 9}" class="n">{escape(PEERS[peer].label)}</text>')
    size = f'viewBox="0 0 {LEFT + WIDTH + 60} {y}"'
    head = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">', f"<title>{TITLE}</title>", STYLE]
    return "\n".join([*head, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>\n"])


def main() -> int:
    document = json.loads(Path(sys.argv[1]).read_text())
    page = DOCS / "performance.md"
    before, _, rest = page.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{tables(document)}\n\n{END}{after}")
    (DOCS / "performance.svg").write_text(chart(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
