# SPDX-License-Identifier: MIT
VERSION: str  # written by setup.py, from pyproject.toml
