# SPDX-License-Identifier: MIT
"""What a reader copies is typed: Python blocks of README and docs/, and examples/, under mypy --strict and pyright.

A block stands for itself; a file that a page has written is a module of those behind it. Seen failing with 30 blocks as
they were: functions without types, names that only other blocks had.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import steps

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CHECKERS = {
    "mypy": ["--strict", "--python-executable", sys.executable],
    "pyright": ["--pythonpath", sys.executable],
}

pytestmark = pytest.mark.skipif(not PAGES[0].exists(), reason="the tests stand alone, without docs/")


def check(checker, paths, directory, cache):
    program = shutil.which(checker, path=os.path.dirname(sys.executable)) or shutil.which(checker)
    if program is None:
        pytest.skip(f"{checker} is not installed")
    done = subprocess.run(
        [program, *CHECKERS[checker], *paths],
        cwd=directory,
        env={**os.environ, "MYPY_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def blocks(page, directory):
    """Write the blocks of a page as files; the last text of a file that the page writes twice."""
    text = page.read_text()
    files = {Path(one.what).name: one.text for one in steps(text) if one.kind == "write" and one.what.endswith(".py")}
    others = [block for block in BLOCK.findall(text) if block not in files.values()]
    files |= {f"{page.stem}_{number}.py".replace("-", "_"): block for number, block in enumerate(others)}
    place = directory / page.stem.replace("-", "_")
    place.mkdir()
    for name, block in files.items():
        (place / name).write_text(block)
    return bool(files)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pages")
    return [directory / page.stem.replace("-", "_") for page in PAGES if blocks(page, directory)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """For mypy, which runs once for each page."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("checker", CHECKERS)
def test_the_blocks_of_the_pages(checker, written, cache):
    assert len(written) > 6
    if checker == "mypy":  # pages have modules of the same names
        for place in written:
            check(checker, sorted(path.name for path in place.glob("*.py")), place, cache)
    else:
        environments = ", ".join(f'{{"root": "{place.name}"}}' for place in written)
        (written[0].parent / "pyrightconfig.json").write_text(f'{{"executionEnvironments": [{environments}]}}')
        check(checker, [], written[0].parent, cache)


@pytest.mark.parametrize("checker", CHECKERS)
def test_the_examples(checker, cache):
    for place in (ROOT / "examples", ROOT / "examples" / "embedding"):
        check(checker, sorted(path.name for path in place.glob("*.py")), place, cache)
