# SPDX-License-Identifier: MIT
"""The event loop, its timers and threads, and what guards it."""
