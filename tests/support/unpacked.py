# SPDX-License-Identifier: MIT
"""Programs of packages that exclude each other: unpacked by tests/interop/install, not installed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

UNPACKED = Path(__file__).parents[2] / "build" / "interop"


def program(name: str, package: str) -> str:
    """Return where a program is, unpacked or installed; without it the test is skipped."""
    directories = [UNPACKED / package / place for place in ("usr/sbin", "usr/bin")]
    found = shutil.which(name, path=os.pathsep.join(map(str, directories))) or shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name} (package {package})")
    return found
