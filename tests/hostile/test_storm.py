# SPDX-License-Identifier: MIT
"""A storm of hostile clients against every kind of service, and what it must not cost (the package `storm`).

The daemon lives, honest clients beside the storm are answered in time, its descriptors and its memory are as before,
and it has counted no defect of its own.  Each that is planted in it costs one connection, one line and one count.
SOCKD_SOAK=1: ten minutes, every multiplexer; SOCKD_SEED=N plays the same clients again.
Seen to fail: storm/__init__.py says for which faults, and how soon.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from storm.planted import PLACES
from watching import SOAK

STORM = Path(__file__).with_name("storm")
SECONDS = 600 if SOAK else 30
SHORT_SECONDS = 120 if SOAK else 10
PLANTED_SECONDS = 60 if SOAK else 6
SPARE_SECONDS = 300
"""For the start, for what is waited for behind the storm, and for the end."""

pytestmark = [
    pytest.mark.timeout(SECONDS + SPARE_SECONDS + 60),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="package openssl is missing"),
]


@pytest.fixture
def storm(figure):
    """`storm(30, "--workers", 2)`: have one, in a process of its own; its faults fail the test."""

    def blow(seconds, *words):
        seed = os.environ.get("SOCKD_SEED") or str(random.randrange(1 << 32))
        command = [sys.executable, STORM, "--seconds", seconds, "--seed", seed, *words]
        done = subprocess.run(
            [*map(str, command)], capture_output=True, text=True, errors="replace", timeout=seconds + SPARE_SECONDS
        )
        figure(
            " ".join(map(str, command[2:])), " ".join(line for line in done.stdout.splitlines() if line[:7] in FIGURES)
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\nagain: {' '.join(map(str, command))}"

    return blow


FIGURES = ("clients", "honest ", "p50, p9", "memory ")


def test_a_storm_costs_nobody_else_anything(storm, multiplexer):
    storm(SECONDS, "--multiplexer", multiplexer)


def test_workers(storm, multiplexer):
    storm(SHORT_SECONDS, "--multiplexer", multiplexer, "--workers", 2)


@pytest.mark.skipif(not SOAK, reason="SOCKD_SOAK=1 asks for every multiplexer in one run")
@pytest.mark.parametrize("name", ["epoll", "poll", "select"])
def test_every_multiplexer(storm, name):
    storm(SHORT_SECONDS, "--multiplexer", name)


def test_a_defect_of_ours_costs_one_connection(storm, multiplexer):
    """One after the other at every place: `--planted PLACE` has one of them alone."""
    storm(PLANTED_SECONDS, "--multiplexer", multiplexer, "--no-upgrade", "--planted", *PLACES)
