# SPDX-License-Identifier: MIT
"""Certificates made by openssl(1) while tests run; nothing of them is kept."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from pathlib import Path


class Certificate(NamedTuple):
    """Files of one certificate."""

    path: Path
    key: Path


def make(
    directory: Path, name: str, *, issuer: Certificate | None = None, days: int = 30, ca: bool = False
) -> Certificate:
    made = Certificate(directory / f"{name}.pem", directory / f"{name}.key")
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    new += ["-keyout", made.key, "-out", made.path, "-days", str(days), "-subj", f"/CN={name}"]
    new += ["-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1,IP:::1"]
    new += ["-addext", f"basicConstraints=critical,CA:{str(ca).upper()}"]
    if ca:  # without it, Python 3.13 does not trust it (RFC 5280, 4.2.1.3)
        new += ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    if issuer is not None:
        new += ["-CA", issuer.path, "-CAkey", issuer.key]
    subprocess.run(list(map(str, new)), check=True, capture_output=True)
    return made


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """One authority, a server's certificate, another name's and a client's."""
    if shutil.which("openssl") is None:
        pytest.skip("package openssl is missing")
    directory = tmp_path_factory.mktemp("certificates")
    authority = make(directory, "authority", ca=True)

    class Made:
        ca = authority.path
        server = make(directory, "localhost", issuer=authority)
        other = make(directory, "other.example", issuer=authority)
        client = make(directory, "alice.example", issuer=authority)

        @staticmethod
        def new(name="localhost", where=directory, **more):
            return make(where, name, issuer=authority, **more)

    return Made
