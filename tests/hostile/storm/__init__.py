"""A storm: hostile clients of every kind against a daemon of every kind of service, and honest ones beside them.

    python tests/hostile/storm --seconds 60 --seed 7 --workers 2 --multiplexer poll
    python tests/hostile/storm --seed 7 --only 1234 1240      these clients alone, and what they did

All dice come from the seed; a client's also from its number.
"""
