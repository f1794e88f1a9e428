# SPDX-License-Identifier: MIT
"""Limits of what kinds_and_values.py counts: none of them is passed again."""

from __future__ import annotations

from dataclasses import fields

import kinds_and_values as counts

from sockd.services.spec import ServiceSpec

HOOKS = {"snapshot", "restore"}
"""What an author may give a service of any kind, or not."""


def test_nothing_asks_a_service_for_its_kind_by_a_field():
    assert counts.asked_by_field() == []


def test_no_field_of_a_service_that_may_be_missing_says_how_it_serves():
    assert {field.name for field in fields(ServiceSpec) if "None" in str(field.type)} <= HOOKS


def test_no_text_of_a_setting_is_read_again():
    assert counts.read_again() == []


def test_net_and_services_know_nothing_of_config():
    assert counts.imports_of_config() == []


def test_the_counts_see_what_they_are_for(tmp_path):
    (tmp_path / "sockd" / "net").mkdir(parents=True)
    (tmp_path / "sockd" / "net" / "a.py").write_text(
        "from sockd.config import load\n"
        "if spec.program is not None or plan.service.relay:\n"
        "    Address.parse(text)\n"
        "name, _, path = text.partition('=')\n"
    )
    assert len(counts.asked_by_field(tmp_path)) == len(counts.read_again(tmp_path)) == 2
    assert len(counts.imports_of_config(tmp_path)) == 1
