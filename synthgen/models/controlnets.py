"""Which ControlNet a name stands for, what it must be fed, and whether it fits the denoiser: all before a weight is
loaded.

    MODEL                             a folder that `synthgen adapt` wrote, or a repository with the same files:
                                      synthgen.json says what it is, the network lies in controlnet/
    MODEL/controlnet, any folder      a ControlNet in diffusers' layout, with a synthgen.json in it or beside it
    owner/name                        a ControlNet on the Hub; the published ones stand in controlnets.yaml
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from segkit.documents import read_yaml
from synthgen.errors import InputError, ModelError
from synthgen.labels import read_label_space
from synthgen.models.control import Control, Kind, Scale, require_colours
from synthgen.models.model_facts import FACTS, ModelFacts, parse_model_facts, read_model_facts
from synthgen.models.provenance import pinned_revision
from synthgen.models.weights import HUB_PREFIX, loading, resolve

_TABLE = Path(__file__).with_name("controlnets.yaml")
SUBFOLDER = "controlnet"
LABELLED = ("palette", "onehot")  # kinds that are made of the classes of a label space


class Advised(BaseModel):
    """What a card uses; 0 where it says nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    control_scale: float = 0.0
    guidance: float = 0.0
    steps: int = 0


class Published(BaseModel):
    """An entry of controlnets.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    control: Kind
    scale: Scale = "signed"
    label_space: str = ""
    base: str = Field(description="model that it was trained beside")
    advised: Advised = Advised()
    refused: str = Field("", description="why it cannot be used")
    parameters: float = 0.0
    download_gb: float = 0.0
    source: str


@dataclasses.dataclass(frozen=True, slots=True)
class ControlNet:
    """Where a ControlNet lies, and its `config.json` with the defaults of its class filled in."""

    name: str  # as the recipe has it
    place: Path | str
    load_options: dict[str, str]  # subfolder and revision, for diffusers' loaders
    facts: ModelFacts
    config: dict[str, Any]


@functools.cache
def published_controlnets() -> dict[str, Published]:
    """Hub id or mini -> what is known of it. The file is the list."""
    return TypeAdapter(dict[str, Published]).validate_python(read_yaml(_TABLE, InputError))


def published(name: str) -> Published | None:
    """The entry of a name as recipes write it; None for one that is not in the list."""
    plain = name.removeprefix(HUB_PREFIX).rstrip("/")
    return published_controlnets().get(plain) or published_controlnets().get(f"{plain}/{SUBFOLDER}")


def find_controlnet(name: str, revision: str = "", subfolder: str = "") -> ControlNet:
    """Read what there is to read of a ControlNet beside its weights. `subfolder` is that of the network in it, "" for
    what its files say.

    Raises ModelError in one line for one that is not there, is no ControlNet of the SD3 kind, or cannot be used.
    """
    entry = published(name)
    if entry is not None and entry.refused:
        raise ModelError(f"ControlNet {name!r} cannot be used: {entry.refused}")
    place = resolve(name)
    options = pinned_revision(name, revision)
    with loading(name):
        if isinstance(place, Path):
            facts, inner = _facts_of_folder(place), folder_of_net(place) != place
        else:
            facts = ModelFacts() if entry is not None else _facts_on_hub(place, options)
            inner = facts.control is not None
        if subfolder or inner:
            options |= {"subfolder": subfolder or SUBFOLDER}
        config = _config(place, options)
    if config.get("_class_name", "SD3ControlNetModel") != "SD3ControlNetModel":
        raise ModelError(
            f"ControlNet {name!r}: its config.json says {config['_class_name']}, and this renderer needs an "
            "SD3ControlNetModel: one that was trained for Stable Diffusion 3 or 3.5"
        )
    return ControlNet(name, place, options, facts, config)


def folder_of_net(folder: Path) -> Path:
    """The folder that holds the network: `folder`, or `controlnet/` in it, as `synthgen adapt` writes it."""
    inner = folder / SUBFOLDER
    return inner if not (folder / "config.json").is_file() and (inner / "config.json").is_file() else folder


def control_of(net: ControlNet, kind: str, palette: str) -> Control:
    """The condition that a ControlNet is to be fed. `kind` is that of the recipe, "auto" for what the folder or the
    list says; `palette` the recipe's label space, "" for that of the folder or list.

    Raises ModelError in one line where neither says it, where the recipe contradicts itself, and where classes that are
    told by colour have none.
    """
    known = net.facts.control or _control_of_entry(published(net.name))
    if kind == "auto":
        if known is None and not palette:
            raise ModelError(
                f"ControlNet {net.name!r}: nothing says what it must be fed (no {FACTS}, and it is not among the "
                "published ones): set render.renderer.control to palette, onehot, edges, depth or image; for palette "
                "and onehot render.renderer.control_palette too"
            )
        chosen = known or Control("palette")
    else:
        chosen = known if known is not None and known.kind == kind else Control(kind)  # type: ignore[arg-type]
    if chosen.kind not in LABELLED:
        if palette:
            raise ModelError(
                f"ControlNet {net.name!r} is fed {chosen.kind}, which has no palette: leave render.renderer."
                "control_palette out, or set render.renderer.control to palette or onehot"
            )
        return chosen
    labels = read_label_space(palette) if palette else chosen.labels or (known.labels if known else None)
    if labels is None:
        raise ModelError(
            f"ControlNet {net.name!r}: set render.renderer.control_palette to the label space whose classes it was "
            f"trained on, which render.renderer.control={chosen.kind} needs"
        )
    chosen = dataclasses.replace(chosen, labels=labels)
    require_colours(chosen)
    return chosen


def transformer_config(place: Path | str, revision: dict[str, str], model: str) -> dict[str, Any]:
    """The configuration of an SD3-type model's denoiser, with the defaults of its class filled in."""
    from diffusers import SD3Transformer2DModel

    with loading(model):
        config: dict[str, Any] = SD3Transformer2DModel.load_config(place, subfolder="transformer", **revision)
    return _defaults(SD3Transformer2DModel) | config


def _config(place: Path | str, options: dict[str, str]) -> dict[str, Any]:
    from diffusers import SD3ControlNetModel

    config: dict[str, Any] = SD3ControlNetModel.load_config(place, **options)
    return _defaults(SD3ControlNetModel) | config


def _defaults(kind: Any) -> dict[str, Any]:
    parameters = inspect.signature(kind.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _facts_of_folder(folder: Path) -> ModelFacts:
    """In the folder itself, or else beside it: `MODEL/controlnet` is described in MODEL."""
    inside = read_model_facts(folder)
    return inside if (folder / FACTS).is_file() or folder.name != SUBFOLDER else read_model_facts(folder.parent)


def _facts_on_hub(repository: str, revision: dict[str, str]) -> ModelFacts:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return parse_model_facts(Path(hf_hub_download(repository, FACTS, revision=revision.get("revision"))))
    except EntryNotFoundError:  # the repository has no such file, or nobody can say now
        return ModelFacts()


def _control_of_entry(entry: Published | None) -> Control | None:
    if entry is None:
        return None
    labels = read_label_space(entry.label_space) if entry.label_space else None
    return Control(entry.control, labels, entry.scale)
