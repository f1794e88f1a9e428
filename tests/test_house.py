# SPDX-License-Identifier: MIT
"""The tree in docs/architecture.md is the one on the disk, one line a file; a class has a name of its own.

Seen failing with a file that is not in the document, with a line of a file that is gone, and with two classes `Raw`.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHORT = {
    "sockd/__main__.py": "python -m sockd",
    "sockd/cli/verbs/password.py": "verbs are one module each",
}
"""Modules that are no room of their own, and why."""
KINDS = {".py", ".pyi", ".c", ".h", ".html", ".typed"}
RETIRED = {"came", "elders", "leaving", "unframed", "unsent", "folder", "crew", "fleet", "surroundings"}
RETIRED |= {
    "take",
    "takes",
    "took",
    "taken",
    "tell",
    "tells",
    "told",
    "settle",
    "settles",
    "settled",
    "settling",
    "most",
}
"""Words of names that say less than the field's; docs/glossary.md has those that took their places."""
RETIRED_PARTS = re.compile(r"(^|_)go(es)?_on(_|$)|^_?of_|_of$")
FOREIGN = {"most_common", "subnet_of"}
"""Names of the standard library."""


def documented() -> list[str]:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = text[text.index("\nsockd/\n") :].split("\ntests/ ")[0]
    found, directory = [], ""
    for line in tree.splitlines():
        if line and not line.startswith(" "):
            directory = line.strip()
        elif line:
            found.append(directory + line.split()[0])
    return found


def sources() -> list[Path]:
    return [path for path in (ROOT / "sockd").rglob("*") if path.suffix in KINDS]


def test_the_tree_in_the_documents_is_the_one_on_the_disk():
    assert sorted(documented()) == sorted(str(path.relative_to(ROOT)) for path in sources())


def test_a_public_class_has_a_name_of_its_own():
    where = defaultdict(list)
    for path in sources():
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    where[node.name].append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in where.items() if len(paths) > 1} == {}


def is_retired(name: str) -> bool:
    if name.startswith("sb_") or name in FOREIGN:
        return False
    return bool(RETIRED & set(re.findall(r"[a-z]+", name.lower())) or RETIRED_PARTS.search(name.lower()))


def test_retired_words_are_in_no_name():
    """Seen failing with `OF_DAEMON`, and with a constant of the C core that TELLS."""
    found = defaultdict(set)
    for path in sources():
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [getattr(node, field, None) for field in ("id", "attr", "name", "arg")]
            for name in names:
                if isinstance(name, str) and is_retired(name):
                    found[name].add(str(path.relative_to(ROOT)))
    assert dict(found) == {}


def test_the_house_is_no_heap():
    """Few files at the top; no module is longer than what is read in one go, its licence line not counted."""
    assert len([path for path in (ROOT / "sockd").iterdir() if path.is_file() and path.suffix in KINDS]) <= 8
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) - 1  # of the licence
        for path in sources()
        if path.suffix == ".py"
    }
    assert {path for path, count in lines.items() if count > 450} == set()
    short = {path for path, count in lines.items() if count < 44 and not path.endswith("__init__.py")}
    assert short == set(SHORT)


def walked() -> list[tuple[str, str]]:
    """Return each step of the five walks: its file, and every function or class that it names there."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    part = text[text.index("## Five walks") : text.index("## Decisions")]
    found = []
    for path, first, rest in re.findall(r"^\d+\. `([\w/.]+)` `([\w.]+)`(.*)$", part, re.M):
        found += [(path, first), *((path, name) for name in re.findall(r"`(\w+\.\w+|_\w+|sb_\w+)`", rest))]
    return found


def defined(path: Path) -> set[str]:
    if path.suffix == ".c":
        return set(re.findall(r"^\w[^\n(=]*?(\w+)\(", path.read_text(encoding="utf-8"), re.M))
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
            names |= {f"{node.name}.{one.name}" for one in ast.walk(node) if isinstance(one, ast.FunctionDef)}
    return names


def test_the_files_and_functions_of_the_five_walks_exist():
    """Seen failing with a function of another name, and with a file that is not there."""
    assert len(walked()) > 45
    assert [(path, name) for path, name in walked() if name not in defined(ROOT / path)] == []
