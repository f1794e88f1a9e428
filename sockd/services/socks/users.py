# SPDX-License-Identifier: MIT
"""The users of a SOCKS server: a file of NAME:HASH lines, and whether a password is right.

Hashes: `$scrypt$ln=15,r=8,p=3$SALT$HASH` (base64 without padding, as the PHC string format has it), by
hashlib; and whatever else the system's crypt(3) knows, yescrypt (`$y$`) above all.  To check one takes a tenth of a
second and more by design, so it is done in a thread; a password that was right is known again by a keyed
digest, so that a client's next connections are not held up.

Source: RFC 7914 (scrypt); crypt(5); github.com/P-H-C/phc-string-format.
"""

from __future__ import annotations

import base64
import binascii
import ctypes
import os
import re
import threading
from collections import OrderedDict
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from sockd.errors import ConfigurationError, fault
from sockd.files.kept_directory import KeptDirectory
from sockd.files.trusted import open_file, read
from sockd.lazy import hashlib, hmac
from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Check = Callable[[bytes], bool]

MAX_FILE_BYTES = 1024 * 1024
MAX_MEMORY_BYTES = 256 * 1024 * 1024
"""Of one scrypt, 128 * N * r; two are under way at once."""
NEW_LN, NEW_R, NEW_P = 15, 8, 3  # 32 MiB; OWASP, Password Storage Cheat Sheet
SALT_BYTES, HASH_BYTES = 16, 32
REMEMBERED = 1024
"""Passwords that were right."""

_SCRYPT = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,3}),p=(\d{1,3})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")
_CRYPT = re.compile(r"\$[0-9a-z]+\$[!-9;-~]+")  # crypt(5): printable, without a colon


@dataclass(frozen=True)
class Scrypt:
    """A hash of RFC 7914."""

    ln: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    def __call__(self, password: bytes) -> bool:
        """Tell whether it is the password's."""
        return hmac.compare_digest(self.compute(password), self.digest)

    def compute(self, password: bytes) -> bytes:
        """Compute the digest of a password with this salt and these costs."""
        size = len(self.digest)
        max_memory = 2 * MAX_MEMORY_BYTES
        return hashlib.scrypt(
            password, salt=self.salt, n=1 << self.ln, r=self.r, p=self.p, maxmem=max_memory, dklen=size
        )

    def __str__(self) -> str:
        return f"$scrypt$ln={self.ln},r={self.r},p={self.p}${_encode(self.salt)}${_encode(self.digest)}"


def hash_password(password: bytes) -> str:
    """Hash a password for the file, with a salt of its own."""
    empty = Scrypt(NEW_LN, NEW_R, NEW_P, os.urandom(SALT_BYTES), bytes(HASH_BYTES))
    return str(Scrypt(empty.ln, empty.r, empty.p, empty.salt, empty.compute(password)))


class Users:
    """What the file says, at one time.

    Args:
        text: of the file.
        name: what messages call it.

    Raises:
        ConfigurationError: a line is no NAME:HASH, or its hash is of a kind that is not known here.
    """

    def __init__(self, text: bytes, name: str) -> None:
        self._checks: dict[bytes, Check] = {}
        for number, line in enumerate(text.splitlines(), 1):
            stripped = line.strip()
            if stripped and not stripped.startswith(b"#"):
                self._add(stripped, f"{name}:{number}")
        if not self._checks:
            raise ConfigurationError(f"{name}: contains no user; add a line with sockctl password NAME")
        self._every = tuple(self._checks.values())
        self._key = os.urandom(32)
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._checks)

    def _add(self, line: bytes, place: str) -> None:
        user, colon, text = line.partition(b":")
        if not colon or not 1 <= len(user) <= 255:  # RFC 1929
            raise ConfigurationError(f"{place}: is not NAME:HASH; sockctl password NAME prints such a line")
        if user in self._checks:
            raise ConfigurationError(f"{place}: {user.decode(errors='replace')} occurs twice; remove one")
        self._checks[user] = _checker(text.decode("ascii", "replace"), place)

    def remembers(self, user: bytes, password: bytes) -> bool:
        """Tell whether this was right before; returns at once."""
        return self._digest(user, password) in self._known

    def check(self, user: bytes, password: bytes) -> bool:
        """Return whether a password is right.  BLOCKS for as long as the hash takes, for an unknown user as well."""
        check = self._checks.get(user)
        if check is None:  # an unknown user's takes as long as one of the others', and the same one's every time
            number = int.from_bytes(self._digest(user, b"")[:8], "big")
            self._every[number % len(self._every)](password)
            return False
        return check(password)

    def remember(self, user: bytes, password: bytes) -> None:
        """Note that this was right (in the loop)."""
        self._known[self._digest(user, password)] = None
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _digest(self, user: bytes, password: bytes) -> bytes:
        return hmac.digest(self._key, bytes((len(user),)) + user + password, "sha256")


