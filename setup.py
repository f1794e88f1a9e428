# SPDX-License-Identifier: MIT
"""Builds sockd._sockbuf from csrc/ with cffi: one abi3 extension for CPython 3.11 and later; and sockd._version.

Free-threaded CPython has no stable ABI (PEP 703; PEP 803 is for 3.15): there the extension is for that version alone.
The version stands in pyproject.toml, and is written into the package: asking importlib.metadata for it costs a program
that answers one line more than its answer.
"""

import sysconfig
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

IS_FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


class BuildWithVersion(build_py):
    """Copies the modules, and adds that of the version."""

    def run(self) -> None:
        """Build."""
        super().run()
        text = f'# SPDX-License-Identifier: MIT\n__version__ = VERSION = "{self.distribution.get_version()}"\n'
        Path(self.build_lib, "sockd", "_version.py").write_text(text)


setup(
    cffi_modules=["csrc/sockbuf_build.py:ffibuilder"],
    cmdclass={"build_py": BuildWithVersion},
    options={} if IS_FREE_THREADED else {"bdist_wheel": {"py_limited_api": "cp311"}},
)
