"""The verbs of sockctl and of sockd, one module each."""
