# SPDX-License-Identifier: MIT
"""A Gopher server (RFC 1436) of the files below a directory.

In this directory, then in another terminal:

    sockd --foreground --listen tcp://127.0.0.1:7070=gopher:service
    curl gopher://127.0.0.1:7070/
    curl gopher://127.0.0.1:7070/0/gopher.py

The directory is the current one, or the one that $GOPHER_ROOT names.  What begins with a dot is neither shown nor sent.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import sockd

ROOT = Path(os.environ.get("GOPHER_ROOT", ".")).resolve()
MAX_FILE_BYTES = 8 * 1024 * 1024  # a file is sent from memory
TYPES = {".txt": "0", ".md": "0", ".py": "0", ".gif": "g", ".png": "I", ".jpg": "I", ".html": "h"}
BINARY = "9"  # RFC 1436, 3.8
NOT_HERE = b"3There is no such thing here\t\terror.host\t1\r\n."

# max_buffer bounds what a client that asks and does not read can cost.
service = sockd.Service(
    framing=sockd.Line(1024, b"\r\n"), frame_timeout=10, max_connections=100, max_buffer=2 * MAX_FILE_BYTES
)


def find(selector: str) -> Path:
    """Return what a selector names.

    Raises:
        FileNotFoundError: it does not exist, hidden, or not below the root.
        OSError, ValueError: it is no name of a file.
    """
    path = (ROOT / selector.lstrip("/")).resolve()  # `..` and links are followed before anything is decided
    if not path.is_relative_to(ROOT) or any(part.startswith(".") for part in path.relative_to(ROOT).parts):
        raise FileNotFoundError(selector)
    return path


def items(directory: Path, host: str, port: int) -> Iterator[str]:
    """Yield the items of a menu: type and name, selector, and where to ask for it (RFC 1436, 3.9)."""
    for path in sorted(directory.iterdir()):
        selector = f"/{path.relative_to(ROOT)}"
        if selector.isprintable() and not path.name.startswith("."):  # a tab or a line's end would forge items
            kind = "1" if path.is_dir() else TYPES.get(path.suffix, BINARY)
            yield f"{kind}{path.name}\t{selector}\t{host}\t{port}"


def content(path: Path, host: str, port: int) -> bytes:
    """Return the menu of a directory, or a file as it is: a client reads it to the end of the connection."""
    if path.is_dir():
        return "".join(f"{item}\r\n" for item in [*items(path, host, port), "."]).encode()
    if path.stat().st_size > MAX_FILE_BYTES:
        raise FileNotFoundError(path)
    return path.read_bytes()


@service.frame
def answer(line: bytes, connection: sockd.Connection) -> None:
    """Answer the one selector of a connection, and end it."""
    selector = line.partition(b"\t")[0]  # behind a tab stands what to search for, and here is nothing to search
    host, port = connection.get_extra_info("sockname")[:2]
    try:
        connection.write(content(find(selector.decode()), host, port))
    except (OSError, ValueError):
        connection.reply(NOT_HERE)
    connection.close()
