# SPDX-License-Identifier: MIT
"""Certificates of the storm: the server's, an honest client's, and clients' whose names are odd."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from certificates import Certificate, make

if TYPE_CHECKING:
    from pathlib import Path

ODD_NAMES = {
    "not-utf8": "DER:30:08:82:06:61:ff:fe:62:2e:63",
    "nul-inside": "DER:30:07:82:05:61:00:62:2e:63",
    "empty-name": "DER:30:02:82:00",
    "no-names": "DER:30:00",
    "address-of-5": "DER:30:07:87:05:7f:00:00:01:02",
    "address-of-0": "DER:30:02:87:00",
    "uri": "DER:30:07:86:05:ff:00:2f:2f:0a",
    "mail": "DER:30:06:81:04:ff:40:0a:61",
    "line-feed": "DER:30:07:82:05:61:0a:62:0d:63",
    "object": "DER:30:04:88:02:2a:03",
    "empty-object": "DER:30:02:88:00",
    "other-name": "otherName:1.2.3.4;UTF8:odd",
    "directory": "DER:30:16:a4:14:30:12:31:10:30:0e:06:03:55:04:03:1e:07:d8:00:00:41:00:00:ff",
    "bad-directory": "DER:30:06:a4:04:30:02:31:00",
    "no-sequence": "DER:04:02:61:62",
    "long": "DER:30:82:01:30:82:82:01:2c:" + ":".join(["61"] * 300),
    "many": ",".join(f"DNS:{number}.example" for number in range(500)),
    "wildcard": "DNS:*.*.example,DNS:*",
}
"""subjectAltName of a certificate, as openssl(1) takes it (RFC 5280, 4.2.1.6)."""
ODD_SUBJECTS = {
    "no-subject": "/",
    "two-names": "/CN=one/CN=two/CN=three",
    "long-name": "/CN=" + "x" * 64,
    "slashes": r"/CN=a\/b\\c\=d",
    "other-fields": "/C=XX/O=o/OU=u/emailAddress=a@b/serialNumber=7",
}


@dataclass
class Certificates:
    ca: Path
    server: Certificate
    client: Certificate
    odd: dict[str, Certificate] = field(default_factory=dict)


def all_of(directory: Path) -> Certificates:
    """Make them in a directory."""
    authority = make(directory, "authority", ca=True)
    stranger = make(directory, "stranger", ca=True)
    made = Certificates(
        authority.path,
        make(directory, "localhost", issuer=authority),
        make(directory, "alice.example", issuer=authority),
        {"of-a-stranger": make(directory, "mallory.example", issuer=stranger), "self": stranger},
    )
    for name, names in ODD_NAMES.items():
        made.odd[name] = _odd(directory, name, authority, f"/CN={name}", f"subjectAltName={names}")
    for name, subject in ODD_SUBJECTS.items():
        made.odd[name] = _odd(directory, name, authority, subject, "subjectAltName=DNS:alice.example")
    return made


def _odd(directory: Path, name: str, authority: Certificate, subject: str, extension: str) -> Certificate:
    made = Certificate(directory / f"{name}.pem", directory / f"{name}.key")
    if extension.startswith("subjectAltName=DER:"):
        extension = "2.5.29.17=" + extension.partition("=")[2]
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
    words += ["-keyout", made.key, "-out", made.path, "-subj", subject, "-addext", extension]
    words += ["-CA", authority.path, "-CAkey", authority.key]
    subprocess.run(list(map(str, words)), check=True, capture_output=True)
    return made
