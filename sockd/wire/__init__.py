# SPDX-License-Identifier: MIT
"""Bytes in, events out: nothing in here touches a socket, a clock or the system."""
