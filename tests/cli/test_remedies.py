# SPDX-License-Identifier: MIT
"""Messages that say what to write instead, and a banner with the right command for each listener.

The words before: `unrecognized arguments`, `list of texts`, `log = { level = ... }`,
`sockctl connect` for metrics and for TLS.
"""

from __future__ import annotations

import os
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
    "app.py": "app.py: a service needs an address; did you mean --listen tcp://127.0.0.1:7007=app:FUNCTION?",
    "start": "start: sockd has no verbs; it starts a daemon by its options, and sockctl talks to one",
    "tcp://:7=upper": "tcp://:7=upper: did you mean --listen tcp://:7=upper?",
    "unix:/s": "unix:/s: did you mean --listen unix:/s=SERVICE?",
    "=": "=: write ADDRESS=SERVICE in one word, such as tcp://127.0.0.1:7007=upper",
    "check": "check: did you mean --check?",
    "--stop": "--stop: did you mean sockctl stop?",
    "-v": "-v: no such option; did you mean -V?",
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
        (LISTEN + '[service.x]\nexec = "/bin/cat -n"\n', 'write exec = ["/bin/cat", "-n"]'),
        ("[daemon]\nworkers = 2\nmax_worker_requests = 0\n" + LISTEN, "allowed: 1 to 1000000000000 requests"),
        (LISTEN + "mode = 660\n", "660 is an integer; allowed: text, in quotes"),
        (LISTEN + '[service]\nhandler = "app:greet"\n', "write [service.NAME] in place of [service], with the name"),
        ('[[listen]]\naddress = ["tcp://:7"]\n', "listen[0].address: a list is not valid here; write addresses ="),
        (LISTEN.replace('"upper"', "\u201cupper\u201d"), 'invalid value; write straight quotes, "'),
        (f'[daemon]\ninclude = ["a"]\n{LISTEN}', "include belongs to the top of the file, before all tables"),
        (LISTEN.replace("upper", "app"), 'metrics; a handler is module:attribute, such as "app:greet"'),
        (LISTEN + 'allow = "127.0.0.1"\n', '"127.0.0.1" is text; write allow = ["127.0.0.1"]'),
    ],
)
def test_what_to_write(tmp_path, text, words):
    (tmp_path / "sockd.toml").write_text(text)
    done = sockd("--check", "-c", tmp_path / "sockd.toml")
    assert done.returncode == 78
    assert words in done.stderr


@pytest.mark.parametrize(
    ("scheme", "framing", "words"),
    [
        ("unixpacket", '"line"', "goodbye cannot be sent: 5 bytes exceed the limit of Packet(max_bytes=4, "),
        ("unix", '"netstring"', "goodbye cannot be sent: 5 bytes exceed the limit of Netstring(max_bytes=4)"),
        ("unix", '{ type = "record", format = "!I" }', "goodbye is no record; remove it"),
    ],
)
def test_a_goodbye_that_is_no_frame(tmp_path, scheme, framing, words):
    """Seen failing: the check found nothing."""
    (tmp_path / "app.py").write_text("def f(line): return line\n")
    limit = "" if "record" in framing else "max_frame = 4\n"
    text = f'[[listen]]\naddress = "{scheme}:{tmp_path}/s"\nservice = "x"\n[service.x]\nhandler = "app:f"\n'
    (tmp_path / "sockd.toml").write_text(f'{text}framing = {framing}\n{limit}goodbye = "adieu"\n')
    done = sockd("--check", "-c", "sockd.toml", cwd=tmp_path)
    assert (done.returncode, f"service.x.goodbye: {words}" in done.stderr) == (78, True), done.stderr


HANDLERS = {
    "def greet(line):\n    yield line": "is a generator, which has no reply to return; write return in place of yield",
    "class greet:\n    def __init__(self, name): pass\n    def line_received(self, line): pass": (
        "class greet(name) is made without arguments for each connection, and this fails: missing a required argument: "
        "'name'; name a function without parameters that makes one"
    ),
    "import asyncio\nclass greet(asyncio.Protocol):\n    def data_recieved(self, data): pass": (
        "class greet has data_recieved; did you mean data_received?"
    ),
    'import sockd\ngreet = sockd.Service(framing="line")': "app.py:2: ValueError: a service needs one of sockd's",
    "import requestz": "app.py:1: ModuleNotFoundError: No module named 'requestz'; this is /",
}


