# SPDX-License-Identifier: MIT
"""Formats and targets of the log."""
