# SPDX-License-Identifier: MIT
"""Upgrade: one process hands over to the next.  The order of messages is in messages.py."""
