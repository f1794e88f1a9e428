# SPDX-License-Identifier: MIT
"""What packaging/generate writes, a module each."""
