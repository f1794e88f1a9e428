# SPDX-License-Identifier: MIT
"""The dashboard for Grafana: its queries find data in the real Prometheus, which scrapes a daemon; its keys are known.

Grafana itself is in no package: its schema is that of grafana-foundation-sdk, which Grafana generates.  Seen failing
with a label of a legend that the query sums away, and with a key of a panel that Grafana does not know.
"""

from __future__ import annotations

import copy
import importlib
import json
import re
import socket
import subprocess
import urllib.parse
import urllib.request
from contextlib import closing, suppress
from pathlib import Path

import pytest
from programs import free_port
from unpacked import program
from watching import START_S, _until

PACKAGING = Path(__file__).parents[2] / "packaging" / "prometheus"
DASHBOARD = json.loads((PACKAGING / "grafana-sockd.json").read_text())
TARGETS = [(panel["title"], target) for panel in DASHBOARD["panels"] for target in panel["targets"]]
SCRAPE = """
global: {{scrape_interval: 250ms, evaluation_interval: 250ms}}
rule_files: [{rules}]
scrape_configs: [{{job_name: sockd, static_configs: [{{targets: ["{target}"]}}]}}]
"""
DAEMON = """
[daemon]
workers = 2
path = "{directory}"
[[listen]]
address = "tcp://127.0.0.1:0"
service = "house_app:upper"
deny = ["127.0.0.2"]
[[listen]]
address = "tcp://127.0.0.1:0"
service = "metrics"
"""


def without_scheme(address):
    return address.removeprefix("tcp://")


@pytest.fixture
def daemon(serve, tmp_path):
    """Two workers with a handler, some of whose clients are denied: the address, and that of its metrics."""
    (tmp_path / "house_app.py").write_text("def upper(line):\n    return line.upper()\n")
    return [without_scheme(one) for one in serve(config=DAEMON.format(directory=tmp_path)).addresses]


@pytest.fixture
def prometheus(daemon, tmp_path):
    """A Prometheus with our rules, that scrapes the daemon: what its API answers."""
    command = program("prometheus", "prometheus")
    (tmp_path / "prometheus.yml").write_text(SCRAPE.format(rules=PACKAGING / "sockd.rules.yml", target=daemon[1]))
    port = free_port()
    words = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    words += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    with subprocess.Popen([command, *words]) as process:

        def ask(path, **parameters):
            address = f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
            with urllib.request.urlopen(address, timeout=20) as answer:
                return json.load(answer)["data"]

        def has_scraped():
            with suppress(OSError):  # refused, or 503 until it is ready
                return ask("query", query="up == 1")["result"]

        try:
            _until(has_scraped, within=START_S)
            yield ask
        finally:
            process.terminate()


def visit(address, source):
    """One client, which is served or denied."""
    host, _, port = address.rpartition(":")
    sock = socket.create_connection((host, int(port)), timeout=20, source_address=(source, 0))
    with closing(sock), suppress(ConnectionError):
        sock.sendall(b"x\n")
        sock.recv(10)


def test_each_query_has_data_and_the_labels_of_its_legend(prometheus, daemon):
    missing = list(TARGETS)

    def has_data(target):
        text = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
        found = prometheus("query", query=text)["result"]
        labels = set(re.findall(r"{{(\w+)}}", target.get("legendFormat", "")))
        return bool(found) and all(labels <= row["metric"].keys() for row in found)

    def all_have():
        for source in ("127.0.0.1", "127.0.0.2"):
            visit(daemon[0], source)
        missing[:] = [(title, target) for title, target in missing if not has_data(target)]
        return not missing

    with suppress(AssertionError):
        _until(all_have, within=30)
    assert missing == []
    (variable,) = [one for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()
    assert prometheus(f"label/{label}/values", **{"match[]": metric}) == [daemon[1]]


def test_prometheus_evaluates_each_rule(prometheus):
    def rules():
        return [one for group in prometheus("rules")["groups"] for one in group["rules"]]

    _until(lambda: all(one["health"] != "unknown" for one in rules()), within=START_S)
    assert {one["name"]: one.get("lastError") for one in rules() if one["health"] != "ok"} == {}
    assert len(rules()) >= 8


def lost(ours, theirs, path="dashboard"):
    """Yield what of our JSON is not in what Grafana's types made of it."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            yield from lost(value, theirs.get(key), f"{path}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from lost(*pair, f"{path}[{number}]")
    elif ours != theirs:
        yield path


def read_by_grafana(dashboard):
    """The JSON, once it has been an object of Grafana's types, which know no other keys."""
    sdk = "grafana_foundation_sdk"
    cog = pytest.importorskip(f"{sdk}.cog", reason="make .venv/.interop installs grafana-foundation-sdk")
    assert cog is not None
    plugins, encoder, models = (
        importlib.import_module(f"{sdk}.{name}") for name in ("cog.plugins", "cog.encoder", "models.dashboard")
    )
    plugins.register_default_plugins()
    return json.loads(encoder.JSONEncoder().encode(models.Dashboard.from_json(dashboard)))


def test_grafana_knows_every_key():
    assert list(lost(DASHBOARD, read_by_grafana(DASHBOARD))) == []
    wrong = copy.deepcopy(DASHBOARD)
    wrong["panels"][0]["tittle"] = wrong["panels"][0].pop("title")
    wrong["panels"][1]["targets"][0]["expression"] = "1"
    assert list(lost(wrong, read_by_grafana(wrong))) == [
        "dashboard.panels[0].tittle",
        "dashboard.panels[1].targets[0].expression",
    ]


def test_panels_do_not_overlap():
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24  # the columns of Grafana
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)
