# SPDX-License-Identifier: MIT
"""A relay as a service: each connection is connected to a target, and the bytes are moved both ways (FAQ III.5)."""

from sockd.services.relay.server import RelayService

__all__ = ["RelayService"]
