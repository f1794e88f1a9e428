# SPDX-License-Identifier: MIT
"""Imports a handler by `module:attribute` and determines its kind: a function, a protocol class, a Service.

An import that fails names the file and the line; an attribute that is no
handler is refused with what one looks like.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import traceback
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, cast

from sockd.errors import HandlerError, say_reader
from sockd.lazy import difflib, inspect
from sockd.log.failure import OURS, is_pythons
from sockd.services import handlers_path
from sockd.services.api import Protocol, Service, is_async
from sockd.services.handlers.adapters import ProtocolFactory, frame_method, wants_bytes
from sockd.text import suggest

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.services.api import AnyService, LineFunction, SessionFunction

FORMS = "a handler is a function from line to reply, a coroutine function, a protocol class or a sockd.Service"
PROTOCOL_METHODS = ("data_received", "frame_received", "line_received", "buffer_updated", "datagram_received")


def find(text: str) -> AnyService:
    """Import a handler and wrap it into a Service if it is none.

    Args:
        text: `module:attribute`, dots allowed on both sides.

    Raises:
        HandlerError: it cannot be imported, or is no handler; also where its module ends the program (SystemExit).
    """
    try:
        return _find(text)
    except HandlerError:
        raise
    except BaseException as error:  # such as of a property, or of a signature that cannot be read
        raise HandlerError(f"{text}: failed at {describe_error(error)}") from error


def _find(text: str) -> AnyService:
    module_name, _, attribute = text.partition(":")
    found: object = _import(module_name, text)
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise HandlerError(_missing(text, found, part)) from None
    return as_service(found, text)


def _import(name: str, text: str) -> ModuleType:
    handlers_path.add()
    before = set(sys.modules)
    try:
        return importlib.import_module(name)
    except BaseException as error:  # also SystemExit: whoever imports a handler's module is not ended by it
        absent = error.name if type(error) is ModuleNotFoundError else None
        if absent and f"{name}.".startswith(f"{absent}."):
            raise HandlerError(f"{text}: {_not_there(absent)}") from None
        raise HandlerError(f"{text}: importing {name!r} failed at {describe_error(error)}") from error
    finally:
        for new in set(sys.modules) - before:
            drop_doubtful_bytecode(sys.modules.get(new))


def drop_doubtful_bytecode(module: ModuleType | None) -> None:
    """Remove a .pyc that was written in the second of its source's last change: Python takes it for valid after another
    change in that second that leaves the size as it was (PEP 552).
    """
    source, cached = getattr(module, "__file__", None), getattr(getattr(module, "__spec__", None), "cached", None)
    if isinstance(source, str) and isinstance(cached, str):
        with suppress(OSError):  # there is none, or it is another user's
            if int(os.stat(cached).st_mtime) <= int(os.stat(source).st_mtime):
                os.unlink(cached)


def _not_there(module: str) -> str:
    directory, why_not = handlers_path.current()
    if why_not:
        return f"no module {module!r} is installed, and root does not import from {directory}: {why_not}"
    if directory and not os.path.isdir(directory):
        return f"no module {module!r} is installed, and {directory}, the path of handlers, is not a directory"
    if directory and not os.access(directory, os.R_OK | os.X_OK):
        return f"no module {module!r} can be read: {directory} is closed to uid {os.geteuid()}"
    text = f"no module {module!r} in {directory or 'the current directory'} or among the installed packages"
    if module.endswith(".py"):
        return f"{text}; write {module.removesuffix('.py')!r}, without .py"
    with suppress(OSError):
        names = [name.removesuffix(".py") for name in os.listdir(directory or os.curdir) if name.endswith(".py")]
        text += suggest(module, names)
    return text


def describe_error(error: BaseException) -> str:
    """Return `file:line: Kind: message` of the innermost line that is not Python's own, such as argparse's."""
    said = type(error).__name__
    with suppress(BaseException):  # its text is its author's
        said = f"{said}: {error}"
    if issubclass(type(error), SyntaxError):  # isinstance() alone would ask the exception, which is its author's too
        assert isinstance(error, SyntaxError)
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    if issubclass(type(error), ModuleNotFoundError):
        said += f"; this is {sys.executable}, which needs that package"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<frozen", OURS)) and frame.filename != importlib.__file__
    ]
    place = next(
        (frame for frame in reversed(frames) if not is_pythons(frame.filename)), frames[-1] if frames else None
    )
    if place is None and issubclass(type(error), PermissionError):  # of reading the module
        assert isinstance(error, PermissionError)
        return f"{error.filename}: {os.strerror(error.errno or 0)}; {say_reader()}"
    return said if place is None else f"{place.filename}:{place.lineno}: {said}"


def _missing(text: str, owner: object, attribute: str) -> str:
    where = getattr(owner, "__file__", None) or getattr(owner, "__name__", type(owner).__name__)
    names = [name for name in vars(owner) if not name.startswith("_")] if hasattr(owner, "__dict__") else []
    near = difflib.get_close_matches(attribute, names, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    if isinstance(owner, ModuleType):
        own = os.path.join(handlers_path.current()[0] or os.curdir, f"{owner.__name__}.py")
        file = str(getattr(owner, "__file__", None) or "")
        if os.path.isfile(own) and not (os.path.isfile(file) and os.path.samefile(own, file)):
            hint = f"; modules of Python and of packages come before {own}: give that another name"
    return f"{text}: {where} has no {attribute!r}{hint}"


def as_service(found: object, text: str) -> AnyService:
    """Wrap a function or a protocol class; check a Service.

    Raises:
        HandlerError: it is neither.
    """
    if isinstance(found, Service):
        if not found.is_complete:
            raise HandlerError(
                f"{text}: this Service has no handler yet; decorate one with .frame, .frames, .session or .connect"
            )
        if found.function is not None:
            wants_connection(found.function, text)
        if found.batch is not None and is_async(found.batch):
            raise HandlerError(f"{text}: a batch is a plain function; async def f(line) belongs to @service.frame")
        if found.batch is not None and wants_connection(found.batch, text):
            raise HandlerError(f"{text}: a batch handler is a function of one argument, the list of frames")
        if found.coroutine is not None:
            check_session(found.coroutine, text)
        if isinstance(found.protocol, type):
            _check_class(found.protocol, text)
        return found
    service = Service()
    if isinstance(found, type):
        _check_class(found, text)
        service.protocol = found
    elif is_async(found) and answers_frames(found):
        wants_connection(found, text)
        service.function = cast("LineFunction", found)
    elif is_async(found):
        check_session(found, text)
        service.coroutine = cast("SessionFunction", found)
    elif is_factory(found):
        service.protocol = cast("Callable[[], object]", found)
    elif callable(found):
        wants_connection(found, text)
        service.function = found
    else:
        raise HandlerError(f"{text} is {_a(found)}; {FORMS}")
    return service


def _check_class(kind: type, text: str) -> None:
    if misspelt := _misspelt(kind):
        raise HandlerError(f"{text}: class {kind.__name__} has {misspelt[0]}; did you mean {misspelt[1]}?")
    if not frame_method(kind) and not hasattr(kind, "datagram_received"):
        raise HandlerError(f"{text}: class {kind.__name__} has none of {', '.join(PROTOCOL_METHODS)}; {FORMS}")
    try:
        signature = inspect.signature(kind)
    except (TypeError, ValueError):
        return  # of C
    try:
        signature.bind()
    except TypeError as error:
        raise HandlerError(
            f"{text}: class {kind.__name__}{signature} is made without arguments for each connection, and this fails: "
            f"{error}; name a function without parameters that makes one"
        ) from None


def _misspelt(kind: type) -> tuple[str, str] | None:
    """Return a method that looks like one that takes input, where the class has none of its own; and what was meant."""
    if any(_is_own(kind, name) for name in PROTOCOL_METHODS):
        return None  # others are its own business, such as lines_received beside data_received
    for name in vars(kind):
        for meant in difflib.get_close_matches(name, PROTOCOL_METHODS, 1, 0.85):
            if name != meant:
                return name, meant
    return None


def _is_own(kind: type, name: str) -> bool:
    """Tell whether a class has a method that is not inherited from asyncio or sockd, where it does nothing."""
    method = getattr(kind, name, None)
    module = getattr(method, "__module__", None) or ""
    return method is not None and module.partition(".")[0] not in ("asyncio", "sockd")


def _a(found: object) -> str:
    kind = type(found).__name__
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def is_factory(found: object) -> bool:
    """Tell whether a callable makes protocol objects, as for asyncio's create_server(): called without arguments."""
    if _real_class(found) is not None:
        return True
    try:
        inspect.signature(found).bind()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return not _accepts(found, 1)


