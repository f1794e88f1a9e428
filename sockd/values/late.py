# SPDX-License-Identifier: MIT
"""Dataclasses whose methods are made late: what sockd.values has at run time.

The decorator of the standard library compiles six methods for each class when it is defined, half a millisecond, and
its module imports inspect, ast and dis.  Here a class notes its fields; its constructor is compiled when the sixteenth
object is made, and a loop fills the ones before; comparison and hash read the values by one operator.attrgetter, and
what the standard library's own functions want (`__dataclass_fields__`) is made when they ask for it.

As there, but for: no `order`, no `match_args=False`, no InitVar; asdict() does not copy what is no dataclass and no
container.  Annotations are text (`from __future__ import annotations`).  Source: PEP 557, PEP 681.
"""

from __future__ import annotations

import builtins
import sys
from functools import partial
from operator import attrgetter
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


T = TypeVar("T")
MISSING: object = type("MISSING", (), {"__repr__": lambda _: "MISSING"})()
_OWN = "__late_fields__"
_NONE: Mapping[str, object] = getattr(builtins, "frozendict", lambda: MappingProxyType({}))()
"""As that of dataclasses.Field, which is a frozendict from CPython 3.15 on."""


class Field:
    """One field of a class; its attributes are those of dataclasses.Field."""

    __slots__ = ("compare", "default", "default_factory", "init", "kw_only", "metadata", "name", "repr", "type")

    def __init__(
        self,
        default: object,
        default_factory: object,
        *,
        init: bool = True,
        repr: bool = True,
        compare: bool = True,
        metadata: Mapping[str, object] = _NONE,
    ) -> None:
        self.name = self.type = ""
        self.default, self.default_factory = default, default_factory
        self.init, self.repr, self.compare, self.metadata = init, repr, compare, metadata
        self.kw_only = False

    @property
    def is_required(self) -> bool:
        """Whether its constructor must be told."""
        return self.default is MISSING and self.default_factory is MISSING

    def initial(self) -> object:
        """Return what it is when the constructor is not told."""
        return self.default_factory() if callable(self.default_factory) else self.default


def field(
    *,
    default: object = MISSING,
    default_factory: object = MISSING,
    init: bool = True,
    repr: bool = True,
    compare: bool = True,
    metadata: Mapping[str, object] = _NONE,
) -> Field:
    """Declare a field that needs more than a default; see dataclasses.field."""
    return Field(default, default_factory, init=init, repr=repr, compare=compare, metadata=metadata)


def dataclass(
    cls: type | None = None,
    *,
    frozen: bool = False,
    eq: bool = True,
    kw_only: bool = False,
    slots: bool = False,
) -> type | Callable[[type], type]:
    """Make a class a dataclass; see dataclasses.dataclass."""

    def decorated(cls: type) -> type:
        own = _declared(cls, kw_only=kw_only)
        made = _slotted(cls, own) if slots else cls
        known: dict[str, Field] = {}
        for base in reversed(made.__mro__[1:]):
            known |= base.__dict__.get(_OWN, {})
        known |= {one.name: one for one in own}
        _equip(made, known, frozen=frozen, eq=eq)
        return made

    return decorated if cls is None else decorated(cls)


def _declared(cls: type, *, kw_only: bool) -> list[Field]:
    """Return the fields that the class itself declares; what is left of them on the class are their defaults."""
    own = []
    for name, hint in cls.__annotations__.items():  # those of bases are not in it
        if hint.startswith("ClassVar"):
            continue
        given = cls.__dict__.get(name, MISSING)
        one = given if isinstance(given, Field) else Field(given, MISSING)
        one.name, one.type, one.kw_only = name, hint, kw_only
        if isinstance(given, Field):
            if one.default is MISSING:
                delattr(cls, name)
            else:
                setattr(cls, name, one.default)
        own.append(one)
    return own


