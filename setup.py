# SPDX-License-Identifier: MIT
"""Builds sockd._sockbuf from csrc/ with cffi: one abi3 extension for CPython 3.11 and later.

Free-threaded CPython has no stable ABI (PEP 703; PEP 803 is for 3.15): there the extension is for that version alone.
"""

import sysconfig

from setuptools import setup

IS_FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

setup(
    cffi_modules=["csrc/sockbuf_build.py:ffibuilder"],
    options={} if IS_FREE_THREADED else {"bdist_wheel": {"py_limited_api": "cp311"}},
)
