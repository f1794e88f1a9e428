# SPDX-License-Identifier: MIT
"""What both sides of the conformance tests know: what a client does, and how a handler's diary gets to the test."""

from __future__ import annotations

import json
import os

EOF, RESET = "eof", "reset"


class Await:
    """A step of a client: wait until so many bytes have come in all."""

    def __init__(self, count):
        self.count = count


class Unread:
    """A step of a client: read nothing until the handler says so in its diary."""


SCENARIOS = {}
"""By name: (the handler, the steps of its client, whether what it sends may come in any pieces)."""


def write_diary(name, notes):
    path = os.path.join(os.environ["DIARY"], name)
    with open(path + ".new", "w") as file:
        json.dump(notes, file)
    os.rename(path + ".new", path)


def told(error):
    return [type(error).__name__, *[str(one) for one in error.args]]
