# SPDX-License-Identifier: MIT
"""packaging/kubernetes against the schemas of the API server, of each version: every part is one, and has no other key.

An API server is in no package.  Whether the parts fit together, and what the daemon does in a pod, is
tests/system/test_kubernetes.py.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

validation = pytest.importorskip("kubernetes_validate", reason="make .venv/.interop installs kubernetes-validate")

FILE = Path(__file__).parents[2] / "packaging" / "kubernetes" / "sockd.yaml"
PARTS = {one["kind"]: one for one in yaml.safe_load_all(FILE.read_text())}
OLDEST = 25
"""The first without policy/v1beta1, of 2022."""
NEWEST = int(validation.latest_version().split(".")[1])


@pytest.mark.parametrize("minor", range(OLDEST, NEWEST + 1))
def test_each_part_is_valid(minor):
    for part in PARTS.values():
        validation.validate(part, f"1.{minor}", strict=True)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", ("spec", "replicas"), "three"),
        ("Deployment", ("spec", "template", "spec", "terminationGracePeriod"), 60),
        ("Service", ("spec", "ports"), {"port": 7000}),
        ("PodDisruptionBudget", ("apiVersion",), "policy/v1beta1"),
    ],
)
def test_what_is_wrong_is_found(kind, path, value):
    part = copy.deepcopy(PARTS[kind])
    place = part
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises((validation.ValidationError, validation.SchemaNotFoundError)):
        validation.validate(part, f"1.{NEWEST}", strict=True)