def _slotted(cls: type, own: Iterable[Field]) -> type:
    """Return the class with slots in place of a dictionary: a new one, as slots are made with it."""
    names = [one.name for one in own]
    body = {name: value for name, value in cls.__dict__.items() if name not in (*names, "__dict__", "__weakref__")}
    made = type(cls)(cls.__name__, cls.__bases__, {**body, "__slots__": tuple(names)})
    made.__qualname__ = cls.__qualname__
    return made


def _equip(cls: type, known: dict[str, Field], *, frozen: bool, eq: bool) -> None:
    own = cls.__dict__
    given = {"__repr__": _repr, _OWN: known, "__dataclass_fields__": _StandardFields()}
    given["__match_args__"] = tuple(one.name for one in known.values() if one.init and not one.kw_only)
    if eq:
        values = _values([one.name for one in known.values() if one.compare])
        given["__eq__"] = _equality(values)
        if "__hash__" not in own or (own["__hash__"] is None and "__eq__" in own):
            setattr(cls, "__hash__", _hashing(values) if frozen else None)  # noqa: B010 - of any class
    if frozen:
        given["__setattr__"], given["__delattr__"] = _refusals(cls, frozenset(known))
    for name, value in given.items():
        if name not in own:
            setattr(cls, name, value)
    if "__init__" not in own:
        setattr(cls, "__init__", _LateInit(cls, known, frozen=frozen))  # noqa: B010 - likewise


def _values(names: list[str]) -> Callable[[object], object]:
    return attrgetter(*names) if names else lambda _: ()


# ---- methods


FEW = 15
"""Objects of a class that a loop fills: that many take as long as compiling the constructor once, 0.1 ms."""


class _LateInit:
    """The constructor of the first objects; the compiled one replaces it then, or when somebody asks about it."""

    def __init__(self, cls: type, known: dict[str, Field], *, frozen: bool) -> None:
        self._cls, self._known, self._frozen = cls, known, frozen
        self._made = 0

    def __get__(self, one: object, _owner: type | None = None) -> object:
        is_object = isinstance(one, self._cls)  # inspect.signature() of CPython 3.13 asks with the class in its place
        if not is_object or self._made >= FEW:
            init = self._compile()
            return init if one is None else init.__get__(one)
        self._made += 1
        return partial(self._fill, one)

    def _compile(self) -> FunctionType:
        init = _compiled(self._cls, self._known, frozen=self._frozen)
        setattr(self._cls, "__init__", init)  # noqa: B010 - of any class
        return init

    def _fill(self, one: object, /, *values: object, **named: object) -> None:
        """Do as the compiled constructor does, which gets arguments that do not fit, for its errors."""
        known = self._known
        by_place = [each.name for each in known.values() if each.init and not each.kw_only]
        given = dict(zip(by_place, values, strict=False)) | named
        required = {each.name for each in known.values() if each.init and each.is_required}
        wanted = {each.name for each in known.values() if each.init}
        if len(given) != len(values) + len(named) or not required <= given.keys() <= wanted:
            self._compile()(one, *values, **named)
            return
        assign = object.__setattr__ if self._frozen else setattr
        for name, each in known.items():
            if name in given:
                assign(one, name, given[name])
            elif each.init or each.default_factory is not MISSING:
                assign(one, name, each.initial())
        if hasattr(self._cls, "__post_init__"):  # one that only a subclass has is not called by the compiled one either
            self._cls.__post_init__(one)


