# SPDX-License-Identifier: MIT
"""`sockctl selftest`: the rows of the FAQ that need no root, tested on loopback against a daemon of its own."""

from sockd.selftest.runner import CHECKS, Check, run

__all__ = ["CHECKS", "Check", "run"]
