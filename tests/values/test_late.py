# SPDX-License-Identifier: MIT
"""Dataclasses that are made late behave as those of the standard library: each is declared with both, and compared."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import sys
import threading
from typing import ClassVar

import msgspec
import pytest

from sockd.values import late

BOTH = pytest.mark.parametrize("of", [dataclasses, late], ids=["standard", "late"])


def shapes(of):
    @of.dataclass(frozen=True)
    class Plain:
        """Two fields and a constant."""

        name: str
        size: int = 3
        kind: ClassVar[str] = "constant"

        @property
        def doubled(self) -> int:
            return 2 * self.size

    @of.dataclass(frozen=True)
    class Longer(Plain):
        """A field more, and another default for one of the base."""

        size: int = 4
        more: tuple[int, ...] = ()

    @of.dataclass(frozen=True, kw_only=True)
    class Named:
        """Names alone; a later one may be needed."""

        first: int = 1
        second: str

    @of.dataclass
    class Open:
        """A fresh list each, one that the constructor makes, one that does not count."""

        items: list[int] = of.field(default_factory=list)
        length: int = of.field(init=False, repr=False, compare=False)
        note: str = of.field(default="", compare=False, metadata={"help": "text"})

        def __post_init__(self) -> None:
            self.length = len(self.items)

    @of.dataclass(frozen=True, slots=True)
    class Slotted:
        """Slots, with a default."""

        host: str
        port: int = 0

    @of.dataclass(eq=False)
    class Same:
        """Equal to itself alone."""

        value: int

    return Plain, Longer, Named, Open, Slotted, Same


def outcome(call):
    try:
        return call()
    except Exception as error:
        return type(error)


def answers(of):
    """Say what each of many questions comes to."""
    plain, longer, named, open_, slotted, same = shapes(of)
    one, two = plain("a"), plain("a", 5)
    yield [repr(each) for each in (one, longer("b", more=(1,)), named(second="x"), open_([1]), slotted("h", 7))]
    yield one == plain("a", 3), one == two, one == longer("a", 3), one == ("a", 3), longer("a") == longer("a", 4)
    yield hash(one) == hash(plain("a")), len({one, two, plain("a")}), hash(slotted("h")) == hash(slotted("h"))
    yield outcome(lambda: hash(open_())), isinstance(hash(same(1)), int), same(1) == same(1)
    yield outcome(lambda: setattr(one, "name", "z")), outcome(lambda: delattr(one, "name")), outcome(plain)
    yield outcome(lambda: setattr(one, "other", 1)), outcome(lambda: setattr(slotted("h"), "port", 1))
    yield outcome(lambda: named(1, "x")), outcome(named), outcome(lambda: plain("a", 1, 2)), outcome(lambda: plain(x=1))
    yield open_().items is open_().items, open_([1, 2]).length, open_(note="x") == open_(note="y")
    yield plain.size, plain.kind, one.doubled, outcome(lambda: named.second), outcome(lambda: open_.items)
    yield of.replace(one, size=9), of.replace(longer("a"), more=(2,)), outcome(lambda: of.replace(one, absent=1))
    yield of.asdict(open_([1])), of.asdict(plain("a", [one, {"k": two}]))
    yield [[each.name for each in of.fields(kind)] for kind in (plain, longer, named, open_, slotted)]
    yield [(each.default, each.metadata, each.init) for each in of.fields(plain("a"))][1]
    yield [of.is_dataclass(each) for each in (plain, one, str, "text")], hasattr(slotted("h"), "__dict__")
    yield [kind.__match_args__ for kind in (plain, longer, named, open_, slotted)]
    yield [str(inspect.signature(kind)) for kind in (plain, longer, named, slotted)]
    yield [each.__doc__ for each in (plain, slotted)], slotted.__qualname__.rpartition(".")[2], slotted.__module__


def text(value):
    return str(value).replace("sockd.values.late", "dataclasses")


@pytest.mark.parametrize("few", [late.FEW, 0], ids=["filled", "compiled"])
def test_every_answer_is_that_of_the_standard_library(monkeypatch, few):
    monkeypatch.setattr(late, "FEW", few)
    for number, (standard, late_one) in enumerate(zip(answers(dataclasses), answers(late), strict=True)):
        assert text(late_one) == text(standard), number


@BOTH
def test_functions_of_the_standard_library_know_them(of):
    plain, longer, _, open_, slotted, _ = shapes(of)
    assert dataclasses.is_dataclass(plain)
    assert [one.name for one in dataclasses.fields(longer("a"))] == ["name", "size", "more"]
    assert [one.name for one in dataclasses.fields(plain)] == ["name", "size"]  # of a base, asked after its subclass
    assert dataclasses.replace(slotted("h"), port=1) == slotted("h", 1)
    assert dataclasses.asdict(open_([1])) == {"items": [1], "length": 1, "note": ""}
    assert dataclasses.fields(open_)[2].metadata["help"] == "text"
    assert copy.copy(plain("a")) == plain("a")


@late.dataclass(frozen=True)
class Row:
    """As msgspec reads it: by annotations, from the module."""

    name: str
    sizes: tuple[int, ...] = ()


def test_msgspec_writes_and_reads_them():
    row = Row("a", (1, 2))
    assert msgspec.json.decode(msgspec.json.encode(row), type=Row) == row
    with pytest.raises(msgspec.ValidationError, match=r"sizes"):
        msgspec.convert({"name": "a", "sizes": "x"}, Row)


def test_a_class_of_few_objects_compiles_nothing():
    """Seen to fail where the first object compiled the constructor: an eighth of what `sockd --inetd` executes."""
    plain = shapes(late)[0]
    made = [plain("a", size=number) for number in range(late.FEW)]
    assert not isinstance(vars(plain)["__init__"], type(shapes))
    made.append(plain("a", size=late.FEW))
    assert isinstance(vars(plain)["__init__"], type(shapes))
    assert vars(plain)["__init__"].__globals__ is vars(sys.modules[__name__])
    assert [one.size for one in made] == list(range(late.FEW + 1))


@BOTH
def test_a_post_init_of_a_subclass_alone_is_not_called(of):
    class Own(shapes(of)[0]):
        def __post_init__(self):
            raise AssertionError

    assert Own("a").size == 3


def test_a_signature_is_that_of_the_constructor_whoever_asks():
    """inspect of CPython 3.13 and later asks with the class in place of an object."""
    plain = shapes(late)[0]
    init = vars(plain)["__init__"].__get__(plain, type)
    assert str(inspect.signature(init)) == "(name: 'str', size: 'int' = 3) -> None"


def test_threads_that_make_the_first_object_at_once_all_get_one(monkeypatch):
    monkeypatch.setattr(late, "FEW", 2)  # one of them compiles the constructor
    for _ in range(50):
        plain, found, start = shapes(late)[0], [], threading.Barrier(4)

        def make(plain=plain, found=found, start=start):
            start.wait()
            found.append(plain("a", size=2))

        threads = [threading.Thread(target=make) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert found == [plain("a", 2)] * 4