def _compiled(cls: type, known: dict[str, Field], *, frozen: bool) -> FunctionType:
    """Return the constructor: as fast as one written by hand."""
    scope: dict[str, object] = {"_set": object.__setattr__, "_fresh": MISSING}
    words, lines = [], []
    arguments = [one for one in known.values() if one.init]
    for one in sorted(arguments, key=lambda one: one.kw_only):  # stable
        if one.kw_only and "*" not in words:
            words.append("*")
        default = "_fresh" if one.default_factory is not MISSING else f"_default_{one.name}"
        words.append(one.name if one.is_required else f"{one.name}={default}")
        scope[f"_default_{one.name}"] = one.default
    for one in known.values():
        value = one.name
        if one.default_factory is not MISSING:
            scope[f"_make_{one.name}"] = one.default_factory
            value = f"_make_{one.name}() if {one.name} is _fresh else {one.name}" if one.init else f"_make_{one.name}()"
        elif not one.init:
            continue
        lines.append(f"_set(_self, {one.name!r}, {value})" if frozen else f"_self.{one.name} = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append("_self.__post_init__()")
    body = "\n  ".join(lines or ["pass"])
    text = f"def make({', '.join(scope)}):\n def __init__(_self{''.join(f', {word}' for word in words)}):\n  {body}\n"
    made: dict[str, Callable[..., FunctionType]] = {}
    exec(text + " return __init__", vars(sys.modules[cls.__module__]), made)  # noqa: S102 - of the names of fields
    init = made["make"](**scope)
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__annotations__ = {one.name: one.type for one in arguments} | {"return": None}
    return init


def _repr(self: object) -> str:
    shown = (f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _equality(values: Callable[[object], object]) -> Callable[[object, object], bool]:
    def equal(self: object, other: object) -> bool:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    return equal


def _hashing(values: Callable[[object], object]) -> Callable[[object], int]:
    return lambda self: hash(values(self))


def _refusals(cls: type, names: frozenset[str]) -> tuple[Callable[..., None], Callable[..., None]]:
    kind: Any = cls

    def set_attribute(self: object, name: str, value: object) -> None:
        if type(self) is cls or name in names:
            _refuse("assign to", name)
        super(kind, self).__setattr__(name, value)

    def delete_attribute(self: object, name: str) -> None:
        if type(self) is cls or name in names:
            _refuse("delete", name)
        super(kind, self).__delattr__(name)

    return set_attribute, delete_attribute


def _refuse(what: str, name: str) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot {what} field {name!r}")


class _StandardFields:
    """`__dataclass_fields__`, made when something of the standard library, or msgspec, asks for it."""

    def __get__(self, _one: object, owner: type) -> object:
        import dataclasses

        declared = []
        for one in fields(owner):
            names = ("default", "default_factory", "init", "repr", "compare", "metadata", "kw_only")
            about = {name: getattr(one, name) for name in names if getattr(one, name) is not MISSING}
            declared.append((one.name, one.type, dataclasses.field(**about)))
        standard = dataclasses.make_dataclass(owner.__name__, declared, kw_only=False)
        made = standard.__dict__["__dataclass_fields__"]
        setattr(owner, "__dataclass_fields__", made)  # noqa: B010 - of any class
        return made


# ---- functions of the standard library's module


def is_dataclass(one: object) -> bool:
    """Tell whether it is such a class, or an object of one."""
    return hasattr(one, _OWN)


def fields(one: object) -> tuple[Field, ...]:
    """Return the fields of a class, or of the class of an object."""
    return tuple(getattr(one, _OWN).values())


def replace(one: T, /, **changes: object) -> T:
    """Return an object like this one but for these fields."""
    make: Callable[..., T] = type(one)
    return make(**{each.name: getattr(one, each.name) for each in fields(one) if each.init} | changes)


def asdict(one: object) -> object:
    """Return a dictionary of the values of an object, and of objects in these."""
    if is_dataclass(one) and not isinstance(one, type):
        return {each.name: asdict(getattr(one, each.name)) for each in fields(one)}
    if isinstance(one, dict):
        return {asdict(key): asdict(value) for key, value in one.items()}
    if isinstance(one, list):
        return [asdict(each) for each in one]
    return tuple(asdict(each) for each in one) if type(one) is tuple else one


__all__ = ["MISSING", "Field", "asdict", "dataclass", "field", "fields", "is_dataclass", "replace"]
