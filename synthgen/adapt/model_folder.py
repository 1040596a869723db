"""The folder that an adaptation leaves: what stock diffusers loads, what synthgen reads of it, and a model card.

controlnet/      SD3ControlNetModel.from_pretrained(MODEL, subfolder="controlnet")
lora/            pipeline.load_lora_weights(MODEL/lora): the look of the labelled pictures; leave it out for the swap
synthgen.json    what it is fed and which base it goes with; written last
README.md        model card
training/        settings, losses, TensorBoard log, sample grids
work/            encoded pictures and checkpoints: while it is trained only
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from segkit.documents import read_json
from segkit.printable import excerpt
from synthgen.adapt.networks import Base
from synthgen.backends import Licence
from synthgen.claims import are_digests, first_difference
from synthgen.errors import InputError, RunError, StorageError
from synthgen.files import write_bytes, write_text
from synthgen.models.control import Control
from synthgen.models.licences import APACHE, sd3_licences
from synthgen.models.model_facts import FACTS, ModelFacts, write_model_facts
from synthgen.models.weights import MINI_PREFIX, resolve
from synthgen.recipe import Recipe

WORK, TRAINING, SETTINGS = "work", "training", "settings.json"


def is_finished(out: Path) -> bool:
    """Whether an adaptation has left its model here."""
    return (out / FACTS).is_file() and (out / TRAINING / SETTINGS).is_file()


def commits(recipe: Recipe, out: Path) -> dict[str, str]:
    """The recipe's pinned Hub models, and the commit of the base that an adaptation in `out` was begun with: it goes on
    with that one, whatever the Hub has learnt since.
    """
    path = out / TRAINING / SETTINGS
    options = recipe.render.renderer.model_dump()
    model, revision = str(options.get("model", "")), str(options.get("revision", ""))
    if not path.is_file() or not model or not isinstance(resolve(model), str):
        return recipe.models
    before = read_json(path, InputError)
    base = before.get("base", {}) if isinstance(before, dict) else {}
    if base.get("model") != model or not isinstance(base.get("revision"), str):
        return recipe.models
    repository = "/".join(str(resolve(model)).split("/")[:2])
    return {**recipe.models, f"{repository}@{revision}" if revision else repository: base["revision"]}


def check(out: Path, settings: dict[str, Any]) -> bool:
    """Whether the folder was begun with these settings; False for one that is new or empty.

    Raises RunError, naming the setting, for one that was begun with others, or that holds what is not ours;
    StorageError if it cannot be read.
    """
    path = out / TRAINING / SETTINGS
    settings = json.loads(json.dumps(settings))  # tuples become lists, as they are read back
    if path.is_file():
        before = read_json(path, InputError)
        if before != settings:
            name, old, new = first_difference(before, settings)
            begun_with = f"{name} = {excerpt(old)}, it now says {excerpt(new)}"
            if are_digests(old, new):
                begun_with = f"other content than {name} has now"
            raise RunError(f"{out}: was begun with {begun_with}; give another --out, or move the folder away")
        return True
    try:
        strangers = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    except OSError as error:
        raise StorageError(f"{out}: cannot be read ({error.strerror or error})") from error
    if out.exists() and (not out.is_dir() or set(strangers) - {TRAINING}):
        what = f"holds {strangers[0]!r}" if strangers else "is a file"
        raise RunError(f"{out}: {what} and was not begun by synthgen adapt; give a new folder")
    return False


def claim(out: Path, settings: dict[str, Any]) -> None:
    """Take a new or empty folder for these settings, or one that was begun with the same ones. Raises as `check` does,
    and StorageError if it cannot be written.
    """
    if not check(out, settings):
        write_text(json.dumps(settings, indent=1) + "\n", out / TRAINING / SETTINGS)


def save_network(net: Any, out: Path, dtype: str) -> None:
    """A ControlNet as `controlnet/`, whole or not at all, without a word of where it was trained."""
    import torch

    scratch = out / WORK / "controlnet-whole"
    _written(lambda: net.to(getattr(torch, dtype)).save_pretrained(scratch, max_shard_size="10GB"), scratch)
    config = json.loads((scratch / "config.json").read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)
    write_bytes((json.dumps(config, indent=2, sort_keys=True) + "\n").encode(), scratch / "config.json")
    move_into_place(scratch, out / "controlnet")


def move_into_place(scratch: Path, target: Path) -> None:
    """Rename a finished folder over what an earlier, killed finish has left."""
    try:
        if target.exists():
            shutil.rmtree(target)
        scratch.rename(target)
    except OSError as error:
        raise StorageError(f"{target}: cannot be written ({error.strerror or error})") from error


def _written(write: Any, folder: Path) -> None:
    try:
        shutil.rmtree(folder, ignore_errors=True)
        write()
    except OSError as error:
        raise StorageError(
            f"{folder}: cannot be written ({error.strerror or error}); free the space, then run the same command again"
        ) from error


def licence_of(model: str) -> Licence | None:
    """Of the base, which what is made from it comes under as well; None if nobody says."""
    if model.startswith(MINI_PREFIX):
        return APACHE
    return sd3_licences(model).get(model)


def write_card(out: Path, base: Base, control: Control, size_px: tuple[int, int], facts: dict[str, Any]) -> None:
    """README.md. `facts` are words for what was trained: name -> text."""
    licence = licence_of(base.model)
    known = licence or Licence("unknown", "", "unknown")
    data = ModelCardData(
        license="other" if known.hub_name else known.name,
        license_name=known.hub_name or None,
        license_link=known.link or None,
        base_model=None if isinstance(base.place, Path) else base.model,
        library_name="diffusers",
        tags=["controlnet", "semantic-segmentation", "synthgen"],
    )
    labels = control.labels
    assert labels is not None
    where = f"{base.model} ({base.revision})"
    lines = [
        f"# ControlNet for label maps of {labels.name!r}, on {base.model}",
        "",
        f"Made by `synthgen adapt`. It carries a label map to {where}: every class has the colour "
        f"of the table below, ids in nearest resizing, {size_px[0]} x {size_px[1]} px.",
        "",
        "Style swap (DGInStyle): render with the base itself, and the prompt says place, time and weather. With "
        "`lora/` loaded beside it, the pictures look like those that were learnt from.",
        "",
        "```python",
        "from diffusers import SD3ControlNetModel, StableDiffusion3ControlNetPipeline",
        "",
        'net = SD3ControlNetModel.from_pretrained("MODEL", subfolder="controlnet")',
        f'pipeline = StableDiffusion3ControlNetPipeline.from_pretrained("{base.model}", controlnet=net)',
        "```",
        "",
        "or `synthgen run RECIPE --set render.renderer.controlnet=MODEL`.",
        "",
    ]
    if control.kind == "onehot":
        lines += [
            "**synthgen only**: it takes one channel a class beside the latents of the picture, which no stock "
            "pipeline feeds.",
            "",
        ]
    lines += ["## Training", "", *(f"- {name}: {text}" for name, text in facts.items()), ""]
    for name in ("lora", "controlnet"):
        grids = sorted((out / TRAINING / "samples").glob(f"{name}-*.png"))
        if (out / TRAINING / f"{name}.svg").is_file():
            lines += [f"![loss of the {name}]({TRAINING}/{name}.svg)", ""]
        if grids:
            lines += [f"![the last samples of the {name}]({TRAINING}/samples/{grids[-1].name})", ""]
    lines += ["## Licence", "", _licence_words(base.model, licence), ""]
    lines += ["## Classes", "", "| id | name | colour |", "|---|---|---|"]
    lines += [f"| {label.id} | {label.name} | {', '.join(map(str, label.colour))} |" for label in labels.labels]
    text = f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(lines) + "\n"
    write_bytes(str(ModelCard(text)).encode(), out / "README.md")


def _licence_words(model: str, licence: Licence | None) -> str:
    pictures = "What the labelled pictures allow is for whoever brought them to say."
    if licence is None:
        return f"Nobody says under which licence {model} comes; what is made from it comes under the same. {pictures}"
    link = f" ({licence.link})" if licence.link else ""
    return f"It is made from {model} and comes under its licence, {licence.name}{link}. {pictures}"


def finish(out: Path, facts: ModelFacts) -> None:
    """Write synthgen.json, the mark of a finished model, then drop the work."""
    write_model_facts(facts, out)
    shutil.rmtree(out / WORK, ignore_errors=True)
