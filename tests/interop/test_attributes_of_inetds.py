# SPDX-License-Identifier: MIT
"""Every attribute of xinetd.conf(5) and every field of inetd(8) stands in docs/migrating-from-inetd.md: what it became.

The names are those of the manual pages of the real packages, as tests/interop/install unpacks them.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNPACKED = ROOT / "build" / "interop"
TABLES = (ROOT / "docs" / "migrating-from-inetd.md").read_text()
NO_ATTRIBUTES = {"a", "b", "c", "d", "e"}
"""Of a list of kinds of addresses."""
ATTRIBUTE = re.compile(r"^\.TP[ 0-9]*\n\.B +\"?([A-Za-z_0-9/]+)", re.MULTILINE)
FIELDS = re.compile(r"^\.Bd -unfilled -offset indent\n(service name.*?)^\.Ed", re.MULTILINE | re.DOTALL)
OPTIONAL = re.compile(r"\[[.,]([a-z]+(?:=size)?)\]")


def page(package, name):
    found = [*UNPACKED.glob(f"{package}/usr/share/man/man*/{name}.gz")]
    if not found:
        pytest.skip(f"the manual page {name} of package {package} is missing")
    return gzip.decompress(found[0].read_bytes()).decode()


def first_column(head):
    """The names in the first column of a table."""
    rows = TABLES.partition(head)[2].split("\n\n")[0].splitlines()[1:]
    codes = [code for row in rows for code in re.findall("`([^`]+)`", row.split(" | ")[0])]
    return {name for code in codes for name in (code, *code.split("/"))}


def test_every_attribute_of_xinetd():
    names = {*ATTRIBUTE.findall(page("xinetd", "xinetd.conf.5"))} - NO_ATTRIBUTES
    assert len(names) >= 60
    assert names - first_column("| xinetd.conf | sockd.toml |") == set()


def test_every_field_of_inetd():
    blocks = FIELDS.findall(page("openbsd-inetd", "inetd.8"))
    assert len(blocks) == 2
    names = set()
    for line in "".join(blocks).splitlines():
        for name in line.split(" or "):
            optional = [] if name.startswith("user") else OPTIONAL.findall(name)
            names |= {OPTIONAL.sub("", name) if optional else name, *optional}
    assert names - first_column("| inetd.conf | sockd.toml |") == set()
