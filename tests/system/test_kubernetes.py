# SPDX-License-Identifier: MIT
"""packaging/kubernetes: its parts fit together, and its very command serves, is ready, is told of changes and drains.

Where a kubelet would lay the ConfigMap, with symbolic links as it makes them; its probes are asked as it asks.
Seen failing with pre_drain left out, and with a grace period of 50 seconds.
"""

from __future__ import annotations

import http.client
import os
import tomllib
from pathlib import Path

import pytest
import yaml
from controlling import Sockctl
from serving import Server

from sockd.units import parse_duration

FILE = Path(__file__).parents[2] / "packaging" / "kubernetes" / "sockd.yaml"
if not FILE.exists():
    pytest.skip("the tests stand alone, without packaging/", allow_module_level=True)
PARTS = {one["kind"]: one for one in yaml.safe_load_all(FILE.read_text())}
DATA = PARTS["ConfigMap"]["data"]
POD = PARTS["Deployment"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
CONFIG = tomllib.loads(DATA["sockd.toml"])
LIVES_ON_S = 5  # what a kubelet is late, and a process takes to end


def test_every_part_finds_the_others():
    labels = POD["metadata"]["labels"]
    assert PARTS["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert PARTS["Service"]["spec"]["selector"] == labels
    assert PARTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    ports = {one["name"]: one["containerPort"] for one in CONTAINER["ports"]}
    assert {f"tcp://:{port}" for port in ports.values()} == {one["address"] for one in CONFIG["listen"]}
    assert {one["targetPort"] for one in PARTS["Service"]["spec"]["ports"]} == {"lines"}
    assert POD["metadata"]["annotations"]["prometheus.io/port"] == str(ports["metrics"])
    assert all(CONTAINER[f"{probe}Probe"]["httpGet"]["port"] == "metrics" for probe in ("readiness", "liveness"))
    volumes = {one["name"]: one for one in POD["spec"]["volumes"]}
    assert volumes["config"]["configMap"]["name"] == PARTS["ConfigMap"]["metadata"]["name"]
    mounts = {one["mountPath"]: one["name"] for one in CONTAINER["volumeMounts"]}
    assert mounts[CONTAINER["workingDir"]] == "config"
    assert mounts[os.path.dirname(CONFIG["daemon"]["control"])] == "run"


def test_the_times_fit():
    daemon, probe = CONFIG["daemon"], CONTAINER["readinessProbe"]
    pre_drain, stop = parse_duration(daemon["pre_drain"]), parse_duration(daemon["stop_timeout"])
    assert POD["spec"]["terminationGracePeriodSeconds"] >= pre_drain + stop + LIVES_ON_S
    assert pre_drain >= 2 * probe["periodSeconds"] * probe["failureThreshold"]


@pytest.fixture
def mounted(tmp_path):
    """Lay the ConfigMap into a directory as a kubelet does, anew with other data, all at once."""
    directory = tmp_path / "etc"
    directory.mkdir()

    def lay(number, data):
        (directory / f"..{number}").mkdir()
        for name, text in data.items():
            (directory / f"..{number}" / name).write_text(text)
            if not (directory / name).is_symlink():
                (directory / name).symlink_to(f"..data/{name}")
        (directory / "..next").symlink_to(f"..{number}")
        os.replace(directory / "..next", directory / "..data")
        return directory

    return lay


@pytest.fixture
def data(tmp_path):
    """The ConfigMap's, with ports of the kernel's and a short wait."""
    changes = {"/run/sockd": str(tmp_path), "tcp://:7000": "tcp://127.0.0.1:0", "tcp://:9700": "tcp://127.0.0.1:0"}
    changes['pre_drain = "10s"'] = 'pre_drain = "1s"'
    text = DATA["sockd.toml"]
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return {**DATA, "sockd.toml": text}


@pytest.fixture
def pod(mounted, data):
    directory = mounted(1, data)
    program, *words = CONTAINER["command"]
    assert program == "sockd"
    words = [word.replace(CONTAINER["workingDir"], str(directory)) for word in words]
    server = Server(words, directory)
    try:
        server.ready()
        server.lines, server.metrics = server.addresses
        yield server
    finally:
        server.end()


def probe(server, name):
    """The status that a kubelet sees."""
    get = CONTAINER[f"{name}Probe"]["httpGet"]
    host, _, port = server.metrics.removeprefix("tcp://").rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=CONTAINER[f"{name}Probe"].get("timeoutSeconds", 1))
    try:
        connection.request("GET", get["path"], headers={"User-Agent": "kube-probe/1.31", "Connection": "close"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_its_end(pod):
    """Not ready, and served on; then closed in order, well before it is killed."""
    known = pod.connect(pod.lines)
    assert known.ask(b"world") == b"hello world"
    assert (probe(pod, "readiness"), probe(pod, "liveness")) == (200, 200)
    pod.signal()
    pod.wait_for("not ready any more, still serving")
    assert (probe(pod, "readiness"), probe(pod, "liveness")) == (503, 200)
    late = pod.connect(pod.lines)  # of whom a node had not heard
    assert late.ask(b"late") == b"hello late"
    assert known.ask(b"still") == b"hello still"
    assert known.to_end() == late.to_end() == b"421 closing\n"
    known.close()
    late.close()
    assert pod.wait() == 0


def test_a_changed_map_is_taken_by_a_reload(pod, mounted, data, tmp_path):
    known = pod.connect(pod.lines)
    mounted(2, {**data, "app.py": data["app.py"].replace("hello", "welcome")})
    assert Sockctl(tmp_path).say("reload").startswith("reloaded")
    assert pod.connect(pod.lines).ask(b"world") == b"welcome world"
    assert known.ask(b"world") == b"hello world"
