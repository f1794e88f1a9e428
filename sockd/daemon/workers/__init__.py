# SPDX-License-Identifier: MIT
"""Several processes that serve, and their supervisor."""
