# SPDX-License-Identifier: MIT
"""The control socket and the pages: queries and commands of a running daemon."""
