"""`synthgen init`: writes a recipe to start from, every setting of which says what it is for.

Where no label space is named, one is written beside it: background 0, the classes 1, 2, 3 ... in the order given.
"""

from __future__ import annotations

import colorsys
import dataclasses
import math
import os
import re
import shlex
import string
import unicodedata
from pathlib import Path

from segkit.documents import parse_yaml
from segkit.labels import label_space_of
from segkit.printable import printable
from segkit.spelling import same_name
from synthgen.errors import RecipeError, StorageError
from synthgen.files import write_text
from synthgen.labels import read_label_space
from synthgen.recipe import recipe_of

MODELS = {
    "mini": "mini/objects",
    "sd35-large": "stabilityai/stable-diffusion-3.5-large",
    "sd35-medium": "stabilityai/stable-diffusion-3.5-medium",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Answers:
    """What a recipe is made from."""

    classes: tuple[str, ...]
    support: str = ""  # a folder, "" for drawn images (mini model only)
    model: str = "sd35-large"  # a key of MODELS, a Hub id or a local folder
    count: int = 500  # images to render, all classes together
    shots: int = 5
    space: str = ""  # a shipped label space or a path; "" = written beside the recipe, or the mini model's own


def write_recipe(path: Path, answers: Answers) -> list[Path]:
    """Write the recipe (and its label space); returns what was written.

    Raises StorageError if a file is there already, RecipeError or LabelError if the answers do not fit together.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise RecipeError(f"{path}: a recipe's name ends in .yaml")
    name = _run_name(path)
    labels = path.with_name(f"{path.stem}.labels.yaml")
    is_mini = MODELS.get(answers.model, answers.model).startswith("mini/")
    space = answers.space or ("objects" if is_mini else labels.name)  # what lies beside a recipe is named as such
    texts: dict[Path, str] = {}
    if not answers.space and not is_mini:
        texts[labels] = label_space_text(name, answers.classes)
        label_space_of(parse_yaml(texts[labels], str(labels)), str(labels))
    else:
        known = read_label_space(space)
        ids = [known.by_name(word).id for word in answers.classes]
        if len(set(ids)) != len(ids) or known.background in ids:
            raise _twice_or_background(answers.classes)
    if not answers.support and not is_mini:
        raise RecipeError(
            "--support: photographs need a support folder (images/ and labels/); without one use --model mini"
        )
    answers = dataclasses.replace(answers, support=_seen_from(path.parent, answers.support))
    num_classes = len(answers.classes) or len(read_label_space(space).foreground)
    space = _seen_from(path.parent, space) if answers.space else space
    texts[path] = recipe_text(path, name, answers, space, is_mini, num_classes)
    recipe_of(parse_yaml(texts[path], str(path)), str(path))
    for each in texts:
        if each.exists():
            raise StorageError(f"{each}: exists; choose another name, nothing is overwritten")
    for each, text in texts.items():
        write_text(text, each)
    return list(texts)


def _run_name(path: Path) -> str:
    """The name of a recipe's runs: its file's, without accents, `-` for what such a name may not hold. Raises
    RecipeError if nothing is left."""
    letters = "".join(c for c in unicodedata.normalize("NFKD", path.stem) if not unicodedata.combining(c))
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", letters).strip("-_")
    if not name:
        raise RecipeError(
            f"{path}: its runs take their name from it, and a run's name is of a-z, A-Z, 0-9, _ and -, none of which "
            "the file's has; call it something like recipe.yaml"
        )
    return name


def _quoted(text: str) -> str:
    """A text as YAML has it in quotes. JSON's two escapes of a character beyond 16 bits are two characters to YAML."""
    return '"' + "".join(f"\\{c}" if c in '"\\' else c if c.isprintable() else f"\\U{ord(c):08x}" for c in text) + '"'


def _seen_from(folder: Path, place: str) -> str:
    """A place below the working directory as a recipe in `folder` names it; names and absolute paths stay."""
    path = Path(place).expanduser()
    return os.path.relpath(path, folder) if place and not path.is_absolute() and path.exists() else place


def _twice_or_background(classes: tuple[str, ...]) -> RecipeError:
    return RecipeError(f"--classes: {', '.join(classes)}: each once, and without the background")


def label_space_text(name: str, classes: tuple[str, ...]) -> str:
    """A label space of background and the classes, in colours that are easy to tell apart."""
    if not classes:
        raise RecipeError("--classes: name at least one, for example --classes 'bicycle, bus'")
    names = {same_name(word) for word in classes}  # "Bus" and "bus" would be one class wherever a name is read
    if len(names) != len(classes) or "background" in names:
        raise _twice_or_background(classes)
    lines = [
        f"# Label space of {name}: the masks of your support folder must hold these ids; 255 = unlabelled.",
        "# synonyms: other words for the class in prompts; the first one is used in sentences.",
        f"name: {_quoted(name)}",
        "background: 0",
        "labels:",
        "  - {id: 0, name: background, colour: [0, 0, 0]}",
    ]
    for number, word in enumerate(classes, start=1):
        # the golden ratio spreads hues however many there are
        colour = [round(255 * part) for part in colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.75, 0.9)]
        lines.append(f"  - {{id: {number}, name: {_quoted(word)}, colour: {colour}, synonyms: [{_quoted(word)}]}}")
    return "\n".join(lines) + "\n"


def recipe_text(path: Path, name: str, answers: Answers, space: str, is_mini: bool, num_classes: int) -> str:
    """The YAML, with its comments, of the recipe at `path` whose runs are called `name`."""
    model = MODELS.get(answers.model, answers.model)
    per_class = max(1, math.ceil(answers.count / num_classes))
    support = (
        f"folder: {_quoted(answers.support)}  # images/ and labels/ with the same stems; labels are PNGs of class ids"
    )
    if not answers.support:
        support = (
            "drawn: {world: objects, seed: 7, size_px: 64}  # drawings, to try things out; for your own: "
            "folder: my_support"
        )
    template = Path(__file__).with_name(f"starter_{'mini' if is_mini else 'full'}.yaml.template")
    return string.Template(template.read_text(encoding="utf-8")).substitute(
        name=_quoted(name),
        file=printable(shlex.quote(f"./{path.name}")),
        space=_quoted(space),
        classes=f"[{', '.join(map(_quoted, answers.classes))}]",
        support=support,
        shots=answers.shots,
        model=_quoted(model),
        model_name=model,
        per_class=per_class,
        num_classes=num_classes,
        count=answers.count,
    )
