# SPDX-License-Identifier: MIT
"""The site made of these pages: `make docs`, then build/site/index.html."""

import re
import tomllib
from pathlib import Path

project = "sockd"
copyright = "The sockd authors, MIT licence"
version = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["version"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
autodoc_member_order = "bysource"
napoleon_use_rtype = False
napoleon_use_ivar = True
html_theme = "alabaster"
html_theme_options = {"description": "Small network services on Unix", "page_width": "1100px", "fixed_sidebar": True}
html_show_sphinx = False
myst_heading_anchors = 3
exclude_patterns: list[str] = []
suppress_warnings = ["config.cache", "myst.header", "misc.highlighting_failure"]


def linked(_app, _name, source):
    """Make links of the pages that a text names as files: `docs/tls.md`."""
    source[0] = re.sub(r"(?<!\[)`docs/([\w-]+\.md)`", r"[](\1)", source[0])


def with_other_pages(_app, name, source):
    """Put the pages that no list of the index names into one more list."""
    if name == "index":
        pages = sorted(path.stem for path in Path(__file__).parent.glob("*.md"))
        others = [page for page in pages if page != "index" and f"\n{page}\n" not in source[0]]
        if others:
            source[0] += "\n```{toctree}\n:caption: More\n:maxdepth: 1\n\n" + "\n".join(others) + "\n```\n"


def with_code_blocks(_app, _what, _name, _object, _options, lines):
    """Mark the indented parts of a docstring as code: those behind a blank line, which a section's are not."""
    for index in range(len(lines) - 1, 0, -1):
        begins = lines[index].startswith("    ") and not lines[index - 1].strip()
        before = next((line for line in reversed(lines[:index]) if line.strip()), "")
        if begins and not before.startswith("    "):
            lines[index:index] = [".. code-block:: python", ""]


def setup(app):
    app.connect("autodoc-process-docstring", with_code_blocks, priority=400)  # before sections are made fields
    app.connect("source-read", linked)
    app.connect("source-read", with_other_pages)
