# SPDX-License-Identifier: MIT
"""The process: signals, and restarting it when a source file changes."""
