"""The far side of a socket: sockctl connect."""
