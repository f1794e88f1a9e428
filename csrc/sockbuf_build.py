"""Makes the extension sockd._sockbuf; the declarations are read from its headers, where alone they stand.

Run by setuptools through ``cffi_modules``; paths are relative to the root of the checkout.
"""

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from cffi import FFI

CSRC = Path("csrc")
PROCESS = Path("sockd/process")
BUFFER = Path("sockd/buffer")
DATAGRAMS = Path("sockd/net/udp")
HANDLERS = Path("sockd/services/handlers")
PARTS = [  # of the extension alone
    *(BUFFER / name for name in ("python.h", "cutter.c", "encoder.c")),
    *(DATAGRAMS / name for name in ("batch.h", "calls.c")),
    Path("sockd/net/connection/exchange.c"),
    *(HANDLERS / name for name in ("awaited.h", "line_waiter.c", "line_source.c", "next_line.c", "line_delivery.c")),
    BUFFER / "types.c",
    Path("sockd/net/connection/serve.c"),
    *(
        PROCESS / name
        for name in ("spawn.c", "last_words.h", "last_words.c", "last_line.h", "last_line.c", "stop_bound.c")
    ),
]
HEADERS = [CSRC / name for name in ("sockbuf.h", "sockmux.h", "sockrelay.h")]
SOURCES = sorted(path.name for path in CSRC.glob("*.c"))
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wstrict-prototypes"]


def declarations(header: str) -> str:
    """Return the part of the header that is marked for cffi, without compiler attributes."""
    marked = header.split("/* <cffi>", 1)[1].split("/* </cffi> */", 1)[0]
    marked = marked.split("*/", 1)[1]
    marked = re.sub(r"(#define \w+) \((-\d+)\)", r"\1 \2", marked)
    return marked.replace(" SB_MUST_CHECK", "")


def words(variable: str) -> list[str]:
    """Return the words of an environment variable."""
    return os.environ.get(variable, "").split()


HARDENING = [
    "-U_FORTIFY_SOURCE",
    "-D_FORTIFY_SOURCE=3",
    "-fstack-protector-strong",
    "-fstack-clash-protection",
    "-fcf-protection=full",  # x86: CET
    "-mbranch-protection=standard",  # aarch64: BTI and PAC
]
HARDENED_LINK = ["-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack"]


def accepted(flags: list[str]) -> list[str]:
    """Return those of the flags that the compiler has; none beside a sanitizer, which sees more than they do."""
    if "-fsanitize" in os.environ.get("SOCKD_CFLAGS", ""):
        return []
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    with tempfile.TemporaryDirectory() as directory:
        source, made = Path(directory, "try.c"), Path(directory, "try.so")
        source.write_text("int tried(int n);\nint tried(int n) { return n; }\n", encoding="utf-8")

        def is_taken(flag: str) -> bool:
            command = [*compiler, "-Werror", "-O2", "-fPIC", "-shared", flag, str(source), "-o", str(made)]
            return subprocess.run(command, capture_output=True, check=False).returncode == 0

        return [flag for flag in flags if is_taken(flag)]


STABLE_ABI = [] if sysconfig.get_config_var("Py_GIL_DISABLED") else [("Py_LIMITED_API", "0x030b0000")]
"""Of CPython 3.11 and later (PEP 384); cffi alone asks for that of 3.2, which has no buffers."""

ffibuilder = FFI()
for text in (part.read_text(encoding="utf-8") for part in (*HEADERS, *PARTS)):
    if "<cffi>" in text:
        ffibuilder.cdef(declarations(text))
ffibuilder.cdef("""
extern "Python" int64_t sockd_tls_open(void *, int32_t, const char *, size_t, char *, size_t, int32_t *);
extern "Python" int64_t sockd_tls_seal(void *, int32_t, const char *, size_t, int32_t, const char **);
""")  # sockd.net.tls.filter
ffibuilder.set_source(
    "sockd._sockbuf",
    '#include "sockrelay.h"\n' + "".join(part.read_text(encoding="utf-8") for part in PARTS),
    sources=[str(CSRC / name) for name in SOURCES],
    include_dirs=[str(part) for part in (CSRC, BUFFER, DATAGRAMS, HANDLERS, PROCESS)],
    depends=[str(path) for path in (*CSRC.glob("*.h"), *PARTS)],
    define_macros=[("_GNU_SOURCE", "1"), *STABLE_ABI],
    extra_compile_args=[
        "-std=c11",
        "-O3",
        "-fvisibility=hidden",
        *WARNINGS,
        *accepted(HARDENING),
        *accepted([f"-ffile-prefix-map={os.getcwd()}=."]),  # the same bytes wherever it is built
        *os.environ.get("SOCKD_CFLAGS", "").split(),
    ],
    extra_link_args=[*accepted(HARDENED_LINK), *words("SOCKD_LDFLAGS")],
    libraries=["rt"] if sys.platform == "linux" else [],  # timer_create(2), before glibc 2.34
)
