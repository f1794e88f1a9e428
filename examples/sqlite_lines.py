# SPDX-License-Identifier: MIT
"""Counts in a SQLite file how often each line was said: functions that block, in threads.

In this directory:

    sockd --foreground --listen tcp://127.0.0.1:7000=sqlite_lines:service
    printf 'milk\\nbread\\nmilk\\n' | sockctl connect tcp://127.0.0.1:7000
    sqlite3 said.db 'SELECT * FROM said'

which prints `1`, `1`, `2`, then the table.  What was answered is on disk.  The file is said.db, or the one that
$SQLITE_LINES_FILE names; aiosqlite_lines.py does the same by a coroutine, with the same file if it must.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from queue import Empty, LifoQueue

import sockd

FILE = os.environ.get("SQLITE_LINES_FILE", "said.db")
LOCKED_SECONDS = 10.0  # one writes at a time; another waits so long for its turn
TABLE = "CREATE TABLE IF NOT EXISTS said (line TEXT PRIMARY KEY, times INTEGER NOT NULL) WITHOUT ROWID"
COUNT = "INSERT INTO said VALUES (?, 1) ON CONFLICT (line) DO UPDATE SET times = times + 1 RETURNING times"

service = sockd.Service(framing=sockd.Line(1024), text="utf-8", blocking=True)

unused: LifoQueue[sqlite3.Connection] = LifoQueue()
"""Connections that no call works with; there are never more of them than threads."""


def connect() -> sqlite3.Connection:
    """Open the file for one call at a time, of whatever thread."""
    database = sqlite3.connect(FILE, timeout=LOCKED_SECONDS, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")  # readers, as sqlite3(1), do not wait for writers
    return database


@contextmanager
def transaction() -> Iterator[sqlite3.Connection]:
    """Lend a connection; what is done with it is done as a whole, or not at all."""
    try:
        database = unused.get_nowait()
    except Empty:
        database = connect()
    try:
        database.execute("BEGIN IMMEDIATE")  # waits for the turn to write here, not in the middle
        yield database
        database.execute("COMMIT")
    except BaseException:
        database.close()  # which undoes what was not committed
        raise
    unused.put(database)


@service.startup
def create() -> None:
    """Make the table: a file that cannot be written stops the start, not the first client."""
    with closing(connect()) as database:
        database.execute(TABLE)


@service.shutdown
def close() -> None:
    """Close what is open: the last one takes the write-ahead log away."""
    while not unused.empty():
        unused.get().close()


@service.frames
def answers(lines: list[str]) -> list[str]:
    """Count all lines that have come from one client by one transaction, and so with one wait for the disk."""
    with transaction() as database:
        return [str(times) for line in lines for (times,) in database.execute(COUNT, (line,)).fetchall()]
