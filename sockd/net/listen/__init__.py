# SPDX-License-Identifier: MIT
"""Accepting: listeners, admission, PROXY headers, overload."""
