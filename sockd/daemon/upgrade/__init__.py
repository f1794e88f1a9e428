# SPDX-License-Identifier: MIT
"""Upgrade: one process hands over to the next.  The order of messages is in messages.py."""

UPGRADE_VARIABLE = "SOCKD_UPGRADE_FD"
"""Number of the descriptor of the channel to the previous process; only that process sets it."""

__all__ = ["UPGRADE_VARIABLE"]
