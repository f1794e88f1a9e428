# SPDX-License-Identifier: MIT
"""The tree in docs/architecture.md is the one on the disk, one line a file; a class has a name of its own.

Seen failing with a file that is not in the document, with a line of a file that is gone, and with two classes `Raw`.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def sources() -> list[Path]:
    return [path for path in (ROOT / "sockd").rglob("*") if path.suffix in KINDS]


def test_the_tree_in_the_documents_is_the_one_on_the_disk():
    assert sorted(documented()) == sorted(str(path.relative_to(ROOT)) for path in sources())


def test_a_public_class_has_a_name_of_its_own():
    where = defaultdict(list)
    for path in sources():
        if path.suffix == ".py":
            for node in ast.walk(parsed(path)):
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
        for node in ast.walk(parsed(path)):
            names = [getattr(node, field, None) for field in ("id", "attr", "name", "arg")]
            for name in names:
                if isinstance(name, str) and is_retired(name):
                    found[name].add(str(path.relative_to(ROOT)))
    assert dict(found) == {}


def listed(docstring: str, section: str) -> set[str]:
    """Return the names that a section of a docstring describes, such as `Args`."""
    found = re.search(rf"^( *){section}:\n((?:\1 +\S.*\n|\n)+)", f"{docstring}\n", re.M)
    lines = [line for line in found[2].splitlines() if line.strip()] if found else []
    own = [line.strip() for line in lines if indent(line) == indent(lines[0])]
    return {name.strip(" *") for line in own for name in line.partition(":")[0].split(",")}


def indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    every = function.args
    return {one.arg for one in (*every.posonlyargs, *every.args, *every.kwonlyargs, every.vararg, every.kwarg) if one}


def lineage(one: ast.ClassDef, known: dict[str, ast.ClassDef]) -> Iterator[ast.ClassDef]:
    """Yield a class and those of its bases that are of this tree, or written in C."""
    yield one
    for base in one.bases:
        name = ast.unparse(base).partition("[")[0].rpartition(".")[2]
        if name in known and known[name] is not one:
            yield from lineage(known[name], known)


def members(one: ast.ClassDef) -> set[str]:
    """Return the names of what a class has, and of what its constructor takes."""
    names = {node.name for node in one.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    names |= {ast.unparse(node.target) for node in one.body if isinstance(node, ast.AnnAssign)}
    names |= {ast.unparse(target) for node in one.body if isinstance(node, ast.Assign) for target in node.targets}
    for node in ast.walk(one):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.FunctionDef) and node.name == "__init__":
            names |= parameters(node)
    return names


def test_what_a_docstring_describes_is_there():
    """Names under Args and Attributes; seen failing with those of before a renaming: leaving, elders, unsent."""
    known, wrong = {}, []
    trees = {str(path.relative_to(ROOT)): parsed(path) for path in sources() if path.suffix in (".py", ".pyi")}
    for tree in trees.values():
        known |= {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                there = set().union(*map(members, lineage(node, known)))
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                there = parameters(node)
            else:
                continue
            docstring = ast.get_docstring(node) or ""
            described = listed(docstring, "Args") | listed(docstring, "Attributes")
            wrong += [f"{path}: {node.name}: {name}" for name in sorted(described - there)]
    assert wrong == []


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def exports(tree: ast.Module) -> set[str] | None:
    """Return what `__all__` of a module lists; None: it has none."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return None


def imported(tree: ast.Module, modules: set[str]) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of what a file has from modules of sockd: named in an import, or by a module's name."""
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in modules:
            for one in node.names:
                if f"{node.module}.{one.name}" in modules:
                    aliases[one.asname or one.name] = f"{node.module}.{one.name}"
                else:
                    yield node.module, one.name
    variables = {name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for name in local_names(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and not node.attr.startswith("__"):
            name = node.value.id
            if name in aliases and name not in variables:
                yield aliases[name], node.attr


def local_names(function: ast.FunctionDef) -> set[str]:
    stored = (node for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    return parameters(function) | {node.id for node in stored}


def test_a_module_exports_what_others_have_from_it():
    """Then a linter knows what is public, and wants its docstring; seen failing with 45 modules."""
    python = [path for path in sources() if path.suffix == ".py"]
    trees = {module_name(path): parsed(path) for path in python}
    listed = {name: exports(tree) for name, tree in trees.items()}
    missing = defaultdict(set)
    for tree in trees.values():
        for module, name in imported(tree, set(trees)):
            if listed[module] is not None and name not in listed[module] and f"{module}.{name}" != "sockd._sockbuf":
                missing[module].add(name)
    assert dict(missing) == {}


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
    for node in parsed(path).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
            names |= {f"{node.name}.{one.name}" for one in ast.walk(node) if isinstance(one, ast.FunctionDef)}
    return names


def test_the_files_and_functions_of_the_five_walks_exist():
    """Seen failing with a function of another name, and with a file that is not there."""
    assert len(walked()) > 45
    assert [(path, name) for path, name in walked() if name not in defined(ROOT / path)] == []
