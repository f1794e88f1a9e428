# SPDX-License-Identifier: MIT
"""A policy service for Postfix, by its SMTPD_POLICY_README: so many recipients an hour for each client.

In this directory:

    sockd --foreground --listen tcp://127.0.0.1:2527=postfix_policy:service

and in main.cf, behind what refuses strangers:

    smtpd_recipient_restrictions = reject_unauth_destination, check_policy_service inet:127.0.0.1:2527

A request is a block of `name=value` lines with an empty line behind it, which is a framing of sockd's; so is the
answer.  When this function fails, the connection ends without a word: Postfix asks once more, then has the client come
again later.
"""

import os
import time
from collections import Counter

import sockd

MOST = int(os.environ.get("POSTFIX_POLICY_MOST", "100"))
"""Recipients that one client may name in an hour."""
PERIOD_SECONDS = 3600

service = sockd.Service(framing=sockd.BlankLine(64 * 1024))


class Quota:
    """Counts what each client has had in the running period; what is older is forgotten at once, for all of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._period = -1
        self._had: Counter[bytes] = Counter()

    def take(self, client: bytes) -> bool:
        """Count one more; tell whether that is still allowed."""
        period = int(time.monotonic() // PERIOD_SECONDS)
        if period != self._period:
            self._period = period
            self._had.clear()
        self._had[client] += 1
        return self._had[client] <= self._most


quota = Quota(MOST)


@service.frame
def decide(block: bytes) -> bytes:
    """Answer what access(5) may say; `dunno` leaves the decision to the restrictions behind this one."""
    attributes = dict(line.split(b"=", 1) for line in block.splitlines())
    if attributes[b"request"] != b"smtpd_access_policy":
        raise ValueError(f"Postfix asks for what is unknown here: {attributes[b'request']!r}")
    if attributes[b"protocol_state"] != b"RCPT":
        return b"action=dunno"
    client = attributes.get(b"sasl_username") or attributes[b"client_address"]
    if quota.take(client):
        return b"action=dunno"
    return b"action=450 4.7.1 No more than %d recipients an hour" % MOST
