# SPDX-License-Identifier: MIT
"""The site made of these pages: `make docs`, then build/site/index.html."""

import tomllib
from pathlib import Path

project = "sockd"
copyright = "The sockd authors, MIT licence"
version = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["version"]
extensions = ["myst_parser"]
html_theme = "alabaster"
html_theme_options = {"description": "Small network services on Unix", "page_width": "1100px", "fixed_sidebar": True}
html_show_sphinx = False
myst_heading_anchors = 3
exclude_patterns: list[str] = []
suppress_warnings = ["config.cache", "myst.header", "misc.highlighting_failure"]


def with_other_pages(_app, name, source):
    """Put the pages that no list of the index names into one more list."""
    if name == "index":
        pages = sorted(path.stem for path in Path(__file__).parent.glob("*.md"))
        others = [page for page in pages if page != "index" and f"\n{page}\n" not in source[0]]
        if others:
            source[0] += "\n```{toctree}\n:caption: More\n:maxdepth: 1\n\n" + "\n".join(others) + "\n```\n"


def setup(app):
    app.connect("source-read", with_other_pages)
