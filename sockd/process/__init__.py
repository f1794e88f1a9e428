"""The process: signals, and restarting it when a source file changes."""
