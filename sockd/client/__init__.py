# SPDX-License-Identifier: MIT
"""The far side of a socket: sockctl connect."""
