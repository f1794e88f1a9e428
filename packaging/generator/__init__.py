"""What packaging/generate writes, a module each."""
