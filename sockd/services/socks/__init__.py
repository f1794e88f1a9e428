"""A SOCKS server as a service: versions 4, 4a and 5; CONNECT, BIND and UDP ASSOCIATE (FAQ III.2)."""

from sockd.services.socks.server import Server
from sockd.services.socks.users import UsersFile

__all__ = ["Server", "UsersFile"]
