"""Whether an address could be bound: tried without listening, so that no client can meet what is not served."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from sockd.errors import SockdError
from sockd.net.options import set_options
from sockd.net.sockets import explain

if TYPE_CHECKING:
    from sockd.net.address import Address
    from sockd.net.endpoint import Endpoint
    from sockd.settings import ListenSettings


def why_not(address: Address, settings: ListenSettings) -> str:
    """Say what stands in the way of an address; empty when nothing does.  BLOCKS while a name is looked up."""
    try:
        for endpoint in address.endpoints(passive=True):
            if isinstance(endpoint.sockaddr, str):
                _try_path(endpoint.sockaddr, endpoint)
            else:
                _try(endpoint, settings)
    except OSError as error:
        return str(explain(error, endpoint))
    except SockdError as error:
        return str(error)
    return ""


def _try(endpoint: Endpoint, settings: ListenSettings) -> None:
    with socket.socket(endpoint.family, endpoint.type, endpoint.proto) as sock:
        endpoint = set_options(sock, endpoint, settings)
        sock.bind(endpoint.sockaddr)


def _try_path(path: str, endpoint: Endpoint) -> None:
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise FileNotFoundError(2, "No such file or directory")
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(13, "Permission denied")
