# SPDX-License-Identifier: MIT
"""[service.NAME] framing: what is wrong is named with its place and the remedy; the right ones are in tests/system.

Seen to fail: with OPTIONAL emptied in sockd.config.check_framing, and with _DELIMITER_MAX_BYTES at 9.
"""

from __future__ import annotations

import pytest

from sockd.config.load import loads
from sockd.errors import ConfigurationError

HEAD = '[[listen]]\naddress = "tcp://127.0.0.1:7000"\nservice = "a"\n[service.a]\nhandler = "app:x"\nframing = '
NAMES = (
    'allowed: "line", "strict-line", "delimiter", "nul", "netstring", "prefix", "varint", "octet-count", "fixed", '
    '"record", "dot-block", "blank-line" or "raw"'
)
WRONG = [
    ('"netstrings"', f'"netstrings" is not valid; {NAMES}; did you mean "netstring"?'),
    ("5", f"5 is an integer; {NAMES}"),
    ('["line"]', f"a list is not valid here; {NAMES}"),
    ('{ type = "null" }', f'.type: "null" is not valid; {NAMES}; did you mean "nul"?'),
    ('{ max = "1 KiB" }', 'needs a type; write framing = { type = "netstring", max = "100 KB" }'),
    ('{ typ = "line" }', '.typ: unknown key; did you mean "type"?'),
    ('"fixed"', '"fixed" needs size; write { type = "fixed", size = 16 }'),
    ('{ type = "prefix" }', '"prefix" needs width; write { type = "prefix", width = 4 }'),
    (
        '{ type = "delimiter" }',
        '"delimiter" needs delimiter; write { type = "delimiter", delimiter = ";" }',
    ),
    ('{ type = "record" }', '"record" needs format; write { type = "record", format = "!IHd" }'),
    (
        '{ type = "prefix", width = 5 }',
        ".width: 5 is not a valid width; a length has 1, 2, 3, 4 or 8 bytes",
    ),
    ('{ type = "prefix", width = 9 }', ".width: 9 is too large; allowed: 1 to 8 bytes"),
    (
        '{ type = "delimiter", delimiter = "123456789" }',
        '.delimiter: "123456789" has 9 bytes; a delimiter has 1 to 8',
    ),
    ('{ type = "delimiter", delimiter = "" }', '.delimiter: "" has 0 bytes; a delimiter has 1 to 8'),
    (
        '{ type = "record", format = "!Qy" }',
        '.format: "!Qy" is not a format of the struct module, such as "!IHd" (bad char in struct format)',
    ),
    ('{ type = "record", format = "" }', '.format: "" describes no bytes; write a format such as "!IHd"'),
    ('{ type = "line", size = 5 }', '.size: does not apply to "line"; its keys: ending, max'),
    ('{ type = "nul", ending = "lf" }', '.ending: does not apply to "nul"; its keys: max'),
    ('{ type = "fixed", size = 5, max = 5 }', '.max: does not apply to "fixed"; its keys: size'),
    (
        '{ type = "line", ending = "CRLF" }',
        '.ending: "CRLF" is not valid; allowed: "lf", "crlf" or "same"; did you mean "crlf"?',
    ),
    ('{ type = "nul", max = 0 }', ".max: 0 is too small; allowed: 1 B to 1 GiB"),
    ('{ type = "nul", max = 5 }\nmax_frame = 5', ".max: duplicates max_frame; remove one of the two"),
]


def message_of(text):
    with pytest.raises(ConfigurationError) as caught:
        loads(text, name="sockd.toml")
    return str(caught.value)


@pytest.mark.parametrize(("value", "expected"), WRONG, ids=[value for value, _ in WRONG])
def test_wrong(value, expected):
    separator = "" if expected.startswith(".") else ": "
    assert message_of(f"{HEAD}{value}\n") == f"sockd.toml:6: service.a.framing{separator}{expected}"


def test_a_size_has_no_second_limit():
    assert message_of(f'{HEAD}{{ type = "fixed", size = 3 }}\nmax_frame = "1 KiB"\n') == (
        'sockd.toml:7: service.a.max_frame: does not apply to "fixed", whose frames have a fixed size; remove it'
    )


def test_builtins_are_of_lines_or_raw():
    text = HEAD.replace('handler = "app:x"', 'builtin = "upper"') + '"netstring"\n'
    assert message_of(text) == (
        'sockd.toml:6: service.a.framing: "netstring" cannot be used with a built-in service; use "line" or "raw"'
    )
