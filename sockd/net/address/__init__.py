# SPDX-License-Identifier: MIT
"""Addresses: their text, their sockaddr."""
