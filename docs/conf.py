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
suppress_warnings = ["myst.header", "misc.highlighting_failure"]
