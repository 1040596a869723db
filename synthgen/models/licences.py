"""Licences of weights that a family shares, whoever loads them."""

from __future__ import annotations

from synthgen.backends import Licence

APACHE = Licence("apache-2.0")
STABILITY = Licence(
    "Stability AI Community License", "https://stability.ai/community-license-agreement", "stabilityai-ai-community"
)


def sd3_licences(model: str) -> dict[str, Licence]:
    """Every Stable Diffusion 3 weight comes under Stability AI's licence, under any owner's name; others are
    unknown."""
    return {model: STABILITY} if "stable-diffusion-3" in model.lower() else {}
