# SPDX-License-Identifier: MIT
"""A SOCKS server as a service: versions 4, 4a and 5; CONNECT, BIND and UDP ASSOCIATE (FAQ III.2)."""

from sockd.services.socks.server import SocksService
from sockd.services.socks.users import UsersFile

__all__ = ["SocksService", "UsersFile"]
