# SPDX-License-Identifier: MIT
"""Sockets and readiness."""
