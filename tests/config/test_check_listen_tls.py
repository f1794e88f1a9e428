# SPDX-License-Identifier: MIT
"""tls = { ... } of a listener: what is wrong is named before a file is read.

Seen to fail: with check_tls not called.
"""

from __future__ import annotations

import pytest

from sockd.config.load import loads
from sockd.errors import ConfigurationError

HEAD = '[[listen]]\naddress = "ADDRESS"\nservice = "upper"\ntls = '
WRONG = [
    ("{}", ".certificate: is missing; write certificate"),
    ('{ certificate = "c.pem" }', '.certificate: "c.pem" is not an absolute path'),
    ('{ certificate = "/c.pem", key = "k" }', '.key: "k" is not an absolute path'),
    ('{ certificate = "/c.pem", others = ["/x.pem"] }', '.others[0]: "/x.pem" is not NAME=/path, such as'),
    (
        '{ certificate = "/c.pem", client_names = ["a"] }',
        ".client_names: requires client_ca",
    ),
    ('{ certificate = "/c.pem", alpn = [""] }', '.alpn[0]: "" is not 1 to 255 ASCII characters'),
    ('{ certificate = "/c.pem", minimum = "1.1" }', '.minimum: "1.1" is not valid; allowed: "1.2" or "1.3"'),
    (
        '{ certificate = "/c.pem", session_tickets = 17 }',
        ".session_tickets: 17 is too large; allowed: 0 to 16 tickets",
    ),
    ('{ certificate = "/c.pem", session_tickets = true }', ".session_tickets: true"),
    ('{ certificate = "/c.pem", certificat = "/x" }', '.certificat: unknown key; did you mean "certificate"?'),
    ("true", "true, a boolean, is not allowed here; write tls = {"),
]


@pytest.mark.parametrize(("tls", "words"), WRONG)
def test_wrong(tls, words):
    with pytest.raises(ConfigurationError) as caught:
        loads(HEAD.replace("ADDRESS", "tcp://127.0.0.1:7000") + tls + "\n", name="sockd.toml")
    assert "listen[0].tls" in str(caught.value)
    assert words in str(caught.value)


def test_datagrams_are_not_encrypted():
    with pytest.raises(ConfigurationError, match="applies to streams"):
        loads(HEAD.replace("ADDRESS", "udp://127.0.0.1:7000") + '{ certificate = "/c.pem" }\n', name="sockd.toml")


def test_no_session_tickets_unless_asked_for():
    text = HEAD.replace("ADDRESS", "tcp://127.0.0.1:7000") + '{ certificate = "/c.pem"MORE }\n'
    found = [loads(text.replace("MORE", more), name="sockd.toml") for more in ("", ", session_tickets = 2")]
    assert [one.listen[0].tls.session_tickets for one in found] == [0, 2]
