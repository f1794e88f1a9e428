# SPDX-License-Identifier: MIT
"""Datagrams."""
