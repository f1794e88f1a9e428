# SPDX-License-Identifier: MIT
"""Fixtures of all tests.

`serve` and `client` to talk to a daemon, `daemon` to watch one from outside, `background` for one in the background,
`managed` for one that a service manager started, `machine` for a whole systemd, `talk` for programs of others, `target`
for a relay's, `elsewhere` for addresses that are not this host's own.
"""

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
    "networks",
    "quick",
    "in_process",
]
