# SPDX-License-Identifier: MIT
__version__: str
VERSION: str  # both written by setup.py, from pyproject.toml
