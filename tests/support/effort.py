# SPDX-License-Identifier: MIT
"""What work costs, so that a test can say that twice the input costs no more than twice the work."""

from __future__ import annotations

import sys
import time

MOST_GROWTH = 2.2
"""Of the cost when the input doubles: linear, and a little for what is rounded; the least quadratic is near 4."""


def steps(function, *arguments):
    """Lines of Python that a call executes: the same number on every machine, however busy."""
    count = 0

    def trace(_frame, event, _argument):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function(*arguments)
    except Exception:
        pass
    finally:
        sys.settrace(before)
    return count


def seconds(function, *arguments, times=5):
    """Processor time of a call, the least of several: for what is done in C, where lines tell nothing."""
    least = float("inf")
    for _ in range(times):
        began = time.thread_time()
        function(*arguments)
        least = min(least, time.thread_time() - began)
    return least
