"""Crops, maps and captions encoded once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from synthgen.adapt import encoded as module
from synthgen.adapt.encoded import EncodedSet, Encoder, text_parts
from synthgen.adapt.labelled import labelled_pictures
from synthgen.adapt.networks import load_vae, read_base
from synthgen.errors import InputError
from synthgen.models import TextEmbedding
from synthgen.models.control import Control, class_shares, control_latents, control_pixels
from synthgen.recipe import Recipe


class Flags:
    """The part of a ControlNet's configuration that says how its condition is encoded."""

    def __init__(self, zeros: bool) -> None:
        self.force_zeros_for_pooled_projection = zeros


class Letters:
    """A text encoder whose numbers are those of the caption's letters."""

    def encode(self, prompts: list[str]) -> list[TextEmbedding]:
        values = [[float(len(text)), float(sum(map(ord, text)) % 97)] for text in prompts]
        return [TextEmbedding(np.array([v], dtype=np.float32), np.array(v, dtype=np.float32)) for v in values]


def encoded(
    recipe: Recipe, folder: Path, kind: Any = "palette", zeros: bool = False, probabilities: Any = None
) -> tuple[Encoder, AutoencoderKL, EncodedSet]:
    pictures = labelled_pictures(recipe)
    encoder = Encoder(recipe, pictures, Control(kind, pictures.space), folder)
    vae = load_vae(read_base(str(recipe.render.renderer.model_dump()["model"])), torch.device("cpu"))
    weights = np.full(19, 1 / 19) if probabilities is None else probabilities
    for part in encoder.missing("crops", len(encoder.crop_parts)):
        encoder.encode_crops(vae, Flags(zeros), weights, part)
    captions = encoder.captions()
    for part in encoder.missing("texts", text_parts(captions)):
        encoder.encode_captions(Letters(), captions, part)
    return encoder, vae, EncodedSet(encoder, folder, weights, recipe.adapt.crops.min_share)


@pytest.mark.parametrize("zeros", [False, True])
def test_latents_are_those_of_the_picture_and_of_the_painted_map(
    tiny: Callable[..., Recipe], tmp_path: Path, zeros: bool
) -> None:
    encoder, vae, rows = encoded(tiny(), tmp_path, zeros=zeros)
    space = labelled_pictures(tiny()).space
    crops = list(encoder.crops(np.full(19, 1 / 19), 0))
    assert len(rows) == len(crops) == 5
    for number, item in enumerate(crops):
        row = rows.row(number)
        with torch.inference_mode():
            raw = vae.encode(torch.from_numpy(item.image[None]).permute(0, 3, 1, 2) / 127.5 - 1).latent_dist.mean
            # by hand, class by class: the colours of the label space, black where there is none
            colours = np.zeros((*item.mask.shape, 3), dtype=np.uint8)
            for label in space.labels:
                colours[item.mask == label.id] = label.colour
            condition = vae.encode(torch.from_numpy(colours[None]).permute(0, 3, 1, 2) / 127.5 - 1).latent_dist.mean
        scale, shift = vae.config.scaling_factor, vae.config.shift_factor
        np.testing.assert_allclose(row["latents"], ((raw - shift) * scale)[0], atol=4e-3, rtol=4e-3)
        expected = (condition - (0 if zeros else shift)) * scale
        np.testing.assert_allclose(row["control"], expected[0], atol=4e-3, rtol=4e-3)
        again = control_latents(control_pixels(colours[None]), Flags(zeros), vae)
        np.testing.assert_allclose(again.detach(), expected, atol=1e-5)


def test_class_shares_are_means_over_cells(tiny: Callable[..., Recipe]) -> None:
    space = labelled_pictures(tiny()).space
    rng = np.random.default_rng(0)
    maps = rng.choice(np.array([0, 5, 18, 254, 255], dtype=np.uint8), size=(2, 8, 12))
    shares = class_shares(space, maps, (2, 3)).numpy()
    assert shares.shape == (2, 20, 2, 3)
    for n, row, column in np.ndindex(2, 2, 3):
        cell = maps[n, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4]
        expected = [(cell == k).mean() for k in range(19)] + [(cell >= 254).mean()]
        assert shares[n, :, row, column].tolist() == pytest.approx(expected)


def test_onehot_adds_a_channel_a_class_and_one_for_none(tiny: Callable[..., Recipe], tmp_path: Path) -> None:
    _, _, rows = encoded(tiny("adapt.control=onehot"), tmp_path, kind="onehot")
    row = rows.row(0)
    assert row["control"].shape == (4 + 20, 16, 24)
    assert row["control"][4:].sum(axis=0) == pytest.approx(np.ones((16, 24)), abs=2e-3)


def test_a_killed_encoding_goes_on_with_the_parts_that_are_missing(
    tiny: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PICTURES_A_PART", 2)
    monkeypatch.setattr(module, "CAPTIONS_A_PART", 2)
    encoded(tiny(), tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {name for name in files if name.startswith("crops")} == {f"crops-0000{n}.npy" for n in range(3)}
    for name in ("crops-00001.npy", "texts-00000.npy"):
        (tmp_path / name).unlink()
    (tmp_path / "crops-00002.npy").write_bytes(files["crops-00002.npy"])
    encoded(tiny(), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_a_cut_part_is_told(tiny: Callable[..., Recipe], tmp_path: Path) -> None:
    encoder, _, _ = encoded(tiny(), tmp_path)
    part = tmp_path / "crops-00000.npy"
    part.write_bytes(part.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"crops-00000\.npy: cannot be read .*remove it"):
        EncodedSet(encoder, tmp_path, np.full(19, 1 / 19), 0.01)


def test_rare_classes_are_drawn_by_their_probability_and_only_where_they_show(
    tiny: Callable[..., Recipe], tmp_path: Path
) -> None:
    encoder, _, _ = encoded(tiny(), tmp_path)
    crops = list(encoder.crops(np.full(19, 1 / 19), 0))
    road_and_car = np.zeros(19)
    road_and_car[0], road_and_car[13] = 0.2, 0.8
    rows = EncodedSet(encoder, tmp_path, road_and_car, 0.03)
    rng = np.random.default_rng(1)
    drawn = Counter(rows.draw(rng) for _ in range(4000))
    showing = {k: [n for n, item in enumerate(crops) if item.shares[k] >= 0.03] for k in (0, 13)}
    expected = Counter[int]()
    for k, share in ((0, 0.2), (13, 0.8)):
        for n in showing[k]:
            expected[n] += share / len(showing[k])
    assert set(drawn) == set(expected)
    for n, share in expected.items():
        assert drawn[n] / 4000 == pytest.approx(share, abs=0.03)


def test_a_batch_leaves_out_the_share_of_captions_that_it_should(tiny: Callable[..., Recipe], tmp_path: Path) -> None:
    _, _, rows = encoded(tiny(), tmp_path)
    batch = rows.batches(0.3)(np.random.default_rng(0), 600)
    assert batch["latents"].shape == (600, 4, 16, 24)
    assert (batch["pooled"][:, 0] == 0).float().mean() == pytest.approx(0.3, abs=0.06)
    assert (batch["states"][:, 0, 0] == batch["pooled"][:, 0]).all()
    same = rows.batches(0.3)(np.random.default_rng(0), 600)
    assert all(torch.equal(batch[name], same[name]) for name in batch)


def test_a_share_that_no_crop_reaches_is_told(tiny: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"adapt\.crops\.min_share = 1: no crop shows a class"):
        encoded(tiny("adapt.crops.min_share=1.0"), tmp_path)
