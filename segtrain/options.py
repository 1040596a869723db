"""A settings model as a command: every field is an option with its own description and default."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import BaseModel

# Shorter names on the command line, as `segtrain train` has them.
SPELLINGS = {"crop_px": "crop", "validation": "validate"}
_FOLDERS = ("data", "out", "validation", "synthetic", "support", "base_model")
_WORDS = {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "FILE"}


def command_of(kind: type[BaseModel], run: Callable[[dict[str, Any]], None], doc: str) -> Callable[..., None]:
    """A function for typer: it calls `run` with the values by field name; checking them is the model's work.

    `doc` is the help text.
    """

    def command(**values: Any) -> None:
        run({name: values[SPELLINGS.get(name, name)] for name in kind.model_fields})

    parameters = []
    for name, field in kind.model_fields.items():
        spelling = SPELLINGS.get(name, name)
        plain, metavar = _plain(field.annotation)
        metavar = "FOLDER" if name in _FOLDERS else metavar
        flag = f"--{spelling.replace('_', '-')}"
        flags = [f"{flag}/--no-{flag[2:]}"] if plain is bool else [flag]
        option = typer.Option(*flags, help=field.description, metavar=metavar)
        default: Any = inspect.Parameter.empty if field.is_required() else field.default
        if isinstance(default, tuple):
            default = list(default) if typing.get_origin(plain) is list else ",".join(map(str, default))
        parameters.append(
            inspect.Parameter(
                spelling, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[plain, option]
            )
        )
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = doc
    return command


def _plain(annotation: Any) -> tuple[Any, str | None]:
    """The type that typer parses, and what stands for it in the help. A choice is a text here:

    the model names the allowed ones.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _plain(arguments[0])
    if origin is Literal:
        return str, "|".join(map(str, arguments))
    if origin is tuple:
        item, metavar = _plain(arguments[0])
        # A comma list, as decoder_channels takes it, is one text.
        return (str, "LIST") if item is int else (list[item], metavar)  # type: ignore[valid-type]
    if origin in (typing.Union, types.UnionType):
        item, metavar = _plain(next(a for a in arguments if a is not type(None)))
        return item | None, metavar
    return annotation, _WORDS.get(annotation)