def _accepts(function: object, count: int) -> bool:
    assert callable(function)
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    return True


def _real_class(protocol: object) -> type | None:
    """Return the class of which a protocol object is made, if that can be known: itself, or that of a partial."""
    while isinstance(protocol, functools.partial):
        protocol = protocol.func
    is_known = isinstance(protocol, type) and (frame_method(protocol) or hasattr(protocol, "datagram_received"))
    return cast("type", protocol) if is_known else None


def wants_raw_data(protocol: object) -> bool:
    """Return whether a protocol class, or a partial of one, takes unframed bytes."""
    kind = _real_class(protocol)
    return kind is not None and wants_bytes(kind)


def known_or_made(protocol: Callable[[], object]) -> Callable[[], object]:
    """Return what makes protocol objects, marked where only these tell what they take."""
    return protocol if _real_class(protocol) is not None else ProtocolFactory(protocol)


def answers_frames(function: object) -> bool:
    """Tell by its parameters what a coroutine function is: not (reader, writer) but (line) or (line, connection).

    Two parameters are a reader and a writer unless the second one is called `connection`, or is annotated so.
    """
    if not _accepts(function, 2):
        return _accepts(function, 1)
    parameters = [*inspect.signature(cast("Callable[..., object]", function)).parameters.values()]
    if len(parameters) < 2:
        return False
    annotation = parameters[1].annotation
    name = getattr(annotation, "__name__", "")
    is_annotated = "Connection" in (annotation, name) or str(annotation).endswith(".Connection")
    return parameters[1].name == "connection" or is_annotated


