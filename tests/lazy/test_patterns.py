# SPDX-License-Identifier: MIT
"""Expressions that are compiled when they are used: each can be, and an import compiles none."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from importlib import import_module

import pytest

from sockd.lazy import pattern, patterns


def test_every_one_is_a_regular_expression():
    """A mistake would else be found by the first user of a rare setting."""
    for package in ("config", "log", "settings"):
        path = import_module(f"sockd.{package}").__path__
        for module in pkgutil.iter_modules(path):
            import_module(f"sockd.{package}.{module.name}")
    assert len(patterns.KNOWN) >= 15
    assert all(isinstance(one.compile(), re.Pattern) for one in patterns.KNOWN)


def test_it_behaves_as_the_compiled_one():
    word = pattern("(?P<word>[a-z]+)", re.IGNORECASE)
    assert word.fullmatch("Ab")["word"] == "Ab"
    assert word.fullmatch("1") is None
    assert word.sub("x", "a1b") == "x1x"
    assert word.groups == 1
    assert word.pattern == "(?P<word>[a-z]+)"


def test_a_mistake_is_reported_when_it_is_used():
    wrong = pattern("(")
    patterns.KNOWN.remove(wrong)
    with pytest.raises(re.error, match="unterminated subpattern"):
        wrong.match("x")


def test_an_import_compiles_none():
    """Seen to fail where one module called re.compile()."""
    program = (
        "import re, sys\n"
        "compile, compiled = re.compile, []\n"
        "def watch(*words):\n"
        "    if sys._getframe(1).f_globals['__name__'].startswith('sockd'):\n"  # not those of the standard library
        "        compiled.append(words)\n"
        "    return compile(*words)\n"
        "re.compile = watch\n"
        "import sockd.cli.inetd, sockd.config.load, sockd.settings\n"
        "print(compiled)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")
