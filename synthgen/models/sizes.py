"""How large a model is and how much it computes, without loading or downloading it:

for `synthgen run RECIPE --dry-run`.

Local folders and files are read (headers of safetensors, configurations); released models that a recipe may name are
listed below. Parameters were counted from the published configurations, operations of SAM's image encoders are those
that Segment Anything (Kirillov et al., ICCV 2023) and its code give for 1024 px. What is neither local nor listed is
None: unknown.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

from synthgen.errors import SynthgenError
from synthgen.models.controlnets import folder_of_net, published
from synthgen.models.weights import resolve

GB = 1e9
TEXT_TOKENS = 77


@dataclasses.dataclass(frozen=True, slots=True)
class Denoiser:
    """An SD3-type pipeline. Counts of parameters; the text encoders are CLIP-L, CLIP-bigG and T5 together."""

    transformer: float
    layers: int
    width: int
    token_px: int  # side of the square of pixels that an image token stands for
    vae: float
    texts: float
    t5: float  # of `texts`
    text_width: int  # of a text token that the denoiser attends to
    download_gb: float  # as the Hub keeps it; 0 = local

    def operations(self, height_px: int, width_px: int, text_tokens: int) -> float:
        """Multiplications and additions of one forward for one image:

        each token goes through the half of the weights that is its modality's.
        """
        image_tokens = (height_px // self.token_px) * (width_px // self.token_px)
        tokens = image_tokens + text_tokens
        return self.transformer * tokens + 4 * self.layers * self.width * tokens**2


_CLIPS, _T5 = 123.7e6 + 694.7e6, 4762.3e6
_SD3 = {
    "stabilityai/stable-diffusion-3.5-large": Denoiser(8056.6e6, 38, 2432, 16, 83.8e6, _CLIPS + _T5, _T5, 4096, 27.6),
    "stabilityai/stable-diffusion-3.5-large-turbo": Denoiser(
        8056.6e6, 38, 2432, 16, 83.8e6, _CLIPS + _T5, _T5, 4096, 27.6
    ),
    "stabilityai/stable-diffusion-3.5-medium": Denoiser(2243.2e6, 24, 1536, 16, 83.8e6, _CLIPS + _T5, _T5, 4096, 15.9),
    "stabilityai/stable-diffusion-3-medium-diffusers": Denoiser(
        2028.3e6, 24, 1536, 16, 83.8e6, _CLIPS + _T5, _T5, 4096, 15.4
    ),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Encoder:
    """A model that looks at an image once."""

    parameters: float
    operations: float  # for one image
    download_gb: float  # 0 = local


_SAM = {
    "vit_h": Encoder(641.1e6, 2.98e12, 2.56),
    "vit_l": Encoder(312.3e6, 1.49e12, 1.25),
    "vit_b": Encoder(93.7e6, 0.49e12, 0.375),
}
_SAM_TRANSFORMERS = {  # by Hub id; SAM 2.1: parameters of its README, operations at most two a weight and 16 px square
    "facebook/sam-vit-huge": _SAM["vit_h"],
    "facebook/sam-vit-large": _SAM["vit_l"],
    "facebook/sam-vit-base": _SAM["vit_b"],
    # counted in the library's default configuration, at 72 x 72 patches; the file holds the video tracker as well
    "facebook/sam3": Encoder(840.4e6, 2 * 454.0e6 * 5184, 3.4),
    **{
        f"facebook/{release}-hiera-{size}": Encoder(parameters, 2 * parameters * 4096, 4 * parameters / GB)
        for release in ("sam2", "sam2.1")
        for size, parameters in (("tiny", 38.9e6), ("small", 46.0e6), ("base-plus", 80.8e6), ("large", 224.4e6))
    },
}
_DINO = {  # by the Hub id's name: parameters and patch of the published configurations
    "dinov2-small": (22.1e6, 14), "dinov2-base": (86.6e6, 14), "dinov2-large": (304.4e6, 14),
    "dinov2-giant": (1136.5e6, 14), "dinov3-vits16": (21.6e6, 16), "dinov3-vitb16": (85.7e6, 16),
    "dinov3-vitl16": (303.1e6, 16), "dinov3-vit7b16": (6716.0e6, 16),
}  # fmt: skip
_SIGLIP = {"base": (375.2e6, 92.9e6), "large": (881.5e6, 316.3e6), "so400m": (1136.0e6, 428.2e6)}
"""SigLIP 2's sizes: parameters of both towers (the text tower's vocabulary is Gemma's), and of the image tower."""
_CLIP = {  # by what stands in the Hub id; operations of the image tower at 224 px
    "ViT-bigG-14": Encoder(2539.6e6, 0.97e12, 10.2),
    "ViT-g-14": Encoder(1366.7e6, 0.53e12, 5.5),
    "ViT-H-14": Encoder(986.1e6, 0.33e12, 3.9),
    "ViT-L-14": Encoder(427.6e6, 0.16e12, 1.7),
    "ViT-B-16": Encoder(149.6e6, 0.035e12, 0.6),
    "ViT-B-32": Encoder(151.3e6, 0.009e12, 0.6),
}


