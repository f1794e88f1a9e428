# SPDX-License-Identifier: MIT
"""Several serving processes, and their supervisor."""
