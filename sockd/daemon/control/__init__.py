# SPDX-License-Identifier: MIT
"""The control socket and the pages: what a running daemon is asked and told."""
