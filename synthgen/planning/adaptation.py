"""`synthgen adapt --dry-run`: memory, disk, hours and what is missing, before anything heavy.

Weights are counted exactly, from the configurations of the base (small files, read from the Hub if need be).
Activations and hours are estimates: operations over speed, and bytes a token that a block keeps [guess, held against
the mini's peak].
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from segkit.printable import duration
from synthgen.adapt import model_folder
from synthgen.adapt.run import Adaptation
from synthgen.adapt_settings import Adapt
from synthgen.errors import RunError, SynthgenError
from synthgen.models.provenance import pinned
from synthgen.models.sizes import GB, TEXT_TOKENS, Denoiser, denoiser_of
from synthgen.planning.machine import Machine
from synthgen.planning.readiness import free_gb
from synthgen.planning.speeds import CORE, PROCESS_GB, gpu_hours
from synthgen.recipe import Recipe

BLOCK_BYTES = 70  # kept for the backward of a block, a token and channel, in bfloat16 [guess]
KEPT_BYTES = 4  # ... under gradient checkpointing: the block's input
LARGE = 100e6  # parameters: what is larger is frozen in bfloat16 and wants a GPU
SMALLER: tuple[tuple[str, ...], ...] = (
    ("gradient_checkpointing=true",),
    ("gradient_checkpointing=true", "eight_bit_adam=true"),
    ("gradient_checkpointing=true", "controlnet.lora_rank=64"),
    ("gradient_checkpointing=true", "controlnet.lora_rank=64", "controlnet.batch_size=1", "lora.batch_size=1"),
)
"""What makes an adaptation smaller, the dearest last."""


@dataclasses.dataclass(frozen=True, slots=True)
class AdaptationPlan:
    """GB are 10^9 bytes; None is unknown."""

    base: str
    out: str
    pictures: int = 0
    windows: int = 0
    base_parameters: float | None = None
    controlnet_parameters: float | None = None
    trained_parameters: float | None = None  # of the ControlNet
    memory_gb: float | None = None  # of the device, at the most
    disk_gb: float | None = None  # at the most, while it goes on
    result_gb: float | None = None
    gpu_hours: dict[str, float] = dataclasses.field(default_factory=dict)
    core_hours: float | None = None
    smaller: dict[str, float] = dataclasses.field(default_factory=dict)  # options that need less -> GB
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def require(self) -> None:
        """Raise RunError with the first thing that is missing."""
        for what in self.missing:
            raise RunError(what)


def plan_adaptation(recipe: Recipe, out: Path, here: Machine) -> AdaptationPlan:
    """The plan. What is wrong with settings, labels, base, machine or folder is listed as missing, not raised."""
    with pinned(model_folder.commits(recipe, out)):
        try:
            adaptation = Adaptation(recipe, out)
            model_folder.check(out, adaptation.identity)
        except SynthgenError as error:
            return AdaptationPlan(
                str(recipe.render.renderer.model_dump().get("model")), str(out), missing=(str(error),)
            )
        return _sized(adaptation, here)


def _sized(adaptation: Adaptation, here: Machine) -> AdaptationPlan:
    base, settings = adaptation.base, adaptation.settings
    windows = len(adaptation.pictures.pairs) * settings.crops.per_image
    denoiser, net, trained = _parameters(adaptation, settings)
    known = denoiser_of(base.model)
    memory_gb = _memory_gb(adaptation, settings, denoiser, net, trained, known)
    operations = _operations(adaptation, denoiser, net, known)
    result_gb = net * {"float32": 4, "float16": 2, "bfloat16": 2}[settings.save_dtype] / GB
    disk_gb = _disk_gb(adaptation, windows, trained, known) + result_gb
    missing, smaller = [], {}
    device_gb = max((gpu.memory_gib * 2**30 / GB for gpu in here.gpus), default=0.0) or _memory_here_gb()
    if memory_gb > device_gb:
        smaller = _smaller(adaptation, known)
        fitting = next(
            (f"{options} (about {size:.0f} GB)" for options, size in smaller.items() if size < device_gb), ""
        )
        way_out = f"it fits with {fitting}" if fitting else "even the smallest options do not fit: take a smaller base"
        missing.append(
            f"memory: about {memory_gb:.1f} GB are needed, {here.gpus[0].name if here.gpus else 'this machine'} has "
            f"{device_gb:.1f} GB; {way_out}"
        )
    if disk_gb > free_gb(here):
        missing.append(
            f"disk: about {disk_gb:.3g} GB are needed, {free_gb(here):.3g} GB are free here; choose another --out, or "
            "fewer windows (adapt.crops.per_image)"
        )
    notes = []
    if denoiser > LARGE and not here.gpus:
        notes.append("no GPU here: this would take as many core hours as are named")
    if known is None:
        notes.append(f"{base.model}: its text encoders are not known, and not counted")
    return AdaptationPlan(
        base=base.model,
        out=str(adaptation.out),
        pictures=len(adaptation.pictures.pairs),
        windows=windows,
        base_parameters=denoiser,
        controlnet_parameters=net,
        trained_parameters=trained,
        memory_gb=memory_gb,
        disk_gb=disk_gb,
        result_gb=result_gb,
        gpu_hours=gpu_hours(operations),
        core_hours=operations / CORE / 3600,
        smaller=smaller,
        missing=tuple(missing),
        notes=tuple(notes),
    )


def _parameters(adaptation: Adaptation, settings: Adapt) -> tuple[float, float, float]:
    """Of the denoiser, of the ControlNet, and of what of it is trained. Nothing is allocated."""
    from accelerate import init_empty_weights
    from diffusers import SD3ControlNetModel, SD3Transformer2DModel

    with init_empty_weights(include_buffers=True):
        denoiser = SD3Transformer2DModel.from_config(dict(adaptation.base.denoiser))
        net = SD3ControlNetModel(**adaptation.config)
    whole = float(sum(weight.numel() for weight in net.parameters()))
    trained = whole
    if settings.controlnet.lora_rank:
        parts = (net.controlnet_blocks, net.pos_embed_input)
        trained = float(sum(weight.numel() for part in parts for weight in part.parameters()))
        trained += 2.0 * settings.controlnet.lora_rank * net.inner_dim * 8 * adaptation.config["num_layers"]
    return float(sum(weight.numel() for weight in denoiser.parameters())), whole, trained


def _memory_gb(
    adaptation: Adaptation, settings: Adapt, denoiser: float, net: float, trained: float, known: Denoiser | None
) -> float:
    """The larger of: encoding with the text encoders, and training the ControlNet."""
    frozen = denoiser * (2 if denoiser > LARGE else 4)
    state = 4 * net + trained * (4 + (2 if settings.eight_bit_adam else 8) + (4 if settings.controlnet.ema else 0))
    layers, width = adaptation.base.layers + adaptation.config["num_layers"], adaptation.base.width
    per_token = width * (KEPT_BYTES * layers + BLOCK_BYTES if settings.gradient_checkpointing else BLOCK_BYTES * layers)
    activations = settings.controlnet.batch_size * sum(_tokens(adaptation, known)) * per_token
    texts = 2 * known.texts if known is not None else 0.0
    return max(frozen + state + activations, texts) / GB + PROCESS_GB


def _tokens(adaptation: Adaptation, known: Denoiser | None) -> tuple[int, int]:
    """Of a window: of its picture, of its caption."""
    height, width = (side // adaptation.base.token_px for side in adaptation.size_px)
    with_t5 = known is not None and known.t5 and adaptation.renderer.t5
    return height * width, TEXT_TOKENS + (adaptation.num_t5_tokens if with_t5 else 0)


def _operations(adaptation: Adaptation, denoiser: float, net: float, known: Denoiser | None) -> float:
    """Of both trainings: forward of the denoiser and its gradient, three times the ControlNet's forward."""
    tokens, settings = sum(_tokens(adaptation, known)), adaptation.settings
    forward = denoiser * tokens + 4 * adaptation.base.layers * adaptation.base.width * tokens**2
    again = 1 if settings.gradient_checkpointing else 0
    of_net = forward * net / denoiser
    lora, control = settings.lora, settings.controlnet
    samples = [part.steps * part.batch_size * part.accumulate for part in (lora, control)]
    return samples[0] * (2 + again) * forward + samples[1] * ((2 + again) * forward + (3 + again) * of_net)


