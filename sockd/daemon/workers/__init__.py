"""Several processes that serve, and their supervisor."""