@pytest.mark.parametrize("text", HANDLERS)
def test_a_handler_that_is_none(tmp_path, text):
    """Seen failing: the first three were served, and answered nothing; the fourth blamed a line of sockd."""
    (tmp_path / "app.py").write_text(f"{text}\n")
    done = sockd("--check", "--listen", "tcp://127.0.0.1:0=app:greet", cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (78, False)
    assert HANDLERS[text] in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "import asyncio\nclass greet(asyncio.Protocol):\n    def data_received(self, data): self._line_received(data)\n"
        "    def _line_received(self, line): pass",
        "class greet:\n    def frame_received(self, frame): pass\n    def frames_received(self, frames): pass",
        "from asyncio import Protocol as greet",
    ],
)
def test_a_class_with_other_methods_of_like_names(tmp_path, text):
    """Seen failing: "class greet has _line_received; did you mean line_received?", and no start."""
    (tmp_path / "app.py").write_text(f"{text}\n")
    done = sockd("--check", "--listen", "tcp://127.0.0.1:0=app:greet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        ("ap:greet", "no module 'ap' in {} or among the installed packages; did you mean \"app\"?"),
        ("app.py:greet", "no module 'app.py' in {} or among the installed packages; write 'app', without .py"),
        ("app:grete", "app.py has no 'grete'; did you mean 'greet'?"),
    ],
)
def test_a_handler_that_is_misspelt(tmp_path, handler, words):
    (tmp_path / "app.py").write_text("def greet(line): return line\n")
    done = sockd("--check", "--listen", f"tcp://127.0.0.1:0={handler}", cwd=tmp_path)
    assert (done.returncode, words.format(tmp_path) in done.stderr) == (78, True), done.stderr


def test_a_check_notes_directories_that_a_start_needs(tmp_path):
    """Seen failing: "configuration OK", and the start failed."""
    none = tmp_path / "none"
    text = f'[daemon]\nuser = "root"\ncontrol = "{none}/c.sock"\nlog = {{ to = "{none}/log" }}\n'
    (tmp_path / "sockd.toml").write_text(text + LISTEN.replace("tcp://127.0.0.1:0", f"unix:{none}/s"))
    done = sockd("--check", "-c", "sockd.toml", cwd=tmp_path)
    note = f": {none} does not exist, and a start needs it; create it: install -d -m 755 {none}\n"
    assert done.returncode == 0
    for place in ("daemon.control", "daemon.log.to", f"unix:{none}/s"):
        assert f"sockd: sockd.toml: note: {place}{note}" in done.stderr


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[service.x]\nbuiltin = "echo"\n[service.p]\nexec = ["/none/such"]\n', "7: service.p.exec: "),
        ('tls = { certificate = "none.pem" }\n', "4: listen[0].tls.certificate: "),
        ('[daemon]\nuser = "nosuch"\n', "5: daemon.user: "),
    ],
)
def test_what_is_not_there_names_its_line(tmp_path, text, place):
    """Seen failing: the key alone."""
    (tmp_path / "sockd.toml").write_text(LISTEN.replace("upper", "p" if "exec" in text else "upper") + text)
    for how in ("--check", "--foreground"):
        done = sockd(how, "-c", "sockd.toml", *(() if "user" in text else ("--user", "root")), cwd=tmp_path)
        assert (done.returncode, done.stderr.startswith(f"sockd: sockd.toml:{place}")) == (78, True), done.stderr
    if "user" in text:
        done = sockd("--check", "-c", "sockd.toml", "--user", "nobodys", cwd=tmp_path)
        assert done.stderr.startswith('sockd: --user: "nobodys"'), done.stderr


def test_root_is_told_of_a_file_that_it_does_not_read(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    (tmp_path / "sockd.toml").write_text(LISTEN)
    if not os.path.exists("/etc/sockd/sockd.toml"):
        done = sockd("--check", cwd=tmp_path)
        assert "(root reads ./sockd.toml only if it is named: -c sockd.toml): configuration OK" in done.stderr


def test_a_control_socket_that_is_none(tmp_path):
    (tmp_path / "file").touch()
    done = subprocess.run(
        [_script("sockctl"), "--control", tmp_path / "file", "status"], capture_output=True, text=True, timeout=LIMIT_S
    )
    assert (done.returncode, "it is no socket; --control is the path" in done.stderr) == (71, True), done.stderr


def test_a_number_that_is_none():
    """Before: invalid int value."""
    words = [_script("sockctl"), "close", "abc"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S)
    assert (done.returncode, "argument ID: 'abc' is not a whole number" in done.stderr) == (64, True), done.stderr


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


@pytest.mark.parametrize("name", ["json", "time"])
def test_a_module_that_another_one_hides(tmp_path, name):
    """Seen to fail: `.../json/__init__.py has no 'greet'`, of one's own json.py."""
    (tmp_path / f"{name}.py").write_text("def greet(line):\n    return line\n")
    done = sockd("--check", "--listen", f"tcp://127.0.0.1:0={name}:greet", cwd=tmp_path)
    assert done.returncode == 78
    assert f"come before {tmp_path}/{name}.py: give that another name" in done.stderr
