"""The methods as commands that are built when they are called: a help page, and completion, answer at once.

Of a method that is not called only `__init__.py` is read: its first line, and the words of its commands.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

METHODS = Path(__file__).parent / "methods"
Add = Callable[[typer.Typer, str, str, str], None]
"""Adds a command to an app: of this folder, of these words, with the settings of that class of its config.py."""


def methods() -> list[str]:
    """The folders of `segtrain/methods/`."""
    return sorted(path.parent.name for path in METHODS.glob("*/method.py"))


class MethodGroup(TyperGroup):
    """A group in which the first word of each method's commands stands for it until it is called."""

    add: Add

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self._folders: dict[str, str] = {}
        for folder in methods():
            package = importlib.import_module(f"segtrain.methods.{folder}")
            summary = (package.__doc__ or "").strip().splitlines()[0]
            for word in dict.fromkeys(words.split()[0] for words in package.COMMANDS):
                self._folders[word] = folder
                self.commands = {word: TyperCommand(word, help=summary), **self.commands}

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Methods by name, then the others in their order."""
        return [*sorted(self._folders), *(name for name in self.commands if name not in self._folders)]

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """As ever, but a method's command is the whole one."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and name in self._folders:
            command = self.whole(name)
        return name, command, rest

    def whole(self, word: str) -> Any:
        """The command, or the group of commands, of a method that begins with a word, with all its options."""
        folder = self._folders[word]
        package = importlib.import_module(f"segtrain.methods.{folder}")
        parts = {words: kind for words, kind in package.COMMANDS.items() if words.split()[0] == word}
        is_group = list(parts) != [word]
        app = typer.Typer(no_args_is_help=is_group, add_completion=False, rich_markup_mode="rich")
        if is_group:
            app.callback(help=self.commands[word].help)(_nothing_of_its_own)
        for words, kind in parts.items():
            type(self).add(app, folder, words, kind)
        command = typer.main.get_command(app)
        command.name = word
        return command


def _nothing_of_its_own() -> None:
    """What a group does before its command."""
