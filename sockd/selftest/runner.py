# SPDX-License-Identifier: MIT
"""The table of checks, and the table that is printed: one line a question."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, NamedTuple, TextIO

from sockd.errors import SockdError
from sockd.selftest import part_ii, part_iii, part_iv, part_processes
from sockd.selftest.daemon_process import CheckFailed
from sockd.selftest.fixture import Fixture
from sockd.selftest.peer import Skip

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Check(NamedTuple):
    """A row of the contract: its number, its question in a few words, and what is tried."""

    row: str
    question: str
    look: Callable[[Fixture], str]


CHECKS = (
    Check("I.3", "kinds of sockets", part_ii.kinds_of_sockets),
    Check("I.4", "partial reads and writes", part_ii.partial_reads_and_writes),
    Check("II.1", "closed on the other end", part_ii.closed_on_the_other_end),
    Check("II.2", "the address structures", part_ii.address_structures),
    Check("II.3", "port of a service", part_ii.port_of_a_service),
    Check("II.4", "bind() failed", part_ii.bind_failed),
    Check("II.5", "proper close", part_ii.proper_close),
    Check("II.6", "shutdown()", part_ii.half_close),
    Check("II.7", "TIME_WAIT", part_ii.time_wait),
    Check("II.8", "peer died", part_ii.peer_died),
    Check("II.9", "readiness", part_ii.readiness),
    Check("II.10", "accept() fails", part_ii.accept_survives),
    Check("II.11", "force out the buffer", part_ii.one_send),
    Check("II.13", "readable, and read returns 0", part_ii.end_of_file),
    Check("II.14", "select() and poll()", part_ii.multiplexers),
    Check("II.15", "send [this]", part_ii.binary),
    Check("II.16", "TCP_NODELAY", part_ii.nodelay),
    Check("II.17", "Nagle", part_ii.nagle),
    Check("II.18", "read() and recv()", part_processes.read_and_recv),
    Check("II.19", "SIGPIPE", part_processes.sigpipe),
    Check("III.1", "text to address", part_iii.text_to_address),
    Check("III.2", "firewalls, sockd, socksify", part_iii.firewalls),
    Check("III.3", "connect before accept", part_iii.connect_before_accept),
    Check("III.4", "several hosts at once", part_iii.several_hosts),
    Check("III.5", "connect timeout", part_iii.connect_timeout),
    Check("III.6", "client's own port", part_iii.clients_port),
    Check("III.7", "connection refused", part_iii.connection_refused),
    Check("IV.1", "address in use", part_iv.address_in_use),
    Check("IV.2", "sockets do not close", part_iv.sockets_close),
    Check("IV.4", "many ports", part_iv.many_ports),
    Check("IV.5", "SO_REUSEADDR", part_iv.reuse_address),
    Check("IV.6", "SO_LINGER", part_iv.linger),
    Check("IV.7", "SO_KEEPALIVE", part_iv.keepalive),
    Check("IV.9", "the client's address", part_iv.clients_address),
    Check("IV.10", "the client's name", part_iv.clients_name),
    Check("IV.11", "choosing a port", part_iv.choosing_a_port),
    Check("IV.12", "SO_REUSEPORT", part_iv.reuse_port),
    Check("App. A", "the sample programs", part_iii.transcript),
)


def run(rows: Sequence[str] = (), *, checks: Sequence[Check] = CHECKS, out: TextIO | None = None) -> bool:
    """Make the checks and print the table.

    Args:
        rows: of the contract, such as "II.17"; empty for all.
        checks: the table.
        out: standard output if None.

    Returns:
        Whether none failed.
    """
    out = out or sys.stdout
    begin, failed, skipped = time.monotonic(), 0, 0
    chosen = [check for check in checks if not rows or check.row in rows]
    house = Fixture()
    try:
        for check in chosen:
            result, saw = _look(check, house)
            failed += result == "failed"
            skipped += result == "skipped"
            print(_line(check, result, saw), file=out, flush=True)
    finally:
        house.close()
    elapsed = time.monotonic() - begin
    well = len(chosen) - failed - skipped
    print(f"{well} ok, {failed} failed, {skipped} skipped, in {elapsed:.1f} s", file=out)
    return not failed


def _look(check: Check, house: Fixture) -> tuple[str, str]:
    try:
        return "ok", check.look(house)
    except Skip as why:
        return "skipped", str(why)
    except (CheckFailed, SockdError) as saw:
        return "failed", str(saw)
    except Exception as error:  # a reset where none may be, a time-out: what the check saw
        return "failed", f"{type(error).__name__}: {error}"
    finally:
        house.end_check()


def _line(check: Check, result: str, saw: str) -> str:
    head = f"{check.row:<7}{check.question:<30}{result:<9}"
    return head + " ".join(saw.split())
