# SPDX-License-Identifier: MIT
"""Certificates of clients, whatever is in them: read once, by bounds, and judged by names that are text.

Seen to fail: UnicodeDecodeError, TypeError (a common name of bytes) and ssl.SSLError come out of the check where
getpeercert() and its values are taken for what they are as a rule.
"""

from __future__ import annotations

import ssl
import subprocess
import time
from contextlib import suppress

import pytest
from encrypted import context_of
from odd_certificates import ODD, UTF8, Authority, name, tlv

from sockd.errors import ConfigurationError
from sockd.net.tls.context import CertificateError, TlsContext, best_match, certificate_names
from sockd.net.tls.failures import FAILURES, words
from sockd.settings.tls import TlsSettings

NAMES = ("alice.example", "*.hosts.example", "kate")


@pytest.fixture(scope="module")
def authority(tmp_path_factory, certificates):
    return Authority(tmp_path_factory.mktemp("odd"))


@pytest.fixture(scope="module")
def context(authority, certificates):
    own = certificates.server
    return TlsContext(
        TlsSettings(certificate=str(own.path), key=str(own.key), client_ca=str(authority.ca), client_names=NAMES),
        ("tls",),
    )


def shake(context, client, **more):
    """Both sides of a handshake, as far as it goes, and how much lies unread before the client then."""
    here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
    server, end = context.wrap(there, here), client.wrap_bio(here, there, server_hostname="localhost", **more)
    for _ in range(6):
        for one in (end, server):
            with suppress(ssl.SSLWantReadError):
                one.do_handshake()
    return server, end, here.pending


def shaken(context, ca, own, version=None):
    """The server's side, of a client with a certificate of its own."""
    client = context_of(ca, version)
    client.load_cert_chain(*own)
    return shake(context, client)[0]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", ODD)
def test_whatever_a_certificate_holds(context, authority, certificates, kind, version):
    what, refused = ODD[kind]
    own = authority.issue(*what)
    began = time.monotonic()
    said = None
    try:
        context.check(shaken(context, certificates.ca, own, version))
    except (CertificateError, *FAILURES) as error:
        said = words(error)
    assert time.monotonic() - began < 2
    assert said is None if refused is None else said.startswith(refused), said
    assert len(said or "") < 1_000


def test_a_certificate_of_our_own_that_python_does_not_read(authority, tmp_path):
    odd = authority.issue(*ODD["a DNS name"][0])
    TlsContext(TlsSettings(certificate=str(odd.path), key=str(odd.key)), ("tls",))


def test_a_key_with_a_password_is_refused(certificates, tmp_path):
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkey", "-in", certificates.server.key, "-aes128", "-passout", "pass:secret", "-out", locked],
        check=True,
    )
    settings = TlsSettings(certificate=str(certificates.server.path), key=str(locked))
    with pytest.raises(ConfigurationError, match=r"tls\.key: it is encrypted"):
        TlsContext(settings, ("tls",))


@pytest.mark.parametrize(
    ("one", "pattern"),
    [
        ("alice.example", "alice.example"),
        ("a.hosts.example", "*.hosts.example"),
        ("a.b.hosts.example", ""),
        (".hosts.example", ""),
        ("hosts.example", ""),
        ("example", ""),
        ("", ""),
    ],
)
def test_one_label(one, pattern):
    assert best_match(one, set(NAMES)) == pattern


def test_names_are_text():
    certificate = {
        "subject": ((("commonName", "One"),), (("commonName", b"\xff"), ("commonName", "two\n"))),
        "subjectAltName": (("DNS", "TWO.Example"), ("URI", "x"), ("IP Address", "::1"), ("DNS", "a\0b")),
    }
    assert certificate_names(certificate) == ["two.example", "::1", "one"]
    assert certificate_names({}) == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("number", [0, 2])
def test_no_tickets_unless_asked_for(certificates, version, number):
    own = certificates.server
    context = TlsContext(TlsSettings(certificate=str(own.path), key=str(own.key), session_tickets=number), ("tls",))
    client = context_of(certificates.ca, version)
    _, end, unread = shake(context, client)
    assert (unread > 0) == (number > 0 and version is ssl.TLSVersion.TLSv1_3)
    with pytest.raises(ssl.SSLWantReadError):
        end.read(1)
    assert end.session.has_ticket == (number > 0)
    _, again, _ = shake(context, client, session=end.session)
    assert again.session_reused or number == 0


def test_a_certificate_past_openssls_own_bound(context, authority, certificates):
    own = authority.issue(name(tlv(UTF8, b"x" * 200_000)))  # SSL_CTX_set_max_cert_list(3): 100 KB
    with pytest.raises(ssl.SSLError):
        shaken(context, certificates.ca, own)
