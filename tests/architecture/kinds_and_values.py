# SPDX-License-Identifier: MIT
"""Places that ask which kind a service is by its fields, and that read a text again; `python THIS [ROOT]` prints them.

A place is counted as the source spells it, without running anything; the limits stand in test_kinds_and_values.py.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from counts import ROOT, trees

FIELDS = {
    "function", "batch", "protocol", "session", "program", "relay", "socks", "serve", "datagram", "blocking", "small",
    "pages", "wants_connection", "is_async", "has_connections",
}  # fmt: skip
"""That a service had, of which all but one or two were None, before it had one kind."""
READERS = {
    "parse_rule", "parse_via", "read_via", "read_network", "read_proxy", "read_target", "read_source",
    "read_host_certificate", "ip_network",
}  # fmt: skip
"""Functions that make a value of the text of a setting."""
BEHIND = ("sockd/net", "sockd/services", "sockd/daemon", "sockd/process", "sockd/client")
"""Packages that are given values."""
CONSTANTS = {
    "sockd/services/socks/rules.py", "sockd/net/listen/hosts_access.py",
    "sockd/daemon/control/connection_list.py", "sockd/daemon/control/override_verbs.py",
    "sockd/daemon/control/tracing.py", "sockd/daemon/overrides.py",
}  # fmt: skip
"""Modules that read texts which are no settings: their own constants, /etc/hosts.allow, and what sockctl has sent."""


def asked_by_field(root: Path = ROOT) -> list[str]:
    """Name the places that look at a field of a service to tell its kind."""
    found = []
    for path, tree in trees("sockd", root):
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in FIELDS:
                owner = ast.unparse(node.value)
                if owner.rpartition(".")[2] in ("spec", "_spec") or owner.endswith(".service"):
                    found.append(f"{path}:{node.lineno} {owner}.{node.attr}")
    return found


def _is_reader(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    splits = name.endswith(".partition") and [ast.unparse(one) for one in call.args] == ["'='"]
    return splits or name in READERS or name in ("Address.parse", "Address.read", "ipaddress.ip_network")


def read_again(root: Path = ROOT) -> list[str]:
    """Name the places behind the configuration that read the text of a setting."""
    return [
        f"{path}:{node.lineno} {ast.unparse(node)}"
        for under in BEHIND
        for path, tree in trees(under, root)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _is_reader(node) and path not in CONSTANTS
    ]


def imports_of_config(root: Path = ROOT) -> list[str]:
    """Name the places in net and services that import from sockd.config."""
    return [
        f"{path}:{node.lineno} {node.module}"
        for under in ("sockd/net", "sockd/services")
        for path, tree in trees(under, root)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sockd.config")
    ]


def main(root: Path) -> None:
    """Print them."""
    for count in (asked_by_field, read_again, imports_of_config):
        places = count(root)
        files = {place.partition(":")[0] for place in places}
        lines = (f"{count.__name__}: {len(places)} in {len(files)} files", *(f"    {place}" for place in places))
        sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
