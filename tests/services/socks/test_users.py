# SPDX-License-Identifier: MIT
"""Users and their hashes: what is right, what is wrong, and what of a file is refused.

The vector is that of RFC 7914, section 12.  Seen failing with a digest that is never compared, with passwords
remembered whatever they were, and with an unknown user answered at once.
"""

from __future__ import annotations

import base64
import ctypes
import os

import pytest

from sockd.errors import ConfigurationError, SystemFault
from sockd.services.socks.users import Scrypt, Users, UsersFile, hash_password

CHEAP = "alice:" + str(Scrypt(4, 8, 1, b"salt" * 4, Scrypt(4, 8, 1, b"salt" * 4, bytes(32)).compute(b"secret")))


def users(*lines):
    return Users("\n".join(lines).encode(), "users")


def test_the_vector_of_rfc_7914():
    digest = bytes.fromhex(
        "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b3731622eaf30d92e22a3886ff109279d9830da"
        "c727afb94a83ee6d8360cbdfa2cc0640"
    )
    assert Scrypt(10, 8, 16, b"NaCl", digest)(b"password")
    assert not Scrypt(10, 8, 16, b"NaCl", digest)(b"Password")


def test_right_and_wrong():
    some = users("# a comment", "", CHEAP)
    assert some.check(b"alice", b"secret")
    assert not some.check(b"alice", b"Secret")
    assert not some.check(b"alice", b"")
    assert not some.check(b"bob", b"secret")
    assert not some.check(b"", b"")
    assert len(some) == 1


def test_what_was_right_is_known_again_and_nothing_else():
    some = users(CHEAP)
    assert not some.remembers(b"alice", b"secret")
    some.remember(b"alice", b"secret")
    assert some.remembers(b"alice", b"secret")
    assert not some.remembers(b"alice", b"secre")
    assert not some.remembers(b"alic", b"esecret")


def test_an_unknown_user_costs_what_a_known_one_does(monkeypatch):
    asked = []
    monkeypatch.setattr(Scrypt, "compute", lambda self, password: asked.append(password) or bytes(32))
    some = users(CHEAP)
    some.check(b"alice", b"one")
    some.check(b"nobody", b"two")
    assert asked == [b"one", b"two"]


def test_a_line_of_our_own_is_right():
    line = hash_password(b"secret")
    assert line.startswith("$scrypt$ln=15,r=8,p=3$")
    assert line != hash_password(b"secret")  # a salt of its own
    assert users(f"alice:{line}").check(b"alice", b"secret")


def test_yescrypt_by_the_systems_crypt():
    try:
        library = ctypes.CDLL("libcrypt.so.1")
        library.crypt.restype = ctypes.c_char_p
        line = library.crypt(b"secret", b"$y$j75$salt.salt.salt.")
    except (OSError, AttributeError):
        pytest.skip("this system has no libcrypt")
    if not line or line.startswith(b"*"):
        pytest.skip("crypt(3) of this system has no yescrypt")
    some = users(CHEAP, "bob:" + line.decode())
    assert some.check(b"bob", b"secret")
    assert not some.check(b"bob", b"Secret")
    assert not some.check(b"bob", b"secret\0more")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "users: contains no user"),
        (["alice"], "users:1: is not NAME:HASH"),
        ([":x"], "users:1: is not NAME:HASH"),
        (["#", CHEAP, CHEAP], "users:3: alice occurs twice"),
        (["alice:secret"], "users:1: the hash begins with none of"),
        (["alice:$nosuch$salt$hash"], "users:1: crypt\\(3\\) of this system does not support \\$nosuch\\$"),
        (["alice:$scrypt$ln=15$x$y"], "users:1: is not \\$scrypt\\$"),
        (["alice:$scrypt$ln=24,r=8,p=1$c2FsdA$" + "A" * 43], "users:1: ln=24,r=8,p=1 is out of range"),
        (["alice:$scrypt$ln=15,r=8,p=99$c2FsdA$" + "A" * 43], "is out of range"),
        (["alice:$scrypt$ln=0,r=8,p=1$c2FsdA$" + "A" * 43], "is out of range"),
        (["alice:$scrypt$ln=4,r=8,p=1$c2FsdA$" + base64.b64encode(b"short").decode().rstrip("=")], "too short"),
        (["alice:$scrypt$ln=4,r=8,p=1$c2FsdA$AAAAA"], "is not base64"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(lines, said):
    with pytest.raises(ConfigurationError, match=said):
        users(*lines)


def test_the_file_is_read_anew(tmp_path):
    path = tmp_path / "users"
    path.write_text(CHEAP)
    file = UsersFile(str(path))
    path.write_text(CHEAP.replace("alice", "bob"))
    assert file.read().check(b"bob", b"secret")
    path.write_text("nonsense\n")
    with pytest.raises(ConfigurationError, match=r"users:1: is not NAME:HASH"):
        file.read()
    assert file.users.check(b"alice", b"secret")
    file.close()


def test_what_is_no_file(tmp_path):
    with pytest.raises(SystemFault, match="No such file"):
        UsersFile(str(tmp_path / "none"))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigurationError, match="is a FIFO, not a file"):
        UsersFile(str(tmp_path / "fifo"))
    with pytest.raises(SystemFault, match="No such file"):
        UsersFile(str(tmp_path / "none" / "users"))
