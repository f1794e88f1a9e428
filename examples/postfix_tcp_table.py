# SPDX-License-Identifier: MIT
"""A lookup table for Postfix, by its protocol tcp_table(5): `get KEY` is answered from a file of keys.

In this directory, then in another terminal:

    sockd --foreground --listen tcp://127.0.0.1:2526=postfix_tcp_table:lookup
    postmap -q postmaster@example.com tcp:127.0.0.1:2526
    postmap -q - tcp:127.0.0.1:2526 < keys

and in main.cf `virtual_alias_maps = tcp:127.0.0.1:2526`.  The file is postfix_tcp_table.keys, or the one
that $POSTFIX_TCP_TABLE_KEYS names.  It is read once, when the daemon starts.
"""

import os
import re
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

KEYS = Path(os.environ.get("POSTFIX_TCP_TABLE_KEYS", Path(__file__).with_suffix(".keys")))
MAX_ANSWER_BYTES = 4096 - 1  # tcp_table(5), which counts the newline that sockd adds

# % itself, blanks and whatever does not print travel as %XX, in both directions.
PLAIN = bytes(set(range(0x21, 0x7F)) - {ord("%")})
REQUEST = re.compile(rb"get ((?:[%b]|%%[0-9A-Fa-f]{2})*)" % re.escape(PLAIN))


def load(path: Path) -> dict[bytes, bytes]:
    """Read `KEY VALUE` lines, %XX allowed in both, into the answers they will get; # begins a comment line."""
    answers = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        key, *value = line.split(maxsplit=1)
        if not value or re.search(rb"%(?![0-9A-Fa-f]{2})", line):
            raise ValueError(f"{path}:{number}: want KEY VALUE, with each % written as %25")
        answer = b"200 " + quote_from_bytes(unquote_to_bytes(value[0].rstrip()), safe=PLAIN).encode()
        # Cut short it would be a wrong value; 400 makes Postfix keep the mail and try again.
        answers[unquote_to_bytes(key)] = answer if len(answer) <= MAX_ANSWER_BYTES else b"400 the value is too long"
    return answers


ANSWERS = load(KEYS)


def lookup(line: bytes) -> bytes:
    """Answer one request: 200 is found, 500 does not exist, 400 is trouble."""
    request = REQUEST.fullmatch(line)
    if request is None:
        return b"400 malformed: want get and one encoded key"  # no % here: Postfix decodes this text too
    return ANSWERS.get(unquote_to_bytes(request[1]), b"500 not found")
