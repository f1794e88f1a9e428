"""Makes the extension sockd._sockbuf; the declarations are read from sockbuf.h, where alone they stand.

Run by setuptools through ``cffi_modules``; paths are relative to the root of the checkout.
"""

import os
import re
import sys
from pathlib import Path

from cffi import FFI

CSRC = Path("csrc")
PROCESS = Path("sockd/process")
PARTS = [  # of the extension alone
    Path("sockd/buffer/batch.c"),
    *(PROCESS / name for name in ("spawn.c", "last_words.h", "last_words.c", "stop_bound.c")),
]
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


ffibuilder = FFI()
ffibuilder.cdef(declarations((CSRC / "sockbuf.h").read_text(encoding="utf-8")))
for text in (part.read_text(encoding="utf-8") for part in PARTS):
    if "<cffi>" in text:
        ffibuilder.cdef(declarations(text))
ffibuilder.set_source(
    "sockd._sockbuf",
    '#include "sockbuf.h"\n' + "".join(part.read_text(encoding="utf-8") for part in PARTS),
    sources=[str(CSRC / name) for name in SOURCES],
    include_dirs=[str(CSRC), str(PROCESS)],
    depends=[str(path) for path in (*CSRC.glob("*.h"), *PARTS)],
    define_macros=[("_GNU_SOURCE", "1")],
    extra_compile_args=[
        "-std=c11",
        "-O3",
        "-fvisibility=hidden",
        *WARNINGS,
        *os.environ.get("SOCKD_CFLAGS", "").split(),
    ],
    libraries=["rt"] if sys.platform == "linux" else [],  # timer_create(2), before glibc 2.34
    extra_link_args=words("SOCKD_LDFLAGS"),
)
