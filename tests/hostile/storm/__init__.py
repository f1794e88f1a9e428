# SPDX-License-Identifier: MIT
"""A storm: hostile clients of every kind against a daemon of every kind of service, and honest ones beside them.

    python tests/hostile/storm --seconds 60 --seed 7 --workers 2 --multiplexer poll
    python tests/hostile/storm --seed 7 --only 1234 1240      these clients alone, and what they did

All dice come from the seed; a client's also from its number.  `--tame`, `--rows`, `--honest`, `--troubles` and
`--spared` leave things out, to find out what a fault needs; `--go-on` shows what comes behind the first; `--planted`
gives sockd a defect.  Tests: test_storm.py.

    services.py  certificates.py    what is served: a listener for each kind, framing and way
    handlers.py  raises.py  verbs.py  planted.py    copied beside the daemon: handlers that do what frames ask for
    crowd.py  clients.py  frames.py  headers.py  peers.py    hostile clients, in processes of their own
    honest.py  at_once.py  rude.py    honest ones, and a target of relays that is rude to others
    asking.py  victims.py    what befalls the daemon; a defect's victim
    run.py  watched.py  verdict.py  machine.py  gate.py    all of it together

What it finds in a sockd that has these faults, seen on one of which every part was sound but for them:

    at once, within two seconds     a peer with a PROXY header's Unix path, or with an abstract or autobound name; every
                                    exception that is no Exception, at every callback; PROXY headers nested a thousand
                                    deep; SOCKS clients that go as their connection stands; deep JSON at the control
                                    socket; a reload of a handler that exits; exceptions that cannot be printed
    within ten seconds              clients' certificates with names that cannot be decoded; UNSPEC headers with
                                    addresses; replies of odd classes; a source that is refused for good
    within a minute                 `close ID` of a connection whose number has gone to another; descriptors that
                                    workers inherit; pages that wait for a worker
"""
