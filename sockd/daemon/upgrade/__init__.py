# SPDX-License-Identifier: MIT
"""One process hands over to the next."""
