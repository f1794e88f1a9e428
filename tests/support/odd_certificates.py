# SPDX-License-Identifier: MIT
"""Certificates with anything in them: DER is written here, and signed by openssl(1).

Source: RFC 5280, 4.1 and 4.2.1.6; X.690 for DER.
"""

from __future__ import annotations

import ssl
import subprocess
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

EC = ("-pkeyopt", "ec_paramgen_curve:P-256")
CN, SAN, AUTHORITY_INFORMATION, REVOCATION_LISTS = "2.5.4.3", "2.5.29.17", "1.3.6.1.5.5.7.1.1", "2.5.29.31"
UTF8, T61, BITS = 0x0C, 0x14, 0x03
OTHER, EMAIL, DNS, X400, EDI, URI, IP, REGISTERED = 0xA0, 0x81, 0x82, 0xA3, 0xA5, 0x86, 0x87, 0x88
"""Tags of GeneralName, RFC 5280, 4.2.1.6."""


def tlv(tag: int, *parts: bytes) -> bytes:
    """One value: tag, length, contents."""
    body = b"".join(parts)
    size = len(body)
    if size < 0x80:
        return bytes((tag, size)) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + body


def sequence(*parts: bytes) -> bytes:
    return tlv(0x30, *parts)


def oid(text: str) -> bytes:
    first, second, *others = map(int, text.split("."))
    arcs = [first * 40 + second, *others]
    return tlv(0x06, *(_arc(arc) for arc in arcs))


def _arc(arc: int) -> bytes:
    digits = [arc & 0x7F]
    while arc := arc >> 7:
        digits.append(0x80 | arc & 0x7F)
    return bytes(reversed(digits))


def name(*values: bytes) -> bytes:
    """A distinguished name of common names, each written as it is."""
    return sequence(*(tlv(0x31, sequence(oid(CN), value)) for value in values))


def text_name(text: str) -> bytes:
    return name(tlv(UTF8, text.encode()))


def dns(*names: bytes) -> bytes:
    """A subjectAltName of DNS names."""
    return sequence(*(tlv(DNS, one) for one in names))


def extension(kind: str, value: bytes) -> bytes:
    return sequence(oid(kind), tlv(0x04, value))


class Issued(NamedTuple):
    """Files of one certificate."""

    path: Path
    key: Path


