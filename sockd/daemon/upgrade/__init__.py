"""One process hands over to the next."""