def _disk_gb(adaptation: Adaptation, windows: int, trained: float, known: Denoiser | None) -> float:
    """Latents of pictures and maps, captions if each were another, and a checkpoint while the next is written."""
    base, control = adaptation.base, adaptation.settings.controlnet
    height, width = (side // base.latent_px for side in adaptation.size_px)
    channels = 2 * int(base.denoiser["in_channels"]) + adaptation.control.extra_channels
    caption = 2 * _tokens(adaptation, known)[1] * int(base.denoiser["joint_attention_dim"])
    encoded = windows * (2 * channels * height * width + caption)
    return (encoded + 2 * trained * (12 + (4 if control.ema else 0))) / GB


def _smaller(adaptation: Adaptation, known: Denoiser | None) -> dict[str, float]:
    """`--set` options that need less memory, and how much they need then."""
    found: dict[str, float] = {}
    for options in SMALLER:
        settings = adaptation.settings
        for option in options:
            name, _, value = option.partition("=")
            section, _, key = name.rpartition(".")
            worth: Any = True if value == "true" else int(value)
            change = {section: getattr(settings, section).model_copy(update={key: worth})} if section else {key: worth}
            settings = settings.model_copy(update=change)
        sizes = _parameters(adaptation, settings)
        text = " ".join(f"--set adapt.{option}" for option in options)
        found[text] = _memory_gb(adaptation, settings, *sizes, known)
    return found


def _memory_here_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GB


def plan_text(plan: AdaptationPlan) -> str:
    """The plan as plain text."""
    lines = [f"dry run: adapt {plan.base} into {plan.out}: nothing was made"]
    if plan.memory_gb is not None and plan.disk_gb is not None and plan.result_gb is not None:
        lines += [
            f"labelled pictures  {plan.pictures:,}, {plan.windows:,} windows",
            f"base               {plan.base_parameters or 0:,.0f} parameters, frozen",
            f"ControlNet         {plan.controlnet_parameters or 0:,.0f} parameters, "
            f"{plan.trained_parameters or 0:,.0f} trained",
            f"memory             about {plan.memory_gb:.1f} GB of the device",
            f"disk               at most {plan.disk_gb:.3g} GB, of which {plan.result_gb:.3g} GB stay",
            "time               "
            + ", ".join(f"{duration(3600 * hours)} on one {gpu}" for gpu, hours in plan.gpu_hours.items())
            + (f"; {duration(3600 * plan.core_hours)} of one core" if plan.core_hours is not None else ""),
        ]
    lines += [f"note: {note}" for note in plan.notes]
    lines += [f"missing: {what}" for what in plan.missing]
    if plan.smaller:
        lines += [
            "needs less memory:",
            *(f"  {options}  about {size:.1f} GB" for options, size in plan.smaller.items()),
        ]
    return "\n".join(lines)
