# SPDX-License-Identifier: MIT
"""TLS: contexts, handshakes, and what carries bytes in and out."""
