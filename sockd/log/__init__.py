# SPDX-License-Identifier: MIT
"""Formats and targets of the log.  No sockets of clients, no settings of its own."""
