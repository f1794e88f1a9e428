# SPDX-License-Identifier: MIT
"""Fixtures of all tests.

`serve` and `client` to talk to a daemon, `daemon` to watch one from outside, `background` for one in the background,
`managed` for one that a service manager started, `machine` for a whole systemd, `talk` for programs of others, `target`
for a relay's, `elsewhere` for addresses that are not this host's own, `browser` for a real Chromium.
"""

import gc
import signal

import pytest

# A shell in the background, nohup(1) and the like would have every program here ignore them.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = [
    "serving",
    "certificates",
    "watching",
    "background",
    "manager",
    "machine",
    "programs",
    "targets",
    "balancer",
    "browser",
    "networks",
    "quick",
    "in_process",
]


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Leave what is collected, 200 MB, out of collections of garbage: each cost 0.4 s, and tests ask for hundreds."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()
