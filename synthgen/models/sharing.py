"""Whether the prompt bank's embeddings are what the renderer attends to."""

from __future__ import annotations

from synthgen.backends import check_options
from synthgen.recipe import Recipe


def shares_text(recipe: Recipe) -> bool:
    """True if `prompts.embedder` gives the very tokens and pooled vectors that `render.renderer` wants:

    the same model, encoded in the same way.

    Otherwise the bank's embeddings serve to compare prompts only, and the renderer encodes each prompt itself.
    """
    mine, bank = recipe.render.renderer.model_dump(), recipe.prompts.embedder.model_dump()
    if mine["name"] != bank["name"]:
        return False
    renderer, encoder = check_options("renderer", mine), check_options("text_encoder", bank)
    if getattr(encoder, "pooled", "clip") != "clip":
        return False  # averaged T5 states are compared, but no denoiser takes them in CLIP's place
    return all(
        getattr(renderer, field, None) == getattr(encoder, field, None)
        for field in ("model", "revision", "variant", "t5", "max_sequence_length")
    )
