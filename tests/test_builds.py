# SPDX-License-Identifier: MIT
"""The source is built where the C library is musl, or declares more names, and where Python has no global lock.

Seen failing before: `missing binary operator before token "("`; `static declaration of 'call_once'`.
"""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
import sysconfig
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "csrc").exists(), reason="the tests stand alone, without csrc/")


@pytest.mark.parametrize("path", sorted((ROOT / "csrc").glob("*.c")), ids=lambda path: path.name)
def test_musl(path, tmp_path):
    if shutil.which("musl-gcc") is None:
        pytest.skip("needs musl-gcc")
    words = ["musl-gcc", "-std=c11", "-D_GNU_SOURCE", "-O1", "-c", str(path), "-o", str(tmp_path / "made.o")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr


PARTS = [*(ROOT / "csrc").glob("*.c"), *(ROOT / "sockd").rglob("*.c")]


@pytest.mark.parametrize("path", sorted(PARTS), ids=lambda path: path.name)
def test_names_of_threads_h(path):
    """C23 and glibc 2.43 declare what threads.h does, call_once() among it, in stdlib.h as well."""
    if shutil.which("cc") is None:
        pytest.skip("needs cc")
    includes = ["csrc", "sockd/buffer", "sockd/process", sysconfig.get_path("include")]
    words = ["cc", "-std=c11", "-D_GNU_SOURCE", "-DPy_LIMITED_API=0x030b0000", "-fsyntax-only"]
    words += [f"-I{one}" for one in includes] + ["-include", "threads.h", "-include", "sockrelay.h", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=110, cwd=ROOT)
    assert "conflicting types" not in done.stderr
    assert "static declaration" not in done.stderr


@pytest.mark.parametrize(("is_free_threaded", "wanted"), [(0, "cp311"), (None, "cp311"), (1, None)])
def test_the_stable_abi_is_asked_for_where_there_is_one(monkeypatch, is_free_threaded, wanted):
    """PEP 703: setuptools refuses the limited API for a free-threaded Python (ValueError)."""
    asked = {}
    stand_ins = {"setuptools": {"setup": asked.update}, "setuptools.command": {}}
    for name, attributes in (stand_ins | {"setuptools.command.build_py": {"build_py": object}}).items():
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(**attributes))
    of = sysconfig.get_config_var
    monkeypatch.setattr(
        sysconfig, "get_config_var", lambda name: is_free_threaded if name == "Py_GIL_DISABLED" else of(name)
    )
    runpy.run_path(str(ROOT / "setup.py"))
    assert asked["options"].get("bdist_wheel", {}).get("py_limited_api") == wanted
