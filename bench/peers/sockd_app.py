"""A line in, the line in upper case out, as a sockd handler.

By hand, in this folder:

    sockd --foreground --listen tcp://127.0.0.1:7000=sockd_app:upper
"""


def upper(line: bytes) -> bytes:
    return line.upper()