def check_session(function: object, text: str) -> None:
    """Check that a coroutine function has a reader and a writer as arguments.

    Raises:
        HandlerError: it does not.
    """
    assert callable(function)
    signature = inspect.signature(function)
    try:
        signature.bind(None, None)
    except TypeError:
        raise HandlerError(f"{text}{signature} cannot be called with a reader and a writer") from None


def wants_connection(function: object, text: str) -> bool:
    """Return whether a function has the arguments (frame, connection) rather than (frame).

    Raises:
        HandlerError: it has other arguments, or is a coroutine function.
    """
    assert callable(function)
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        kind = "an asynchronous generator" if inspect.isasyncgenfunction(function) else "a generator"
        raise HandlerError(f"{text} is {kind}, which has no reply to return; write return in place of yield; {FORMS}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return False  # a function of C: one argument, as bytes.upper
    for wants in (False, True):
        try:
            signature.bind(*([None] * (1 + wants)))
        except TypeError:
            continue
        return wants
    problem = "cannot be called with a line, nor with a line and its connection"
    raise HandlerError(f"{text}{signature} {problem}; write f(line) or f(line, connection)")


__all__ = [
    "Protocol",
    "as_service",
    "check_session",
    "describe_error",
    "drop_doubtful_bytecode",
    "find",
    "is_factory",
    "known_or_made",
    "wants_connection",
    "wants_raw_data",
]
