"""Fixtures of all tests: `serve` and `client` to talk to a daemon, `daemon` to watch one from outside."""

pytest_plugins = ["serving", "watching"]
