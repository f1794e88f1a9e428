# SPDX-License-Identifier: MIT
"""Counts of what makes a house hard to find one's way in, read from the source.  `python tests/architecture/counts.py`.

A name is counted as the source spells it, without running anything; the limits stand in test_counts.py.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def trees(under: str, root: Path = ROOT) -> Iterator[tuple[str, ast.Module]]:
    """Yield each module of a directory, with its path."""
    for path in sorted((root / under).rglob("*.py")):
        yield str(path.relative_to(root)), _tree(path)


def classes(under: str) -> Iterator[tuple[str, ast.ClassDef]]:
    for path, tree in trees(under):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield path, node


def methods(one: ast.ClassDef) -> list[Function]:
    return [node for node in one.body if isinstance(node, Function)]


def _set_on_self(function: Function) -> set[str]:
    return {
        node.attr
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def _declared(one: ast.ClassDef) -> set[str]:
    found = {
        node.target.id for node in one.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    for node in one.body:
        if isinstance(node, ast.Assign):
            found |= {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return found


def _born(one: ast.ClassDef, known: dict[str, ast.ClassDef]) -> set[str]:
    """Return the attributes that a class and its bases declare, or set in __init__."""
    born = _declared(one)
    born |= {name for function in methods(one) if function.name == "__init__" for name in _set_on_self(function)}
    bases = (ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in one.bases)
    return born.union(*(_born(known[base], known) for base in bases if base in known and known[base] is not one))


def late_attributes(under: str) -> list[str]:
    """Name the attributes that are born outside of __init__, and fields of dataclasses that their constructor omits."""
    found = []
    known = {one.name: one for _, one in classes("sockd")}
    for path, one in classes(under):
        born = _born(one, known)
        late = set[str]().union(*(_set_on_self(function) for function in methods(one) if function.name != "__init__"))
        found += [f"{path}: {one.name}.{name}" for name in sorted(late - born)]
        for node in one.body:
            if isinstance(node, ast.AnnAssign) and "init=False" in ast.unparse(node):
                found.append(f"{path}: {one.name}.{ast.unparse(node.target)}")
    return found


def _booleans(one: ast.ClassDef) -> set[str]:
    """Return the attributes that begin as True or False, and the fields that are one, but not those of values."""
    if any("frozen=True" in ast.unparse(decorator) for decorator in one.decorator_list):
        return set()
    found = set()
    for node in one.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "bool" and node.value is not None:
            found.add(ast.unparse(node.target))
    for node in (node for function in methods(one) if function.name == "__init__" for node in ast.walk(function)):
        if isinstance(node, ast.Assign) and ast.unparse(node.value) in ("True", "False"):
            found |= {target.attr for target in node.targets if isinstance(target, ast.Attribute)}
    return found


def many_booleans(under: str) -> list[str]:
    """Name the classes that have more than two booleans: what they are in is a state, and has a table."""
    return [f"{path}: {one.name}" for path, one in classes(under) if len(_booleans(one)) > 2]


def subclasses(under: str, name: str) -> list[str]:
    """Name the classes that have a class among their bases."""
    return [
        f"{path}: {one.name}"
        for path, one in classes(under)
        if name in [ast.unparse(base).rpartition(".")[2] for base in one.bases]
    ]


def constructors(under: str) -> list[tuple[int, str]]:
    """Return for each __init__ how many things it takes, the longest first; values (dataclasses) have none."""
    found = []
    for path, one in classes(under):
        for function in methods(one):
            if function.name == "__init__":
                taken = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
                found.append((len(taken) - 1, f"{path}: {one.name}"))
    return sorted(found, reverse=True)


def _named(node: ast.AST) -> set[str]:
    """Return the names of functions that an expression refers to: f, self.f, and those within lambda or partial."""
    own = {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute) and ast.unparse(one.value) == "self"}
    return own | {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def _armed(function: Function) -> set[str]:
    """Return what a function has called later; what is called after 0 s goes on in the next turn, and is no timer."""
    found: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("call_later", "call_at")) and node.args:
            if ast.unparse(node.args[0]) == "0":
                continue
            found |= _named(node.args[-1])
    return found - {one.arg for one in function.args.args} - _assigned(function)


def _assigned(function: Function) -> set[str]:
    """Return the names of its variables, which are no functions."""
    return {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _called(function: Function) -> set[str]:
    """Return what a function calls at once."""
    return {
        node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name)
    }


def _arm_themselves(functions: list[Function]) -> Iterator[str]:
    armed, called = defaultdict(set), defaultdict(set)
    for function in functions:
        armed[function.name] |= _armed(function)
        called[function.name] |= _called(function) & {one.name for one in functions}
    for name in sorted({one.name for one in functions}):
        seen, left = {name}, [name]
        while left:
            new = called[left.pop()] - seen
            seen |= new
            left += new
        if any(name in armed[one] for one in seen):
            yield name


def timers(under: str) -> list[str]:
    """Name the functions that have a timer call them again and again: by themselves, or by what they call."""
    found = []
    for path, one in classes(under):
        functions = [node for node in ast.walk(one) if isinstance(node, Function)]
        found += [f"{path}: {one.name}.{name}" for name in _arm_themselves(functions)]
    return found


def threads(under: str) -> list[str]:
    """Name the modules that start threads."""
    return [
        path
        for path, tree in trees(under)
        if any(isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Thread") for node in ast.walk(tree))
    ]


def asserts_of_none(under: str) -> list[str]:
    """Name the places of `assert x is not None`: what a type cannot tell."""
    return [
        f"{path}:{node.lineno}"
        for path, tree in trees(under)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert) and ast.unparse(node.test).endswith("is not None")
    ]


def anys(under: str) -> list[str]:
    """Name the places where a type is Any, of modules that do not look into C."""
    found = []
    for path, tree in trees(under):
        text = (ROOT / path).read_text(encoding="utf-8")
        if re.search(r"\b(_sockbuf|ffi)\b", text):
            continue
        found += [
            f"{path}:{node.lineno}"
            for node in ast.walk(tree)
            if (isinstance(node, ast.Name) and node.id == "Any")
            or (isinstance(node, ast.Attribute) and node.attr == "Any")
            or (isinstance(node, ast.alias) and node.name == "Any" and node.asname is not None)
        ]
    return found


def asked_listeners(under: str) -> list[str]:
    """Name the places that ask whether something is a listener of a certain class."""
    return [
        f"{path}:{node.lineno}"
        for path, tree in trees(under)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "isinstance"
        and "Listener" in ast.unparse(node.args[1])
    ]


def main() -> None:
    """Print what there was before the house was built, what there is now, and where."""
    longest = [(count, place) for count, place in constructors("sockd") if not place.endswith(": Service")]  # keywords
    everything: dict[str, tuple[int, int, list[str]]] = {
        what: (before, len(places), places)
        for what, before, places in (
            ("attributes outside of __init__ (39: of the daemon alone)", 39, late_attributes("sockd")),
            ("classes with more than two booleans", 7, many_booleans("sockd")),
            ("subclasses of Daemon", 3, subclasses("sockd", "Daemon")),
            ("isinstance on listeners", 16, asked_listeners("sockd")),
            ("timers that arm themselves", 17, timers("sockd")),
            ("modules that start threads of a loop", 2, [*threads("sockd/net"), *threads("sockd/services")]),
            ("assert x is not None", 37, asserts_of_none("sockd")),
            ("Any outside of the border to C", 110, anys("sockd")),
        )
    }
    everything["longest constructor"] = 15, longest[0][0], [f"{count} {place}" for count, place in longest[:5]]
    lines = []
    for what, (before, now, places) in everything.items():
        lines += [f"{what}: {before} -> {now}", *(f"    {place}" for place in places)]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