def denoiser_of(model: str) -> Denoiser | None:
    """Of a Hub id that is listed, or of a local folder of diffusers' layout."""
    place = _place(model)
    if not isinstance(place, Path):
        return _SD3.get(str(place))
    try:
        config = json.loads((place / "transformer" / "config.json").read_text(encoding="utf-8"))
        vae = json.loads((place / "vae" / "config.json").read_text(encoding="utf-8"))
        width = int(config["num_attention_heads"]) * int(config["attention_head_dim"])
        token_px = int(config["patch_size"]) * 2 ** (len(vae["block_out_channels"]) - 1)
        layers, text_width = int(config["num_layers"]), int(config["joint_attention_dim"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    texts = [parameters_in(place / name) for name in ("text_encoder", "text_encoder_2", "text_encoder_3")]
    transformer, of_vae = parameters_in(place / "transformer"), parameters_in(place / "vae")
    return Denoiser(transformer, layers, width, token_px, of_vae, sum(texts), texts[2], text_width, 0.0)


def controlnet_of(model: str) -> Encoder | None:
    """Of a Hub id that is listed, or of a local folder; it runs once for each image token of its denoiser."""
    place = _place(model)
    if isinstance(place, Path):
        return Encoder(parameters_in(folder_of_net(place)), 0.0, 0.0)
    entry = published(str(place))
    return Encoder(entry.parameters, 0.0, entry.download_gb) if entry and entry.parameters else None


def sam_of(model: str, kind: str) -> Encoder | None:
    """Of a checkpoint file of segment_anything, there or not, by its kind; of a local folder by its weights."""
    place = _place(model)
    if isinstance(place, Path) and place.is_dir():
        return _vision_transformer(place, "config.json", ())
    kind = kind or next((name for name in _SAM if name in Path(model).name), "")
    known = _SAM.get(kind)
    return dataclasses.replace(known, download_gb=0.0) if known and isinstance(place, Path) else known


def sam_transformers_of(model: str) -> Encoder | None:
    """Of a Hub id that is listed, or of a local folder by its weights."""
    place = _place(model)
    if not isinstance(place, Path):
        return _SAM_TRANSFORMERS.get(str(place))
    parameters = parameters_in(place)
    return Encoder(parameters, 2 * parameters * 4096, 0.0) if parameters else None


def dino_of(model: str, longest_side_px: int) -> Encoder | None:
    """Of a Hub id that is listed, or of a local folder by its weights; operations are two a weight and patch."""
    place = _place(model)
    if isinstance(place, Path):
        parameters, patch_px, download_gb = parameters_in(place), 14, 0.0
    else:
        name = str(place).lower().rpartition("/")[2]
        known = next((known for known in _DINO if name.startswith(known)), "")
        if not known:
            return None
        parameters, patch_px = _DINO[known]
        download_gb = 4 * parameters / GB
    return Encoder(parameters, 2 * parameters * (longest_side_px // patch_px) ** 2, download_gb) if parameters else None


def dual_encoder_of(model: str) -> Encoder | None:
    """Of SigLIP and CLIP in transformers' layout: by the id's size, or of a local folder by its weights."""
    place = _place(model)
    if isinstance(place, Path):
        parameters = parameters_in(place)
        return Encoder(parameters, 2 * parameters * 256, 0.0) if parameters else None
    name = str(place).lower()
    if "siglip2" in name:
        size = next((sizes for size, sizes in _SIGLIP.items() if size in name), None)
        return Encoder(size[0], 2 * size[1] * 256, 4 * size[0] / GB) if size is not None else None
    return clip_of(model.lower().replace("vit-large-patch14", "vit-l-14").replace("vit-base-patch32", "vit-b-32"))


def clip_of(model: str) -> Encoder | None:
    """Of a Hub id by its architecture, or of a local folder by its weights."""
    place = _place(model)
    if isinstance(place, Path):
        return _vision_transformer(place, "open_clip_config.json", ("model_cfg", "vision_cfg"))
    return next((size for name, size in _CLIP.items() if name.lower() in str(place).lower()), None)


def _vision_transformer(folder: Path, config: str, section: tuple[str, ...]) -> Encoder | None:
    """Of a local folder whose `config` tells image and patch size: at most two operations a weight and patch."""
    parameters = parameters_in(folder)
    try:
        sizes = json.loads((folder / config).read_text(encoding="utf-8"))
        for name in section:
            sizes = sizes[name]
        patches = (int(sizes["image_size"]) // int(sizes["patch_size"])) ** 2
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return None  # a damaged or another folder: said when it is loaded
    return Encoder(parameters, 2 * parameters * patches, 0.0)


def parameters_in(folder: Path) -> float:
    """Elements of all tensors of the safetensors files of a folder;

    of the same weights in several precisions the largest file counts.
    """
    found: dict[tuple[str, ...], float] = {}
    for path in sorted(folder.glob("*.safetensors")):
        names, count = _header(path)
        found[names] = max(count, found.get(names, 0.0))
    return sum(found.values())


def _header(path: Path) -> tuple[tuple[str, ...], float]:
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), 100 << 20)))
        header.pop("__metadata__", None)
        return tuple(sorted(header)), float(sum(math.prod(tensor["shape"]) for tensor in header.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return (), 0.0  # a damaged file is told when it is loaded


def _place(model: str) -> Path | str | None:
    try:
        return resolve(model)
    except SynthgenError:  # told elsewhere, as what is missing
        return None
