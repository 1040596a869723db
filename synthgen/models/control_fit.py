"""Whether a ControlNet goes with a denoiser: by their configurations, before a weight is loaded."""

from __future__ import annotations

from typing import Any

from synthgen.errors import ModelError
from synthgen.models.control import Control
from synthgen.models.controlnets import ControlNet, published, published_controlnets
from synthgen.models.weights import HUB_PREFIX


def require_fit(net: ControlNet, control: Control, base: dict[str, Any], model: str) -> None:
    """Raise ModelError in one line unless the net's widths are those of the denoiser and of its condition.

    `base` is the transformer's `config.json` (see `controlnets.transformer_config`), `model` its name. A net without
    a text stream (Stability's 8B ones) has no `joint_attention_dim`.
    """
    config = net.config
    width, base_width = (c["num_attention_heads"] * c["attention_head_dim"] for c in (config, base))
    pairs = {
        "width (num_attention_heads x attention_head_dim)": (width, base_width),
        "in_channels": (config["in_channels"], base["in_channels"]),
        "patch_size": (config["patch_size"], base["patch_size"]),
        "pooled_projection_dim": (config["pooled_projection_dim"], base["pooled_projection_dim"]),
    }
    if config["joint_attention_dim"] is not None:
        pairs["joint_attention_dim"] = (config["joint_attention_dim"], base["joint_attention_dim"])
    for what, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise ModelError(
                f"ControlNet {net.name!r} does not go with {model!r}: its {what} is {ours}, the denoiser's is "
                f"{theirs}; name the model that it was trained for{_trained_for(net)}"
            )
    if config["num_layers"] > base["num_layers"]:
        raise ModelError(
            f"ControlNet {net.name!r} does not go with {model!r}: it has {config['num_layers']} layers, the denoiser "
            f"has {base['num_layers']}; name the model that it was trained for{_trained_for(net)}"
        )
    entry, plain = published(net.name), model.removeprefix(HUB_PREFIX)
    if entry and plain != entry.base and plain in {other.base for other in published_controlnets().values()}:
        raise ModelError(
            f"ControlNet {net.name!r} does not go with {model!r}: it has the same widths, but was trained beside "
            f"{entry.base}; name that model, or another ControlNet (docs/CONTROLNETS.md)"
        )
    _require_channels(net, control)


def _require_channels(net: ControlNet, control: Control) -> None:
    """The channels behind the latents of the condition."""
    extra = net.config["extra_conditioning_channels"]
    if extra == control.extra_channels:
        return
    here = f"ControlNet {net.name!r} wants {extra} channels beside the latents of its condition"
    if control.kind == "onehot" and control.labels is not None:
        raise ModelError(
            f"{here}, onehot brings {control.extra_channels} ({len(control.labels.ids)} classes of "
            f"{control.labels.name!r} and no class): set render.renderer.control_palette to the label space that it "
            "was trained on"
        )
    way_out = (
        "such a mask, as for inpainting, cannot be fed; take another ControlNet"
        if extra == 1
        else "set render.renderer.control=onehot and control_palette beside it if these are its classes and no class"
    )
    raise ModelError(f"{here}, {control.kind} brings {control.extra_channels}: {way_out}")


def _trained_for(net: ControlNet) -> str:
    entry = published(net.name)
    base = net.facts.base_model or (entry.base if entry else "")
    return f" ({base})" if base else ""
