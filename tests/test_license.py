# SPDX-License-Identifier: MIT
"""The licence is stated once in words and once in each source file, and the version stands in one place.

Seen failing with a file without its line, and with another version in the Kubernetes example.
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import metadata, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINE = "SPDX-License-Identifier: MIT"
SOURCES = {".py", ".pyi", ".c", ".h", ".html"}
PLACES = ("sockd", "tests", "bench", "examples", "packaging")
"""csrc has a test of its own (tests/test_csrc.py or csrc/Makefile); data of tests has no licence line."""

pytestmark = pytest.mark.skipif(not (ROOT / "LICENSE").exists(), reason="the tests stand alone, without a checkout")


def is_source(path: Path) -> bool:
    if path.suffix in SOURCES or path.name == "Makefile":
        return True
    return not path.suffix and path.is_file() and path.read_bytes()[:2] == b"#!"


def sources() -> list[Path]:
    found = [path for place in PLACES for path in (ROOT / place).rglob("*") if is_source(path)]
    found += [ROOT / "setup.py", ROOT / "Makefile", ROOT / ".ci" / "run"]
    return [path for path in found if not {"build", "__pycache__"} & set(path.relative_to(ROOT).parts)]


def test_each_source_file_says_its_licence():
    assert len(sources()) > 400
    missing = [
        str(path.relative_to(ROOT))
        for path in sources()
        if LINE not in "".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:3])
    ]
    assert missing == []


def test_the_installed_package_says_its_licence():
    assert metadata("sockd")["License-Expression"] == "MIT"
    files = metadata("sockd").get_all("License-File")
    assert files == ["LICENSE"]


def test_the_version_comes_from_one_place():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version("sockd") == declared
    image = re.search(r"image: \S+/sockd:(\S+)", (ROOT / "packaging/kubernetes/sockd.yaml").read_text())
    assert image
    assert image[1] == declared
    top = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert top
    assert top[1] == declared


def test_no_module_has_a_version_of_its_own():
    declared = version("sockd")
    for path in (ROOT / "sockd").rglob("*.py"):
        assert f'"{declared}"' not in path.read_text(encoding="utf-8"), path
