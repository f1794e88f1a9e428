# SPDX-License-Identifier: MIT
"""The first own service: a function from a line to its answer.

In this directory:

    sockd --foreground --reload --listen tcp://127.0.0.1:7000=app:greet
    echo world | sockctl connect tcp://127.0.0.1:7000

which prints `hello world`.
"""


def greet(line: bytes) -> bytes:
    """Answer one line; neither it nor the answer has its newline."""
    return b"hello " + line
