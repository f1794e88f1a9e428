# SPDX-License-Identifier: MIT
"""Pairs of connections whose bytes pass through."""
