# SPDX-License-Identifier: MIT
"""Counts in a SQLite file how often each line was said: a coroutine for each client, with the library aiosqlite.

In this directory:

    pip install aiosqlite
    sockd --foreground --listen tcp://127.0.0.1:7000=aiosqlite_lines:service
    printf 'milk\\nbread\\nmilk\\n' | sockctl connect tcp://127.0.0.1:7000
    sqlite3 said.db 'SELECT * FROM said'

which prints `1`, `1`, `2`, then the table.  What was answered is on disk.  The file is said.db, or the one that
$SQLITE_LINES_FILE names; sqlite_lines.py does the same by functions in threads.
"""

import asyncio
import os

import aiosqlite

import sockd

FILE = os.environ.get("SQLITE_LINES_FILE", "said.db")
LOCKED_SECONDS = 10.0  # should another process write, too
TABLE = "CREATE TABLE IF NOT EXISTS said (line TEXT PRIMARY KEY, times INTEGER NOT NULL) WITHOUT ROWID"
COUNT = "INSERT INTO said VALUES (?, 1) ON CONFLICT (line) DO UPDATE SET times = times + 1 RETURNING times"


class Counter:
    """The one connection to the file, for all clients: a thread of aiosqlite does in order what it is asked."""

    _database: aiosqlite.Connection

    async def open(self) -> None:
        """Open the file, and make the table."""
        self._database = await aiosqlite.connect(FILE, timeout=LOCKED_SECONDS, isolation_level=None)
        await self._database.execute("PRAGMA journal_mode = WAL")  # readers, as sqlite3(1), do not wait for writers
        await self._database.execute(TABLE)

    async def close(self) -> None:
        """Close the file, which takes the write-ahead log away."""
        await self._database.close()

    async def session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client line by line.

        A statement is a transaction of its own here; one of several statements would need a connection of its own,
        for those of other clients come in between at every await.
        """
        async for line in reader:
            ((times,),) = await self._database.execute_fetchall(COUNT, (line.rstrip(b"\r\n").decode(),))
            writer.write(b"%d\n" % times)
            await writer.drain()


counter = Counter()
service = sockd.Service(framing=sockd.Line(1024))
service.startup(counter.open)
service.shutdown(counter.close)
service.session(counter.session)
