# SPDX-License-Identifier: MIT
"""What get_extra_info() answers of a connection whose peer has begun another handshake.

Seen to fail with the ValueError of ssl let through: the connection's end was counted as a defect of sockd.
"""

from __future__ import annotations

import ssl
from types import SimpleNamespace

from sockd.net.connection.extra_info import extra_info


def test_there_is_no_certificate_while_a_handshake_is_not_done():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    near = SimpleNamespace(ssl_object=context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True))
    connections = SimpleNamespace(tls=SimpleNamespace(find=lambda id: near))
    connection = SimpleNamespace(id=0)
    assert extra_info(connection, connections, "peercert") is None
    assert extra_info(connection, connections, "ssl_object") is near.ssl_object
