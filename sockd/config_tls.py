"""What the text of `tls = { ... }` alone can tell; the files are read when the configuration is planned."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sockd.config_values import Problem, show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sockd.settings import ListenSettings
    from sockd.toml_text import KeyPath

MAX_ALPN_BYTES = 255
"""RFC 7301, 3.1: opaque ProtocolName<1..2^8-1>."""


def check_tls(path: KeyPath, listen: ListenSettings) -> Iterator[Problem]:
    """Look at what can be seen before any file is read."""
    tls, here = listen.tls, (*path, "tls")
    if tls is None:
        return
    if not tls.certificate:
        yield Problem((*here, "certificate"), 'is missing; write certificate = "/path"', missing=("certificate",))
    files = {"certificate": tls.certificate, "key": tls.key, "client_ca": tls.client_ca}
    for key, file in files.items():
        if file and not os.path.isabs(file):
            yield Problem((*here, key), f"{show(file)} is no absolute path", file)
    for index, text in enumerate(tls.others):
        name, _, file = text.partition("=")
        if not name or not os.path.isabs(file):
            problem = f'{show(text)} is not NAME=/path, such as "www.example.com=/etc/ssl/www.pem"'
            yield Problem((*here, "others", index), problem, text)
    if tls.client_names and tls.client_ca is None:
        text = "says which certificates of clients are let in, and nobody vouches for them; add client_ca"
        yield Problem((*here, "client_names"), text)
    for index, text in enumerate(tls.alpn):
        if not (text.isascii() and 0 < len(text) <= MAX_ALPN_BYTES):
            yield Problem((*here, "alpn", index), f"{show(text)} is not 1 to {MAX_ALPN_BYTES} ASCII characters", text)
    for address in (*listen.addresses, *((listen.address,) if listen.address else ())):
        if address.startswith(("udp:", "unixgram:")):
            text = f"is for streams, and {show(address)} takes datagrams; give it a [[listen]] of its own"
            yield Problem(here, text)
