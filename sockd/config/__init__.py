# SPDX-License-Identifier: MIT
"""TOML and command line to Settings: every rule, every message with its line."""
