# SPDX-License-Identifier: MIT
"""A handler that was edited twice within a second is served as it is now, though Python's .pyc says it is the same.

Python compares the second and the size of the source (PEP 552).  Seen to fail: a reload served the first edit.
"""

from __future__ import annotations

import importlib
import os
import py_compile
import sys

import pytest

from sockd.services import loader
from sockd.services.reimport import ImportedAnew

SOURCE = "def answer(line):\n    return b{!r}\n"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write a module of the author's, changed at this time: `written(name, word, second)`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    before = dict(sys.modules)

    def write(name, word, second):
        path = tmp_path / f"{name}.py"
        path.write_text(SOURCE.format(word))
        os.utime(path, (second, second))
        importlib.invalidate_caches()
        return path

    yield write
    sys.modules.clear()
    sys.modules.update(before)  # a reload forgets the tests, too


def test_a_reload_believes_no_pyc_of_the_same_second(written):
    path = written("edited_twice", "one", 1_700_000_000)
    compiled = py_compile.compile(str(path))
    os.utime(compiled, (1_700_000_000.9, 1_700_000_000.9))
    assert loader._import("edited_twice", "edited_twice:answer").answer(b"") == b"one"
    py_compile.compile(str(path))
    os.utime(compiled, (1_700_000_000.9, 1_700_000_000.9))
    written("edited_twice", "two", 1_700_000_000)
    with ImportedAnew(["edited_twice:answer"]):
        assert loader._import("edited_twice", "edited_twice:answer").answer(b"") == b"two"


def test_an_import_leaves_no_pyc_of_the_same_second(written, tmp_path):
    path = written("just_edited", "one", os.stat(tmp_path).st_mtime + 3600)  # of no earlier second than its .pyc
    loader._import("just_edited", "just_edited:answer")
    assert not os.path.exists(importlib.util.cache_from_source(str(path)))


def test_one_of_a_later_second_is_kept(written):
    path = written("edited_before", "one", 1_700_000_000)
    loader._import("edited_before", "edited_before:answer")
    assert os.path.exists(importlib.util.cache_from_source(str(path)))
