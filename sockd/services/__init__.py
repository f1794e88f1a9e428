# SPDX-License-Identifier: MIT
"""What a listener can serve."""
