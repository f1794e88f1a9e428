# SPDX-License-Identifier: MIT
"""Messages with their length before them, 4 bytes in network byte order, as Twisted's Int32StringReceiver speaks.

In this directory:

    sockd --foreground --listen tcp://127.0.0.1:7000=length_prefixed:service

A message is JSON, and is answered by the same in a canonical form: no blanks, keys sorted, UTF-8.  What is no JSON is
answered by `{"error": ...}`, and the connection goes on.
"""

import json

import sockd

MAX_BYTES = 99_999  # Int32StringReceiver.MAX_LENGTH

service = sockd.Service(framing=sockd.Prefix(MAX_BYTES, 4))


def canonical(value: object) -> bytes:
    """Write JSON in the one form that equal values share."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False, ensure_ascii=False).encode()


@service.frame
def answer(message: bytes) -> bytes:
    """Answer one message."""
    try:
        reply = canonical(json.loads(message))
    except (ValueError, RecursionError) as error:
        return canonical({"error": str(error)})
    return reply if len(reply) <= MAX_BYTES else canonical({"error": "the answer would be too long"})
