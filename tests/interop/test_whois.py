# SPDX-License-Identifier: MIT
"""examples/whois.py asked by whois(1)."""

from __future__ import annotations

import pytest
from programs import needs, port_of

pytestmark = needs("whois", "whois")

FOUND = {
    "example.com": "holder: Ann Lee",
    "EXAMPLE.org": "holder: Bob Müller",
    "192.0.2.7": "name: TEST-NET-1",
    "192.0.2.128": "name: UPPER-HALF",
    "192.0.2.0/24": "name: TEST-NET-1",
    "2001:db8:1::1": "name: DOCUMENTATION",
}
NOT_FOUND = ["example.net", "192.0.3.1", "192.0.2.0/23", "::1", "com", "müller"]


@pytest.fixture
def whois(serve_example, run):
    daemon = serve_example("whois:service")

    def ask(query):
        done = run("whois", "-h", "127.0.0.1", "-p", port_of(daemon.addresses[0]), "--", query)
        return done.stdout.decode().replace("\r\n", "\n")

    yield ask
    daemon.stop()
    assert {event["reason"] for event in daemon.having("closed")} == {"closed"}


def test_found(whois):
    for query, line in FOUND.items():
        assert line in whois(query).splitlines(), query


def test_not_found(whois):
    for query in NOT_FOUND:
        assert whois(query) == "% No match\n", query
