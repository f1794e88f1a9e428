# SPDX-License-Identifier: MIT
"""What frames ask handlers of the storm for: a letter, and two digits for NN."""

VERBS = {
    "s": "say it again",
    "b": "raise NN",
    "w": "return NN, which is no reply",
    "n": "answer nothing",
    "g": "answer NN kB",
    "z": "hold up the loop for NN ms",
    "l": "raise NN in a timer's callback",
    "a": "raise NN in the callback that the next letter names",
    "p": "pause reading, and go on in a timer",
    "e": "end our side",
    "x": "abort",
    "q": "close",
    "t": "set timers and take them back",
    "i": "ask for all that can be asked of a connection",
    "f": "go on by framing NN",
    "y": "go on encrypted",
    "o": "hand over to another object",
    "m": "write NN, which is not bytes",
    "h": "change the water marks",
    "d": "use a connection that has ended",
    "j": "have a task or a callback of asyncio raise NN",
    "c": "cancel the task that serves",
}
CALLBACKS = {"l": "lost", "e": "eof", "p": "pause", "r": "resume", "k": "snapshot", "v": "restore"}
