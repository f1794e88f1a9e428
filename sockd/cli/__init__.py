"""Two commands, their verbs, and what they print: argv in, exit code out."""