class UsersFile:
    """The file, found again after chroot(2) and a change of directory.

    Args:
        path: absolute.

    Attributes:
        users: as last read.

    Raises:
        ConfigurationError: it does not exist, too large, or wrong.
        PermissionFault: it may not be read.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        directory, self._name = os.path.split(path)
        try:
            self._directory = KeptDirectory(directory)
        except OSError as error:
            raise fault(error, path) from None
        self._directory.allow(self._name)
        try:
            self.users = self.read()
        except BaseException:
            self._directory.close()
            raise

    def read(self) -> Users:
        """Return the users that are in it now.

        Raises:
            ConfigurationError, SystemFault, PermissionFault: as the constructor.
        """

        def opener(_path: str, flags: int) -> int:
            return self._directory.open(self._name, flags)

        text = read(self._path, self._path, MAX_FILE_BYTES + 1, opener)
        if len(text) > MAX_FILE_BYTES:
            raise ConfigurationError(f"{self._path}: larger than {MAX_FILE_BYTES} bytes")
        return Users(text, self._path)

    def close(self) -> None:
        """Close its directory."""
        self._directory.close()


# ---- kinds of hashes


def _checker(text: str, place: str) -> Check:
    if text.startswith("$scrypt$"):
        return _scrypt(text, place)
    if not _CRYPT.fullmatch(text):
        raise ConfigurationError(f"{place}: the hash begins with none of $scrypt$, $y$ or another of crypt(5)")
    crypt = _system_crypt()
    if crypt is None:
        raise ConfigurationError(f"{place}: crypt(3) is not available for {_kind(text)}; use sockctl password")
    if not crypt.knows(text):
        raise ConfigurationError(
            f"{place}: crypt(3) of this system does not support {_kind(text)}; use sockctl password"
        )
    known = text.encode()
    return lambda password: hmac.compare_digest(crypt(password, text) or b"", known)


def _kind(text: str) -> str:
    return text[: text.index("$", 1) + 1]


def _scrypt(text: str, place: str) -> Scrypt:
    found = _SCRYPT.fullmatch(text)
    if not found:
        raise ConfigurationError(f"{place}: is not $scrypt$ln=15,r=8,p=3$SALT$HASH; sockctl password prints one")
    ln, r, p = (int(number) for number in found.groups()[:3])
    if not 1 <= ln <= 24 or r < 1 or p < 1 or 128 * r << ln > MAX_MEMORY_BYTES or p > 16:
        max_mib = MAX_MEMORY_BYTES >> 20
        raise ConfigurationError(
            f"{place}: ln={ln},r={r},p={p} is out of range; at most {max_mib} MiB and p = 16 are allowed"
        )
    try:
        salt, digest = (base64.b64decode(word + "=" * (-len(word) % 4), validate=True) for word in found.groups()[3:])
    except binascii.Error:
        raise ConfigurationError(f"{place}: salt or hash is not base64") from None
    if len(digest) < 16:
        raise ConfigurationError(f"{place}: a hash of {len(digest)} bytes is too short; at least 16 are needed")
    return Scrypt(ln, r, p, salt, digest)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


class _Crypt:
    """crypt(3) of the system; it has one buffer, so one call is made at a time.

    Raises:
        OSError: there is none.
    """

    def __init__(self) -> None:
        library = _load(("libcrypt.so.1", "libcrypt.so.2", None))
        self._lock = threading.Lock()
        self._crypt = library.crypt
        self._crypt.restype = ctypes.c_char_p
        self._crypt.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
        self._library = library

    def knows(self, setting: str) -> bool:
        """Tell whether it can check a password against a hash."""
        if hasattr(self._library, "crypt_checksalt"):  # libxcrypt; 1 is CRYPT_SALT_INVALID
            return bool(self._library.crypt_checksalt(setting.encode()) != 1)
        return self(b"", setting) is not None

    def __call__(self, password: bytes, setting: str) -> bytes | None:
        """Hash a password; None where it cannot."""
        if b"\0" in password:  # would end it
            return None
        with self._lock:
            found: bytes | None = self._crypt(password, setting.encode())
        return None if found is None or found.startswith(b"*") else found  # crypt(3): failure tokens


def _load(names: Iterable[str | None]) -> ctypes.CDLL:
    for name in names:
        with suppress(OSError):
            library = ctypes.CDLL(name)
            if hasattr(library, "crypt"):
                return library
    raise OSError("no library has crypt(3)")


@cache
def _system_crypt() -> _Crypt | None:
    try:
        return _Crypt()
    except OSError:
        return None


MAX_BYTES = 255  # RFC 1929


def read_password(path: str) -> str:
    """Read the first line of a file, without its end.

    Raises:
        ConfigurationError: it is empty, too long, or no text, or others may write it.
        SystemFault, PermissionFault: it cannot be read.
    """
    try:
        with os.fdopen(open_file(path, path), "rb") as file:
            line = file.readline(MAX_BYTES + 2).rstrip(b"\r\n")
        password = line.decode("utf-8")
    except OSError as error:
        raise fault(error, path) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: its first line is not UTF-8") from None
    if not 1 <= len(line) <= MAX_BYTES:
        raise ConfigurationError(f"{path}: its first line has {len(line)} bytes; 1 to {MAX_BYTES} are allowed")
    return password


__all__ = ["Scrypt", "Users", "UsersFile", "hash_password", "read_password"]
