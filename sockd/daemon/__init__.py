"""One serving process: start, listeners, reload, drain."""
