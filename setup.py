# SPDX-License-Identifier: MIT
"""Builds sockd._sockbuf from csrc/ with cffi: one abi3 extension for CPython 3.11 and later."""

from setuptools import setup

setup(
    cffi_modules=["csrc/sockbuf_build.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
