"""Modules that are found by their file name: backends, export formats, filter rules. The folder is the list.

A name with a dot is somebody else's module, anywhere on Python's path. To import a module is to run it, so what only
looks at a recipe (`--dry-run`, `doctor`, `recipes`) imports none unless it is told to: `looking_only`.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from types import ModuleType

from synthgen.errors import SynthgenError, did_you_mean

_looking_only = contextvars.ContextVar("looking_only", default=False)


@contextlib.contextmanager
def looking_only(trust: bool = False) -> Iterator[None]:
    """Inside, `find` refuses modules of others, unless they are trusted."""
    token = _looking_only.set(not trust)
    try:
        yield
    finally:
        _looking_only.reset(token)


@functools.cache
def available(package: str) -> tuple[str, ...]:
    """Names of the modules of a package, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(importlib.import_module(package).__path__)))


def modules(package: str) -> list[tuple[str, ModuleType]]:
    """(name, module) of every module of a package, sorted by name."""
    return [(name, importlib.import_module(f"{package}.{name}")) for name in available(package)]


def find(
    package: str,
    name: str,
    *,
    kind: str,
    public: Sequence[str],
    document: str,
    error: type[SynthgenError],
    known: Sequence[str] = (),
) -> ModuleType:
    """The module `name` of a package, or of anybody's if it has a dot.

    `known` are the names as a user writes them (`-` for `_`), by default those of the files. Raises `error` in one
    line for a name that is not known or cannot be imported, and for a module that lacks one of the `public` names.
    """
    known = known or available(package)
    choice = f"there are: {', '.join(known)} (a name with a dot is a module of your own)"
    if not all(part.isidentifier() for part in name.replace("-", "_").split(".")):
        raise error(f"{kind} {name!r} is no module name; {choice}")
    shipped = "." not in name
    if shipped and name not in known:
        raise error(f"{kind} {name!r} is not known; {choice}{did_you_mean(name, known)}")
    if not shipped and _looking_only.get():
        raise error(
            f"{kind} {name!r}: somebody else's module is not imported to look at a recipe, since that runs it; "
            "read it, then say --trust"
        )
    path = f"{package}.{name.replace('-', '_')}" if shipped else name
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as problem:
        if problem.name is not None and not f"{path}.".startswith(f"{problem.name}."):
            raise error(f"{kind} {name!r} needs the package {problem.name!r}, which is not installed") from problem
        raise error(f"{kind} {name!r}: no module of that name can be imported; {choice}") from problem
    for member in public:
        if not hasattr(module, member):
            raise error(f"{kind} {name!r}: {module.__name__} has no {member!r}; see {document}")
    return module
