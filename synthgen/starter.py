"""`synthgen init`: writes a recipe to start from, every setting of which says what it is for.

Where no label space is named, one is written beside it: background 0, the classes 1, 2, 3 ... in the order given.
"""

from __future__ import annotations

import colorsys
import dataclasses
import json
import math
from pathlib import Path

from segkit.documents import parse_yaml
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
    labels = path.with_name(f"{path.stem}.labels.yaml")
    is_mini = MODELS.get(answers.model, answers.model).startswith("mini/")
    space = answers.space or ("objects" if is_mini else str(labels))
    texts: dict[Path, str] = {}
    if space == str(labels):
        texts[labels] = label_space_text(path.stem, answers.classes)
    else:
        known = read_label_space(space)
        for name in answers.classes:
            known.by_name(name)
    if not answers.support and not is_mini:
        raise RecipeError(
            "--support: photographs need a support folder (images/ and labels/); without one use --model mini"
        )
    texts[path] = recipe_text(path.stem, answers, space, is_mini)
    recipe_of(parse_yaml(texts[path], str(path)), str(path))
    for each in texts:
        if each.exists():
            raise StorageError(f"{each}: exists; choose another name, nothing is overwritten")
    for each, text in texts.items():
        write_text(text, each)
    return list(texts)


def label_space_text(name: str, classes: tuple[str, ...]) -> str:
    """A label space of background and the classes, in colours that are easy to tell apart."""
    if not classes:
        raise RecipeError("--classes: name at least one, for example --classes 'bicycle, bus'")
    if len(set(classes)) != len(classes) or "background" in classes:
        raise RecipeError(f"--classes: {', '.join(classes)}: each once, and without the background")
    lines = [
        f"# Label space of {name}: the masks of your support folder must hold these ids; 255 = unlabelled.",
        "# synonyms: other words for the class in prompts; the first one is used in sentences.",
        f"name: {json.dumps(name)}",
        "background: 0",
        "labels:",
        "  - {id: 0, name: background, colour: [0, 0, 0]}",
    ]
    for number, word in enumerate(classes, start=1):
        # the golden ratio spreads hues however many there are
        colour = [round(255 * part) for part in colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.75, 0.9)]
        lines.append(
            f"  - {{id: {number}, name: {json.dumps(word)}, colour: {colour}, synonyms: [{json.dumps(word)}]}}"
        )
    return "\n".join(lines) + "\n"


def recipe_text(name: str, answers: Answers, space: str, is_mini: bool) -> str:
    """The YAML with its comments."""
    model = MODELS.get(answers.model, answers.model)
    num_classes = len(answers.classes) or len(read_label_space(space).foreground)
    per_class = max(1, math.ceil(answers.count / num_classes))
    size_px = 64 if is_mini else 1024
    clip = "mini/clip" if is_mini else "hf-hub:laion/CLIP-ViT-L-14-laion2B-s32B-b82K"
    features = "{name: efficientnet_lite0}" if is_mini else f'{{name: open_clip, model: "{clip}"}}'
    decoder = (
        "{name: segment_anything, model: mini/sam}"
        if is_mini
        else "{name: segment_anything, model: sam_vit_h_4b8939.pth, kind: vit_h}"
    )
    support = (
        f"folder: {json.dumps(answers.support)}  # images/ and labels/ with the same stems; labels are "
        "PNGs of class ids"
    )
    if not answers.support:
        support = (
            "drawn: {world: objects, seed: 7, size_px: 64}  # drawings, to try things out; for your own: "
            "folder: my_support"
        )
    needs = (
        "# Needs: nothing but the package; the pictures are 64 px drawings." if is_mini else _NEEDS.format(model=model)
    )
    return f"""# Written by `synthgen init`. Run it:   synthgen run ./{name}.yaml
# Check first what is missing here:      synthgen doctor ./{name}.yaml
{needs}
# Every other setting has a default: see synthgen/recipe.py, or `synthgen recipes syn4seg`.
name: {json.dumps(name)}  # also the name of the run folder
title: ""  # one line for the data card
seed: 0  # sample keys and noise seeds follow from it
labels:
  space: {json.dumps(space)}  # class names, ids and colours
  classes: {json.dumps(list(answers.classes))}  # empty = every class of the space but the background
support:
  {support}
  shots: {answers.shots}  # labelled images per class
prompts:
  source: {{name: grammar, vocabulary: {"objects" if is_mini else "voc"}}}  # sentence templates; {{name: file, path: prompts.txt}} takes your own
  embedder: {{name: sd3, model: {json.dumps(model)}}}  # its text embeddings decide what is a near-duplicate
  lambda_div: {0.97 if is_mini else 0.85}  # largest cosine to an accepted prompt; `synthgen prompts ./{name}.yaml --calibrate` helps to choose
  per_class: {per_class}  # prompts per class: {per_class} x {num_classes} classes for about {answers.count} images
render:
  renderer: {{name: sd3, model: {json.dumps(model)}, steps: {20 if is_mini else 28}, guidance: {3.0 if is_mini else 4.5}}}
  height_px: {size_px}
  width_px: {size_px}
  images_per_prompt: 1
refine:
  features: {features}  # compared with the support set
  proposer: {{name: prototype}}
  mask_decoder: {decoder}  # draws the boundaries
  background_prototypes: {16 if is_mini else 8}  # a background is many things
  apf: {{lambda_apf: {0.3 if is_mini else 0.6}, min_region_px: {12 if is_mini else 256}}}  # regions less like their class than this are freed
  apr: {{beta: {0.8 if is_mini else 0.5}, min_cosine: {0.5 if is_mini else 0.6}, min_margin: {0.02 if is_mini else 0.05}}}  # ... and labelled again
  sabr: {{band_fraction: {0.05 if is_mini else 0.01}, min_region_px: {20 if is_mini else 64}}}  # how far a boundary may move
filter:
  scorer: {{name: open_clip, model: "{clip}"}}
  rules:  # change them later without rendering again: --set filter.rules.NAME=VALUE --redo filter
    min_class_fraction: {0.03 if is_mini else 0.02}  # share of the mask that must have the class
    max_class_fraction: {0.7 if is_mini else 0.8}  # more is a mask that has run over
    min_labelled_fraction: {0.7 if is_mini else 0.5}
    max_image_similarity: {0.995 if is_mini else 0.97}  # near-duplicates of a kept image are refused
pack:
  samples_per_shard: {100 if is_mini else 1000}
  validation_fraction: 0.0  # share that goes to the split `validation`
  mark: iptc  # each image says in its XMP that a model made it; none = nothing, c2pa = signed as well
execution:  # speed only: changes no pixel on a CPU
  batch_size: {8 if is_mini else 4}
  unit_rows: {32 if is_mini else 64}  # the most that a kill can lose
"""


_NEEDS = """# Needs: {model} (a gated model: accept its licence on the Hub and set HF_TOKEN), the SAM checkpoint sam_vit_h_4b8939.pth, and a GPU.
# A local folder works in place of any model id."""
