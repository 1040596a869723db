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

# Shorter names on the command line.
SPELLINGS = {"crop_px": "crop", "validation": "validate"}
_OTHER_NAMES = {"data": ("--folder", "--source"), "unlabelled": ("--target",)}
_FOLDERS = (
    "data",
    "out",
    "validation",
    "synthetic",
    "support",
    "base_model",
    "base",
    "objects",
    "unlabelled",
    "init_from",
    "unet",
)
_LIST = "LIST"  # metavar of a comma list
_METAVARS = {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "FILE"}


def command_of(
    kind: type[BaseModel], run: Callable[[dict[str, Any], bool], None], preset: Callable[[str], dict[str, Any]]
) -> Callable[..., None]:
    """A function for typer: it calls `run` with the values by field name, and whether --json was given; checking them
    is the model's work.

    The help text is the docstring of the model without its examples; its options are in panels, by the class that
    declares the field. `preset` gives the values of --preset, which count where an option is not given.
    """

    forms: dict[str, Any] = {}  # by spelling: list, _LIST for a comma list, anything else for one value

    def take(context: typer.Context, value: str | None) -> None:
        if value is not None and not context.resilient_parsing:
            context.default_map = {name: _as_given(content, forms[name]) for name, content in preset(value).items()}

    def command(**values: Any) -> None:
        run({name: values[SPELLINGS.get(name, name)] for name in kind.model_fields}, values["as_json"])

    from_file = typer.Option(
        "--preset",
        callback=take,
        is_eager=True,
        metavar="NAME|FILE",
        help="options from a file; those that are given beside it win",
        rich_help_panel="Execution",
    )
    parameters = [
        inspect.Parameter(
            "preset", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, from_file]
        )
    ]
    for name, field in _in_order(kind):
        spelling = SPELLINGS.get(name, name)
        plain, metavar = _plain(field.annotation)
        forms[spelling] = metavar if metavar == _LIST else typing.get_origin(plain)
        flag = f"--{spelling.replace('_', '-')}"
        flags = [f"{flag}/--no-{flag[2:]}"] if plain is bool else [flag, *_OTHER_NAMES.get(name, ())]
        default: Any = inspect.Parameter.empty if field.is_required() else field.default
        if isinstance(default, tuple):
            default = list(default) if typing.get_origin(plain) is list else ",".join(map(str, default))
        option = typer.Option(
            *flags,
            help=field.description,
            metavar="FOLDER" if name in _FOLDERS else metavar,
            rich_help_panel=_panel(kind, name),
            show_default=default not in (None, "", [], inspect.Parameter.empty),
        )
        parameters.append(
            inspect.Parameter(
                spelling, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[plain, option]
            )
        )
    as_json = typer.Option(
        "--json", help="the end result on standard output, machine-readable", rich_help_panel="Execution"
    )
    parameters.append(
        inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, as_json])
    )
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = "\n".join(line for line in (kind.__doc__ or "").splitlines() if not _is_example(line))
    return command


def _as_given(value: Any, form: Any) -> Any:
    """A value or a list of a preset as the option takes it: one value is a list of one, a comma list is a text."""
    if form is list:
        return value if isinstance(value, list) else [value]
    return ",".join(map(str, value)) if form == _LIST and isinstance(value, list) else value


def examples_of(kind: type[BaseModel]) -> list[str]:
    """The lines of its docstring that are commands."""
    return [line.strip() for line in (kind.__doc__ or "").splitlines() if _is_example(line)]


def _is_example(line: str) -> bool:
    return line.strip().startswith("segtrain ")


def _in_order(kind: type[BaseModel]) -> list[tuple[str, Any]]:
    """The fields: what must be given first, then panel by panel."""
    return sorted(kind.model_fields.items(), key=lambda item: (not item[1].is_required(), _panel(kind, item[0])))


def _panel(kind: type[BaseModel], name: str) -> str:
    """That of the first class which declares the field: a later one may only have changed its default."""
    owner = next(c for c in reversed(kind.__mro__) if name in inspect.get_annotations(c))
    return str(getattr(owner, "panel", "Method"))


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
        return (str, _LIST) if item is int else (list[item], metavar)  # type: ignore[valid-type]
    if origin in (typing.Union, types.UnionType):
        item, metavar = _plain(next(a for a in arguments if a is not type(None)))
        return item | None, metavar
    return annotation, _METAVARS.get(annotation)
