# SPDX-License-Identifier: MIT
"""The catalogue of log events, docs/log-events.md: current, and with every event that the source can log.

Seen failing, each once: the text of an event changed, a text taken out, a message that cannot be followed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGING = ROOT / "packaging"
CATALOGUE = ROOT / "docs" / "log-events.md"

pytestmark = pytest.mark.skipif(not PACKAGING.exists(), reason="the tests stand alone, without packaging/")


@pytest.fixture(scope="module")
def events():
    """The module that makes the catalogue."""
    sys.path.insert(0, str(PACKAGING))
    try:
        from generator import events
    finally:
        sys.path.remove(str(PACKAGING))
    return events


@pytest.fixture
def logged(events, tmp_path):
    """`logged(source)`: the events of a module with this text."""

    def read(source):
        (tmp_path / "module.py").write_text(f'logger = logging.getLogger("one")\n{source}')
        return events.events(tmp_path)

    return read


def test_the_catalogue_is_current(events):
    stale = [path.name for path, text in events.catalogue(ROOT).items() if path.read_text() != text]
    assert not stale, "run packaging/generate"


def test_it_has_the_events_of_the_source_and_no_others(events):
    named = re.findall(r"^\| `(.+?)` \|", CATALOGUE.read_text(), re.M)
    assert len(named) == len(set(named))
    assert set(named) == set(events.events(ROOT / "sockd"))


def test_no_message_is_missed(events):
    """Each literal first argument of a call of a logger, found by other means."""
    paths = [path for path in (ROOT / "sockd").rglob("*.py") if "selftest" not in path.parts]
    literal = r"^ *logger\.(?:debug|info|warning|error|critical)\(\s*\"([^\"]+)\""
    assert {one for path in paths for one in re.findall(literal, path.read_text(), re.M)} <= events.TEXTS.keys()


def test_a_message_is_followed_to_where_it_is_written(logged):
    found = logged("""
def tell(level, message, event, error=None):
    logger.log(level, message, exc_info=error, extra={"event": {"at": 1, **event}})

def first(ok):
    event = {"size": 1}
    event["more"] = 2
    tell(logging.INFO if ok else logging.ERROR, "good" if ok else "bad", event | {"last": 3})

def second(error):
    tell(logging.DEBUG, "failed", {}, error)
""")
    assert {name: (one.levels, list(one.fields), one.has_traceback) for name, one in found.items()} == {
        "good": ({"info", "error"}, ["at", "size", "more", "last"], False),
        "bad": ({"info", "error"}, ["at", "size", "more", "last"], False),
        "failed": ({"debug"}, ["at"], True),
    }


def test_what_cannot_be_followed_is_an_error(logged):
    with pytest.raises(SystemExit, match="cannot be followed"):
        logged('def tell(words):\n    logger.info(" ".join(words))\n')


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_events_and_texts_are_the_same(events, monkeypatch, change):
    texts = dict(events.TEXTS)
    if change == "missing":
        del texts["listening"]
    else:
        texts["never logged"] = "Nothing. None needed."
    monkeypatch.setattr(events, "TEXTS", texts)
    with pytest.raises(SystemExit, match="listening" if change == "missing" else "never logged"):
        events.catalogue(ROOT)
