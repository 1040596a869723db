"""Which of a recipe's backends take part in its run."""

from __future__ import annotations

from typing import Any

from synthgen.backends import statement
from synthgen.recipe import Recipe, chosen_backends, gate_backends


def used_backends(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """role -> `{name, **options}`, without those that are never built: the mask decoder where neither SABR nor a gate
    asks it, the text encoder where the prompt source gives no text, features where masks are label maps.
    """
    used = chosen_backends(recipe)
    if not (recipe.refine.sabr.enabled or recipe.render.gates.sam_agreement.enabled):
        del used["mask_decoder"]
    if masks_are_maps(recipe):
        del used["feature_extractor"]
    if not statement("prompt_source", used["prompt_source"], "gives_text", True):
        del used["text_encoder"]
    return used


def used_parts(recipe: Recipe) -> list[tuple[str, str, dict[str, Any]]]:
    """(what it is in the recipe, role, `{name, **options}`) of every backend that takes part, those of gates too."""
    gates = [(f"gate {gate}", role, config) for gate, (role, config) in gate_backends(recipe).items()]
    return [*((role, role, config) for role, config in used_backends(recipe).items()), *gates]


def masks_are_maps(recipe: Recipe) -> bool:
    """Whether the proposer's masks stay as they are and nothing is learnt from support images: no support set is named,
    APF, APR and SABR are off, and the proposer's file says so with `needs_support(options)`, True by default.
    """
    refine, support = recipe.refine, recipe.support
    if support.folder or support.drawn or refine.apf.enabled or refine.apr.enabled or refine.sabr.enabled:
        return False
    return not statement("proposer", refine.proposer.model_dump(), "needs_support", True)


def generates(recipe: Recipe) -> bool:
    """Whether a model makes the images; a renderer's file says so with `generates(options)`, True by default."""
    return bool(statement("renderer", recipe.render.renderer.model_dump(), "generates", True))
