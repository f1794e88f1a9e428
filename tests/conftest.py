"""Fixtures of all tests.

`serve` and `client` to talk to a daemon, `daemon` to watch one from outside, `background` for one in the background.
"""

pytest_plugins = ["serving", "watching", "background"]
