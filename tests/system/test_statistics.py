# SPDX-License-Identifier: MIT
"""docs/statistics.md has every figure that a daemon shows, and no metric that there is not.

Seen failing with a column renamed, and with a metric renamed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.request import urlopen

import pytest
from controlling import Sockctl

MANUAL = Path(__file__).parents[2] / "docs" / "statistics.md"
pytestmark = pytest.mark.skipif(not MANUAL.exists(), reason="the tests stand alone, without docs/")
CONFIG = """[daemon]
control = "{path}"
workers = {workers}
"""
LISTENS = (
    ("tcp://127.0.0.1:0", "metrics", ""),
    ("tcp://127.0.0.1:0", "app:upper", 'deny = ["127.0.0.2"]\nmax_connections = 5\n'),
    ("udp://127.0.0.1:0", "upper", ""),
)
LATER = (
    "sockd_workers_replaced_total",
    "sockd_worker_answers",
    "sockd_datagrams_total",
    "sockd_certificate_expiry_timestamp_seconds",
)
"""What only some daemons have."""


@pytest.fixture
def house(serve, tmp_path):
    """`house(workers)`: sockctl of a daemon that has served somebody, and its status and metrics."""

    def start(workers):
        one = Sockctl(tmp_path)
        text = CONFIG.format(path=one.path, workers=workers)
        text += "".join(
            f'[[listen]]\naddress = "{address}"\nservice = "{service}"\n{more}' for address, service, more in LISTENS
        )
        server = serve(config=text + '[service.upper]\nbuiltin = "upper"\nmax_connections = 9\n')
        assert server.connect(server.addresses[1]).ask(b"x") == b"X"
        pages = server.addresses[0].replace("tcp:", "http:")
        with urlopen(f"{pages}/status.json") as answer:
            one.status = json.load(answer)
        with urlopen(f"{pages}/metrics") as answer:
            one.metrics = set(re.findall(r"^# TYPE (\S+)", answer.read().decode(), re.M))
        return one

    return start


def documented():
    """Everything that the manual has in backticks, also the parts of `queue.length` and `name{label}`."""
    found = re.findall(r"`([^`]+)`", MANUAL.read_text())
    return {part for one in found for part in (one, one.partition("{")[0], *one.split("."))}


def keys(status):
    listeners, services = status["listeners"], status["services"].values()
    found = {*status, *(key for row in (*listeners, *services) for key in row)}
    return found | {key for row in listeners for key in row.get("queue", ())}


@pytest.mark.parametrize("workers", [1, 2])
def test_every_key_column_and_metric_is_in_the_manual(house, workers):
    one, known = house(workers), documented()
    assert keys(one.status) - known == set()
    assert one.metrics - known == set()
    text = one.say("status")
    heads = [line.split() for line in text.splitlines() if line.startswith(("LISTENER", "SERVICE"))]
    assert {column for head in heads for column in head} - known == set()


def test_the_manual_names_no_metric_that_is_not_there(house):
    named = {one for one in documented() if re.fullmatch(r"(sockd|process)_[a-z_]+", one)}
    named = {re.sub(r"_(count|sum|bucket)$", "", one) for one in named}
    assert named - house(1).metrics - set(LATER) == set()


def test_the_columns_of_top_and_of_the_page_are_in_the_manual():
    package = Path(__import__("sockd").__file__).parent
    known = documented()
    heads = re.findall(r"_table\((.+?)\)\n", (package / "cli" / "verbs" / "top.py").read_text(), re.S)
    columns = {
        one
        for head in heads
        if head.startswith(('"LISTENER', '"SERVICE'))
        for one in re.findall(r'"([A-Z0-9/]+)"', head)
    }
    assert {"REFUSED/S", "PEAK"} <= columns
    assert columns - known == set()
    page = (package / "daemon" / "control" / "status.html").read_text()
    tables = re.findall(r'table\("\w+", \[(.+?)\],\n', page)
    names = {one.upper() for table in tables for one in re.findall(r'\["(\w+)"', table)} - {"ADDRESS"}
    assert {"PEAK", "REFUSED", "RENEWED", "LEVEL"} <= names
    assert names - known == set()
