# SPDX-License-Identifier: MIT
"""examples/postfix_tcp_table.py against the real postmap, and against requests that it never sends.

Seen failing, each once, with the example broken: values sent without quoting (escaped_value, batch), keys not
unquoted (escaped_key, batch, own_keys), 400 for 500 (not_found, malformed), no `200` (found, longest, batch),
MAX_ANSWER_BYTES one more or one less (no_answer_is_longer, longest), a long answer cut (too_long), `match` for
`fullmatch` and a % in the 400 text (malformed), load() without its check (bad_keys); batch also when the 10,000th
answer closes the connection.
"""

from __future__ import annotations

import os
import shutil

import pytest

HANDLER = "postfix_tcp_table:lookup"
POSTMAP = shutil.which("postmap", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
BATCH_KEYS = 20_000
LONGEST = "v" * (4096 - len("200 ") - len("\n"))  # tcp_table(5): 4096 with the newline

postfix = pytest.mark.skipif(POSTMAP is None, reason="package postfix is missing")  # nothing else speaks for Postfix


ESCAPED = [  # as it is, as the file has it
    ('"ann lee"@example.com', '"ann%20lee"@example.com'),
    ("50%@example.com", "50%25@example.com"),
    ("%25@example.com", "%2525@example.com"),
    ("tab\tbed", "tab%09bed"),
    ("müller@exämple.com", "müller@exämple.com"),
    ("müller@example.org", "m%c3%BCller@example.org"),
    ("x+y&z=\\[1]!~", "x+y&z=\\[1]!~"),
]


@pytest.fixture
def table(serve_example, tmp_path):
    """Serve a table of keys and values, both as the file has them."""

    def start(rows):
        keys = tmp_path / "keys"
        keys.write_text("".join(f"{key} {value}\n" for key, value in rows))
        return serve_example(HANDLER, environment={"POSTFIX_TCP_TABLE_KEYS": str(keys)})

    return start


@pytest.fixture
def daemon(table):
    """Serve what most tests here ask for."""
    rows = [("ann@example.com", "ann@example.org, bob@example.org"), ("longest", LONGEST), ("too-long", LONGEST + "v")]
    rows += [(in_file, "here") for _, in_file in ESCAPED]
    rows += [(f"value{number}", in_file) for number, (_, in_file) in enumerate(ESCAPED)]
    return table(rows)


@pytest.fixture
def postmap(run, tmp_path):
    """Run `postmap -q` with a configuration of its own."""
    main_cf = tmp_path / "main.cf"
    main_cf.write_text("compatibility_level = 3.6\nmyhostname = mail.example.com\n")
    os.utime(main_cf, (0, 0))  # Postfix waits two seconds for a younger file to settle

    def query(daemon, key, **options):
        done = run(POSTMAP, "-c", tmp_path, "-q", key, daemon.addresses[0].replace("//", ""), **options)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    return query


@postfix
def test_found(daemon, postmap):
    assert postmap(daemon, "ann@example.com") == (0, "ann@example.org, bob@example.org\n", "")


@postfix
@pytest.mark.parametrize("key", ["bob@example.com", "", "ann", "%61nn@example.com"])
def test_not_found(daemon, postmap, key):
    assert postmap(daemon, key) == (1, "", "")


@postfix
@pytest.mark.parametrize("key", [key for key, _ in ESCAPED])
def test_escaped_key(daemon, postmap, key):
    assert postmap(daemon, key) == (0, "here\n", "")


@postfix
@pytest.mark.parametrize(("number", "value"), [(number, value) for number, (value, _) in enumerate(ESCAPED)])
def test_escaped_value(daemon, postmap, number, value):
    assert postmap(daemon, f"value{number}") == (0, f"{value}\n", "")


@postfix
def test_longest_answer(daemon, postmap):
    assert postmap(daemon, "longest") == (0, f"{LONGEST}\n", "")


@postfix
def test_too_long_answer_is_trouble_not_absence(daemon, postmap):
    code, out, err = postmap(daemon, "too-long")
    assert (code, out) == (1, "")
    assert "query error" in err  # for want of a mark, postmap's exit code is that of an absent key


@postfix
def test_examples_own_keys(serve_example, postmap):
    daemon = serve_example(HANDLER)
    assert postmap(daemon, "postmaster@example.com") == (0, "admin@example.com\n", "")
    assert postmap(daemon, "müller@example.com") == (0, "jürgen@example.com\n", "")


@postfix
def test_batch_over_one_connection(table, postmap):
    forms = ("user{}@example.com", '"user {}"@example.com', "{}%25@example.com", "ü{}@example.com")
    keys = [forms[number % len(forms)].format(number) for number in range(BATCH_KEYS)]
    values = [f"box {number}, 100% ü" for number in range(BATCH_KEYS)]
    escaped = [key.replace("%", "%25").replace(" ", "%20") for key in keys]
    daemon = table(zip(escaped, [value.replace("%", "%25") for value in values], strict=True))
    code, out, err = postmap(daemon, "-", input="".join(f"{key}\n" for key in keys).encode())
    daemon.stop()

    assert err == ""
    assert code == 0
    assert out.splitlines() == [f"{key}\t{value}" for key, value in zip(keys, values, strict=True)]
    [connection] = daemon.having("closed")
    assert (connection["frames"], connection["reason"]) == (BATCH_KEYS, "eof")


def test_no_answer_is_longer_than_the_protocol_allows(daemon, run, sockctl):
    done = run(sockctl, "connect", daemon.addresses[0], input=b"get longest\nget too-long\n")
    longest, too_long = done.stdout.splitlines(keepends=True)
    assert len(longest) == 4096
    assert too_long == b"400 the value is too long\n"


@pytest.mark.parametrize(
    "request_line",
    [
        b"",
        b"get",
        b"GET ann",
        b" get ann",
        b"put ann lee",
        b"get ann lee",
        b"get  ann",
        b"get ann ",
        b"get a\tb",
        b"get 50%",
        b"get 50%2",
        b"get 50%2g",
        b"get %+1",
        b"get \x7f",
        "get müller".encode(),
    ],
)
def test_malformed_request(daemon, run, sockctl, request_line):
    done = run(sockctl, "connect", daemon.addresses[0], input=request_line + b"\nget nobody\n")
    trouble, answer = done.stdout.splitlines()
    assert trouble.startswith(b"400 ")
    assert b"%" not in trouble  # Postfix would decode it
    assert answer == b"500 not found"  # it goes on: only the request was wrong


@pytest.mark.parametrize("line", [b"alone", b"50% off", b"off 50%2"])
def test_bad_keys_are_refused_at_the_start(run, sockd, tmp_path, examples, line):
    keys = tmp_path / "keys"
    keys.write_bytes(b"# comment\n" + line + b"\n")
    environment = {**os.environ, "POSTFIX_TCP_TABLE_KEYS": str(keys), "PYTHONDONTWRITEBYTECODE": "1"}
    done = run(sockd, "--check", "--listen", f"tcp://127.0.0.1:0={HANDLER}", cwd=examples, env=environment)
    assert done.returncode == 78
    assert f"{keys}:2: want KEY VALUE".encode() in done.stderr
