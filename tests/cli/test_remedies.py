# SPDX-License-Identifier: MIT
"""Messages that say what to write instead, and a banner with the right command for each listener.

The words before: `unrecognized arguments`, `list of texts`, `log = { level = ... }`,
`sockctl connect` for metrics and for TLS.
"""

from __future__ import annotations

import re
import subprocess

import pytest
from serving import STAY_ROOT
from watching import _script

LIMIT_S = 60
LISTEN = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\n'


def sockd(*words, **options):
    words = [_script("sockd"), *map(str, words)]
    return subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, **options)


def test_a_service_without_an_address():
    done = sockd("--foreground", "kv:kv")
    assert done.returncode == 64
    assert done.stderr.endswith(
        "sockd: kv:kv: a service needs an address; did you mean --listen tcp://127.0.0.1:7007=kv:kv?\n"
    )


MEANT = {
    "upper": "upper: a service needs an address; did you mean --listen tcp://127.0.0.1:7007=upper?",
    "sockd.toml": "sockd.toml: did you mean --config sockd.toml?",
    "status": "status: did you mean sockctl status?",
    "--confg=x": "--confg=x: no such option; did you mean --config?",
    "nothing": "unrecognized arguments: nothing",
}


@pytest.mark.parametrize("word", MEANT)
def test_what_was_meant(word):
    done = sockd(word)
    assert done.returncode == 64
    assert done.stderr.endswith(f"sockd: {MEANT[word]}\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[daemon]\nlog = "/var/log/x"\n' + LISTEN, 'write log = { to = "/var/log/x" }'),
        ('[daemon]\nlog = "debug"\n' + LISTEN, 'write log = { level = "info" }'),
        (LISTEN + '[service.x]\nexec = "/bin/cat"\n', '"/bin/cat" is text; write exec = ["/bin/cat"]'),
        (LISTEN + 'allow = "127.0.0.1"\n', '"127.0.0.1" is text; write allow = ["127.0.0.1"]'),
    ],
)
def test_what_to_write(tmp_path, text, words):
    (tmp_path / "sockd.toml").write_text(text)
    done = sockd("--check", "-c", tmp_path / "sockd.toml")
    assert done.returncode == 78
    assert words in done.stderr


def test_a_note_names_what_it_is_about(certificates, tmp_path):
    """Seen failing: `certificate expires soon`, of which file and when it did not say."""
    short = certificates.new("short", tmp_path, days=2)
    tls = f'tls = {{ certificate = "{short.path}", key = "{short.key}" }}\n'
    (tmp_path / "sockd.toml").write_text(LISTEN + tls)
    done = sockd("--check", "-c", tmp_path / "sockd.toml")
    path = tmp_path / "sockd.toml"
    assert re.search(rf"^sockd: {path}: note: certificate expires soon file={short.path} key=\S+ until=", done.stderr)


def test_the_banner_has_the_command_of_each_listener(launch, certificates, tmp_path):
    own = certificates.server
    (tmp_path / "sockd.toml").write_text(
        LISTEN
        + LISTEN.replace("upper", "metrics")
        + LISTEN
        + f'tls = {{ certificate = "{own.path}", key = "{own.key}" }}\n'
    )
    server = launch("--foreground", "--log-format", "json", *STAY_ROOT, "-c", "sockd.toml")
    server.ready()
    plain, metrics, tls = server.addresses
    server.wait_until(lambda: any("Ctrl-C" in line for line in server.output), "the banner")
    said = "\n".join(server.output)
    assert f"   sockctl connect {plain}\n" in said
    assert f"   curl http://{metrics.removeprefix('tcp://')}/metrics\n" in said
    assert f"   sockctl connect --tls {tls}\n" in said
