# SPDX-License-Identifier: MIT
"""TOML and command line to Settings: every rule, and every message with its line.  No sockets, no imports of
handlers.
"""
