"""A defect of our own in sockd, planted from outside: filled in below."""
