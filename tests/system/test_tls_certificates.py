# SPDX-License-Identifier: MIT
"""Certificates of clients, and names that they ask for, with anything in them: the daemon says why, and goes on.

Seen to fail: a DNS name that is not UTF-8, a common name of bytes and a registered identifier that is long end the
daemon; a server name that is not ASCII has a traceback written to standard error that is no line of the log.
"""

from __future__ import annotations

import random
import ssl
from contextlib import suppress

import pytest
from encrypted import Encrypted, context_of
from odd_certificates import ODD, UTF8, Authority, dns, name, text_name, tlv
from watching import SOAK

APP = """
def mark(line):
    with open("handled", "ab") as file:
        file.write(line + b"\\n")
    return line.upper()
"""
TIMES = 2_000 if SOAK else 60
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.fixture(scope="module")
def authority(tmp_path_factory, certificates):
    return Authority(tmp_path_factory.mktemp("odd"))


@pytest.fixture
def house(daemon, certificates, authority):
    """A daemon that wants certificates of this authority: `house(more)`."""

    def start(more=""):
        own = certificates.server
        return daemon(
            toml=f"""
            [[listen]]
            address = "tcp://127.0.0.1:0"
            service = "app:mark"
            tls = {{ certificate = "{own.path}", key = "{own.key}", {more} }}
            """,
            app=APP,
        )

    return start


def ask(one, certificates, own, line, version=None):
    """The answer; none where the client is not let in."""
    context = context_of(certificates.ca, version)
    context.load_cert_chain(*own)
    with suppress(OSError, ssl.SSLError):  # of a refusal a client of TLS 1.3 hears behind its handshake
        peer = Encrypted(one.connect(), context)
        peer.send(line + b"\n")
        return peer.read()
    return b""


def test_whatever_a_certificate_holds(house, certificates, authority):
    one = house(f'client_ca = "{authority.ca}", client_names = ["alice.example", "*.hosts.example", "kate"]')
    refused = 0
    for number, (kind, (what, said)) in enumerate(ODD.items()):
        own, line = authority.issue(*what), b"line %d" % number
        answer = ask(one, certificates, own, line, VERSIONS[number % 2])
        assert answer == (b"" if said else line.upper() + b"\n"), kind
        if said:
            refused += 1
            assert one.wait_for("no TLS", count=refused)["why"].startswith(said), kind
    assert len(one.logged("no TLS")) == refused
    good = authority.issue(text_name("alice.example"))
    assert ask(one, certificates, good, b"still") == b"STILL\n"
    handled = (one.directory / "handled").read_bytes().splitlines()
    assert handled == [b"line %d" % i for i, (_, said) in enumerate(ODD.values()) if not said] + [b"still"]


def test_any_certificate_of_the_authority_where_no_name_is_asked_for(house, certificates, authority):
    one = house(f'client_ca = "{authority.ca}"')
    for number, (what, said) in enumerate(ODD.values()):
        is_read = said is None or said.startswith("no name of")
        answer = ask(one, certificates, authority.issue(*what), b"%d" % number)
        assert answer == (b"%d\n" % number if is_read else b"")


def test_bytes_by_chance_in_a_name(house, certificates, authority):
    """Signed as they are, so that they are read where a handshake is done."""
    one = house(f'client_ca = "{authority.ca}", client_names = ["alice.example"]')
    chance = random.Random(7)
    good = authority.issue(text_name("alice.example"))
    for _ in range(TIMES):
        text = chance.randbytes(chance.randrange(1, 40))
        kind = chance.choice((dns(text), tlv(0x30, tlv(chance.randrange(0x80, 0x89), text)), text))
        subject = chance.choice((name(tlv(chance.choice((UTF8, 0x14, 0x16, 0x1E, 0x1C, 0x03, 0x04)), text)), good))
        with suppress(ssl.SSLError):  # OpenSSL does not load it here
            ask(one, certificates, authority.issue(text_name("x") if subject is good else subject, kind), b"no")
    assert ask(one, certificates, good, b"still") == b"STILL\n"
    assert (one.directory / "handled").read_bytes() == b"still\n"


class Altered(Encrypted):
    """A client whose bytes are changed on the way out: `change(bytes)`."""

    def __init__(self, sock, context, change) -> None:
        self._change = change
        super().__init__(sock, context)

    def flush(self) -> None:
        if self._outgoing.pending:
            self.sock.sendall(self._change(self._outgoing.read()))


def test_certificates_changed_on_the_way(house, certificates, authority):
    one = house(f'client_ca = "{authority.ca}", client_names = ["alice.example"]')
    context = context_of(certificates.ca, ssl.TLSVersion.TLSv1_2)  # where they are sent in plain text
    context.load_cert_chain(*authority.issue(text_name("alice.example"), dns(b"alice.example")))
    chance = random.Random(8)

    def change(text):
        at = text.find(b"odd authority")  # of the first flight there is none
        text = bytearray(text)
        for _ in range(chance.randrange(1, 4) if at >= 0 else 0):
            text[at + chance.randrange(-60, 300)] = chance.randrange(256)
        return bytes(text)

    for _ in range(TIMES):
        with suppress(OSError, ssl.SSLError):
            Altered(one.connect(), context, change).read()
    good = authority.issue(text_name("alice.example"))
    assert ask(one, certificates, good, b"still") == b"STILL\n"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_name_that_no_host_has(house, certificates, tmp_path, version):
    both = tmp_path / "both.pem"
    both.write_bytes(certificates.other.path.read_bytes() + certificates.other.key.read_bytes())
    one = house(f'others = ["other.example={both}"]')
    for count, odd in enumerate((b"loc\xffl\xfeost", b"\xc3\xa9calhost", b"l\0calhost"), 1):
        with pytest.raises((OSError, ssl.SSLError)):
            Altered(
                one.connect(),
                context_of(certificates.ca, version),
                lambda text, odd=odd: text.replace(b"localhost", odd[:9]),
            )
        one.wait_for("no TLS", count=count)
    assert {line["why"] for line in one.logged("no TLS")} == {"callback failed", "bad extension"}
    assert Encrypted(one.connect(), context_of(certificates.ca, version)).was_notified is False