class Authority:
    """Signs whatever it is given.

    Args:
        directory: of its files.

    Attributes:
        ca: its certificate.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.ca, self._key = directory / "odd-ca.pem", directory / "odd-ca.key"
        new = ["openssl", "req", "-x509", "-newkey", "ec", *EC, "-nodes", "-days", "30", "-subj", "/CN=odd authority"]
        new += ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"]
        _run(*new, "-keyout", self._key, "-out", self.ca)
        self._own = directory / "odd.key"
        _run("openssl", "genpkey", "-algorithm", "EC", *EC, "-out", self._own)
        self._public = _run("openssl", "pkey", "-in", self._own, "-pubout", "-outform", "DER")

    def issue(self, subject: bytes, names: bytes | None = None, *extensions: bytes) -> Issued:
        """A certificate with this subject, this subjectAltName and what other extensions are given."""
        algorithm = sequence(oid("1.2.840.10045.4.3.2"))  # ecdsa-with-SHA256
        times = sequence(tlv(0x17, b"250101000000Z"), tlv(0x17, b"491231235959Z"))
        also = (*((extension(SAN, names),) if names is not None else ()), *extensions)
        body = sequence(
            tlv(0xA0, tlv(0x02, b"\2")),  # version 3
            tlv(0x02, b"\x11"),
            algorithm,
            text_name("odd authority"),
            times,
            subject,
            self._public,
            *((tlv(0xA3, sequence(*also)),) if also else ()),
        )
        signed = self._directory / "to-be-signed"
        signed.write_bytes(body)
        signature = _run("openssl", "dgst", "-sha256", "-sign", self._key, signed)
        path = self._directory / f"odd{sum(1 for _ in self._directory.iterdir())}.pem"
        path.write_text(ssl.DER_cert_to_PEM_cert(sequence(body, algorithm, tlv(0x03, b"\0", signature))))
        return Issued(path, self._own)


def _run(*words) -> bytes:
    return subprocess.run(list(map(str, words)), check=True, capture_output=True).stdout


ALICE = text_name("alice.example")
BAD = b"a\xff\xfe.c"
"""What no UTF-8 is."""
NOT_UTF8 = "its certificate cannot be read: it contains bytes that are not UTF-8"
UNREAD = "its certificate cannot be read: "
NONE_OF_THEM = "no name of its certificate is in tls.client_names: "

ODD: dict[str, tuple[tuple[bytes, ...], str | None]] = {
    "nothing odd": ((ALICE,), None),
    "nothing odd, of DNS": ((text_name("bob"), dns(b"ALICE.example")), None),
    "a DNS name": ((ALICE, dns(BAD)), NOT_UTF8),
    "an address of mail": ((ALICE, sequence(tlv(EMAIL, BAD))), NOT_UTF8),
    "a URI": ((ALICE, sequence(tlv(URI, BAD))), NOT_UTF8),
    "where its authority answers": (
        (
            ALICE,
            dns(b"a"),
            extension(AUTHORITY_INFORMATION, sequence(sequence(oid("1.3.6.1.5.5.7.48.1"), tlv(URI, BAD)))),
        ),
        NOT_UTF8,
    ),
    "where its authority revokes": (
        (ALICE, dns(b"a"), extension(REVOCATION_LISTS, sequence(sequence(tlv(0xA0, tlv(0xA0, tlv(URI, BAD))))))),
        NOT_UTF8,
    ),
    "NUL in a DNS name": ((text_name("bob"), dns(b"alice.example\0.evil", b"x\0.hosts.example")), NONE_OF_THEM + "bob"),
    "NUL in the common name": ((name(tlv(UTF8, b"alice.example\0")),), NONE_OF_THEM + "it has none"),
    "a common name of bits": ((name(tlv(BITS, b"\0\xff\xff")),), NONE_OF_THEM + "it has none"),
    "a common name of Latin": ((name(tlv(T61, b"al\xffce")),), NONE_OF_THEM + "al\xffce"),
    "a common name with parts": ((name(sequence(tlv(UTF8, b"alice.example"))),), UNREAD),
    "a Kelvin sign": ((text_name("\u212aate"),), NONE_OF_THEM + "\u212aate"),
    "no subject": ((sequence(),), NONE_OF_THEM + "it has none"),
    "no subject, but a DNS name": ((sequence(), dns(b"alice.example")), None),
    "no names": ((ALICE, dns()), None),
    "an address of three bytes": ((ALICE, sequence(tlv(IP, b"abc"))), None),
    "a name of a kind of its own": (
        (ALICE, sequence(tlv(OTHER, oid("1.2.3.4"), tlv(0xA0, tlv(UTF8, BAD))))),
        None,
    ),
    "an X.400 address": ((ALICE, sequence(tlv(X400, sequence()))), None),
    "a name of EDI": ((ALICE, sequence(tlv(EDI, tlv(0xA1, tlv(UTF8, b"x"))))), None),
    "a registered identifier": ((ALICE, sequence(tlv(REGISTERED, b"\x2a\x03"))), None),
    "a long registered identifier": ((ALICE, sequence(tlv(REGISTERED, b"\x2a" + b"\x81" * 3000 + b"\1"))), UNREAD),
    "a long common name": ((name(tlv(UTF8, b"x" * 60_000)),), NONE_OF_THEM + "x" * 100),
    "many names": ((ALICE, dns(*(b"a%d.b" % i for i in range(999)))), None),
    "too many names": (
        (ALICE, dns(*(b"a%d.b" % i for i in range(6_000)))),
        "its certificate has 6001 names, more than 1000",
    ),
    "very many empty names": (
        (ALICE, dns(*([b""] * 25_000))),
        "its certificate has 25001 names, more than 1000",
    ),
}
"""Of each: subject, names and other extensions, and what is said where the client is refused."""
