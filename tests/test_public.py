# SPDX-License-Identifier: MIT
"""The names that a service may import, and nothing else.

Seen to fail: with a name taken out of sockd.__all__.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.metadata import version

import pytest

import sockd

NAMES = {
    "BlankLine",
    "Close",
    "CloseReason",
    "Connection",
    "Delimiter",
    "DotBlock",
    "Fixed",
    "Line",
    "LineProtocol",
    "Netstring",
    "Nul",
    "OctetCount",
    "Prefix",
    "Protocol",
    "Raw",
    "Record",
    "Service",
    "StrictLine",
    "Varint",
}


def test_the_public_names():
    assert set(sockd.__all__) == NAMES
    assert sorted(sockd.__all__) == sockd.__all__


def test_the_version_is_that_of_the_program():
    """Seen failing: there was none.  `import sockd` does not read it."""
    code = "import sys, sockd; before = 'sockd._version' in sys.modules; print(before, sockd.__version__)"
    told = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["False", version("sockd")]
    assert "__version__" in dir(sockd)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_is_there_and_documented(name):
    assert inspect.getdoc(getattr(sockd, name))


def test_the_package_is_typed():
    assert (sockd.__path__[0] + "/py.typed") in [
        str(path) for path in __import__("pathlib").Path(sockd.__path__[0]).iterdir()
    ]


def test_importing_it_starts_nothing():
    """No thread, no signal handler, no log handler, no descriptor left open."""
    code = """
import logging, os, signal, threading
before = set(os.listdir("/dev/fd")), [signal.getsignal(n) for n in (2, 13, 15)]
import sockd
assert threading.active_count() == 1
assert logging.getLogger().handlers == []
assert before == (set(os.listdir("/dev/fd")), [signal.getsignal(n) for n in (2, 13, 15)])
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


@pytest.mark.parametrize("words", [5, ["x"], 1.5])
def test_last_words_are_a_reply(words):
    with pytest.raises(TypeError, match="bytes-like"):
        sockd.Close(words)


def test_last_words_may_be_any_bytes():
    assert [sockd.Close(w).last_words for w in (None, b"a", bytearray(b"a"), memoryview(b"a"))] == [
        None,
        b"a",
        b"a",
        b"a",
    ]
