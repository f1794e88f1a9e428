# SPDX-License-Identifier: MIT
"""The lines of keys, and text quoted so that it reads back."""

import sys
import tomllib

import pytest

from sockd.config.toml import Lines, parse
from sockd.text import quote, quote_key

TEXT = (
    """\
top = 1
[daemon]
log = { level = "info" }   # inside

[ [listen] ]
""".replace("[ [listen] ]", "[[listen]]")
    + '''\
  address = "tcp://:1"
[listen.tls]
key = "k"
[[listen]]
addresses = [
  "tcp://:2",   # = "tcp://:3"
  'tcp://:3',
]
text = """
address = "not a key"
[no.table]
"""
service = "upper"
[service."a.b"]
limits.cpu = 3
'''
)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 1),
        (("daemon",), 2),
        (("daemon", "log"), 3),
        (("daemon", "log", "level"), 3),
        (("daemon", "nothing"), 2),
        (("listen",), 5),
        (("listen", 0), 5),
        (("listen", 0, "address"), 6),
        (("listen", 0, "tls"), 7),
        (("listen", 0, "tls", "key"), 8),
        (("listen", 1), 9),
        (("listen", 1, "address"), 9),
        (("listen", 1, "addresses"), 10),
        (("listen", 1, "service"), 18),
        (("service", "a.b"), 19),
        (("service", "a.b", "limits"), 20),
        (("service", "a.b", "limits", "cpu"), 20),
        (("no",), None),
        ((), None),
    ],
)
def test_find(path, line):
    assert parse(TEXT, name="x")[1].find(path) == line
    assert parse(TEXT.replace("\n", "\r\n"), name="x")[1].find(path) == line


def test_find_an_element_by_its_value():
    lines = Lines(TEXT)
    assert lines.find(("listen", 1, "addresses", 0), "tcp://:2") == 11
    assert lines.find(("listen", 1, "addresses", 1), "tcp://:3") == 11  # the comment has it too: best effort
    assert lines.find(("listen", 1, "addresses", 2), "not there") == 10
    assert lines.find(("listen", 1, "addresses", 3), 7) == 10


def test_every_character_reads_back_from_its_quotes():
    surrogates = range(0xD800, 0xE000)
    for start in range(0, sys.maxunicode + 1, 0x800):
        text = "".join(chr(code) for code in range(start, start + 0x800) if code not in surrogates)
        quoted = quote(text)
        assert quoted.isprintable()
        assert tomllib.loads(f"a = {quoted}") == {"a": text}


@pytest.mark.parametrize(("key", "quoted"), [("a-b_1", "a-b_1"), ("", '""'), ("a.b", '"a.b"'), ("é", '"é"')])
def test_quote_key(key, quoted):
    assert quote_key(key) == quoted
    assert tomllib.loads(f"{quoted} = 1") == {key: 1}
