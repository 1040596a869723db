"""Pictures as latents: scaled as the pipelines scale them, encoded once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from doubles.mini_family import random_vae

from synthgen.minis.train.diffusion import tokenizer
from synthgen.minis.train.scenes import Scenes, scenes
from synthgen.training import latents


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return scenes("streets", 6, cache=tmp_path_factory.mktemp("drawings"), workers=1)


def test_latents_are_scaled_as_the_pipelines_scale_them(drawn: Scenes, tmp_path: Path) -> None:
    coder = random_vae(8, 16, 16)
    coder.register_to_config(scaling_factor=0.7, shift_factor=0.3)
    found = latents.latents_of(coder, drawn.images, drawn.captions, tokenizer(32), tmp_path)
    assert found.images.shape == (6, 4, 16, 24) and found.images.dtype == torch.float16
    raw = latents.encode(coder, drawn.images[:])
    torch.testing.assert_close(found.images.float() / 0.7 + 0.3, raw, atol=2e-3, rtol=2e-3)
    assert found.tokens.shape == (6, 32)
    batch = latents.batches(found)(np.random.default_rng(0), 9)
    assert {name: len(rows) for name, rows in batch.items()} == {"latents": 9, "tokens": 9}
    at = [int((found.images == row).flatten(1).all(1).nonzero()[0]) for row in batch["latents"]]
    assert torch.equal(batch["tokens"], found.tokens[at])


def test_latents_are_encoded_once_for_each_vae(drawn: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[AutoencoderKL] = []
    real = latents.encode
    monkeypatch.setattr(latents, "encode", lambda coder, images: calls.append(coder) or real(coder, images))
    coder, words = random_vae(8, 16, 16), tokenizer(32)
    first = latents.latents_of(coder, drawn.images, drawn.captions, words, tmp_path)
    again = latents.latents_of(coder, drawn.images, drawn.captions, words, tmp_path)
    assert torch.equal(first.images, again.images) and len(calls) == 1
    with torch.no_grad():
        coder.encoder.conv_in.weight += 0.1
    changed = latents.latents_of(coder, drawn.images, drawn.captions, words, tmp_path)
    assert len(calls) == 2 and not torch.equal(first.images, changed.images)
    others = np.array(drawn.images[:])
    others[-1, 0, 0, 0] ^= 1
    more = latents.latents_of(coder, others, drawn.captions, words, tmp_path)
    assert len(calls) == 3 and torch.equal(more.images[:-1], changed.images[:-1]), "one other pixel is another set"
