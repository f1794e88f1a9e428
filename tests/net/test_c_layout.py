# SPDX-License-Identifier: MIT
# Seen failing with a layout() without padding (sb_relay_returned) and with one that takes uint32_t for int32_t.
"""Each struct that Python reads with the struct module: every field lies where C has put it."""

from __future__ import annotations

import pytest

from sockd._sockbuf import ffi, lib
from sockd.net.c_layout import layout, place
from sockd.net.connection import info, table, turn
from sockd.net.relay import relay_table

LAYOUTS = {
    "sb_event": turn.EVENT,
    "sb_part": turn.PART,
    "sb_ready": table.READY,
    "sb_info": info.INFO,
    "sb_totals": info.TOTALS,
    "sb_relay_end": relay_table.END,
    "sb_relay_request": relay_table.REQUEST,
    "sb_relay_returned": relay_table.RETURNED,
}
ORDER = {
    "sb_event": "kind id group detail offset size frames",
    "sb_part": "id frames size",
    "sb_ready": "id fd had mask",
    "sb_info": "fd group open reason error peer_size received sent frames unsent unframed elapsed_ms idle_ms peer",
    "sb_totals": "came open received sent frames unsent reasons",
    "sb_relay_end": "id reason error side moved",
    "sb_relay_request": "id group allowed peer_size began_ms peer target",
    "sb_relay_returned": "id group fd state error peer_size size was_asked counted began_ms peer data",
}
"""As Python takes them apart."""
COUNTS = {
    "sb_counts": {"events": "_EVENTS", "ready": "_READY", "changes": "_CHANGES", "connections": "_CONNECTIONS"},
    "sb_relay_counts": {"ends": "_ENDS", "requests": "_REQUESTS", "returned": "_RETURNED", "due_ms": "_DUE"},
}


def fields(name):
    return ffi.typeof(name).fields


@pytest.mark.parametrize("name", LAYOUTS)
def test_it_has_the_size_and_the_fields_of_the_struct_of_c(name):
    assert LAYOUTS[name].size == ffi.sizeof(name)
    assert LAYOUTS[name].format == layout(name).format
    assert [field for field, _ in fields(name)] == ORDER[name].split()


@pytest.mark.parametrize(("name", "field"), [(name, field) for name in LAYOUTS for field, _ in fields(name)])
def test_each_field_lies_where_c_has_it(name, field):
    """Written by C's offset, read by Python's layout: it is found, and nothing else is."""
    one = ffi.new(f"{name} *")
    kind = dict(fields(name))[field].type
    wanted = [77]
    if kind.kind != "array":
        setattr(one, field, 77)
    elif kind.item.cname == "char":
        wanted = [bytes(range(1, kind.length + 1))]
        ffi.memmove(getattr(one, field), wanted[0], kind.length)
    else:
        wanted = [*range(1, kind.length + 1)]
        setattr(one, field, wanted)
    found = LAYOUTS[name].unpack(ffi.buffer(one))
    assert [value for value in found if value and not (isinstance(value, bytes) and not any(value))] == wanted
    at, behind = ffi.offsetof(name, field), ffi.offsetof(name, field) + ffi.sizeof(kind)
    data = ffi.buffer(one)[:]
    assert any(data[at:behind])
    assert not any(data[:at] + data[behind:])


@pytest.mark.parametrize("name", LAYOUTS)
def test_negative_numbers_are_read_as_c_has_them(name):
    one = ffi.new(f"{name} *")
    numbers = [field for field, about in fields(name) if about.type.kind == "primitive"]
    for field in numbers:
        if int(ffi.cast(dict(fields(name))[field].type, -1)) < 0:
            setattr(one, field, -1)
    found = [value for value in LAYOUTS[name].unpack(ffi.buffer(one)) if isinstance(value, int)]
    assert found[: len(numbers)] == [getattr(one, field) for field in numbers]


@pytest.mark.parametrize(("module", "name"), [(table, "sb_counts"), (relay_table, "sb_relay_counts")])
def test_counts_are_read_at_their_places(module, name):
    one = ffi.new(f"{name} *")
    letter = "i" if name == "sb_counts" else "q"
    for number, (field, constant) in enumerate(COUNTS[name].items(), 1):
        setattr(one, field, number)
        assert memoryview(ffi.buffer(one)).cast("B").cast(letter)[getattr(module, constant)] == number
        assert place(name, field) == getattr(module, constant)


def test_kinds_of_events_are_those_of_c():
    names = ("FRAMES", "ACCEPTED", "END", "PAUSE", "RESUME", "CLOSED", "WRONG")
    assert [getattr(table, f"_EVENT_{name}") for name in names] == [getattr(lib, f"SB_EVENT_{name}") for name in names]
