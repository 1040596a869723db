"""The proposer `segmenter` against the package that made the folder: the masks are those of `segtrain`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import segkit.labels as segtrain_labels
import segtrain.segmenter as segtrain_model
from segkit.labels import IGNORE
from segkit.networks.folder import NetworkSpec
from segkit.networks.pop import PopNetwork
from segtrain.config import train_config
from synthgen.backends import load
from synthgen.errors import LabelError, ModelError, RecipeError
from synthgen.models import ProposalRequest, Prototypes
from synthgen.settings import Execution

CPU = Execution(device="cpu")
# The same classes under other ids: the segmenter's 0, 5, 9 are 3, 1, 7 here; its `lorry` is unknown.
SPACE = """
name: ours
background: 3
labels:
- {id: 1, name: cat, colour: [9, 0, 0]}
- {id: 3, name: everything else, colour: [0, 0, 0]}
- {id: 7, name: tvmonitor, colour: [0, 9, 0], synonyms: [tv monitor]}
- {id: 8, name: boat, colour: [0, 0, 9]}
"""
THEIRS = segtrain_labels.LabelSpace(
    "theirs",
    (
        segtrain_labels.Label(0, "ground"),
        segtrain_labels.Label(5, "cat"),
        segtrain_labels.Label(9, "tv monitor"),
        segtrain_labels.Label(2, "lorry"),
    ),
    background=0,
)
OURS = np.full(256, IGNORE, np.uint8)
OURS[[0, 5, 9]] = 3, 1, 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segmenter")
    (folder / "labels.yaml").write_text(SPACE)
    config = train_config(data=["x"], out=folder / "model", decoder_channels="16,8,8,8,8", seed=3)
    segmenter = segtrain_model.build_segmenter(config, THEIRS, torch.device("cpu"))
    with torch.no_grad():  # a fresh network says nearly the same everywhere
        segmenter.network.segmentation_head[0].weight.mul_(30)
    (folder / "model").mkdir()
    segtrain_model.save_model(segmenter, folder / "model")
    return folder


def proposer(folder: Path, **options: object) -> object:
    return load(
        "proposer",
        {"name": "segmenter", "model": str(folder / "model"), "space": str(folder / "labels.yaml"), **options},
        CPU,
    )


def picture(seed: int, height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return np.ascontiguousarray(coarse.repeat(4, axis=0).repeat(4, axis=1)[:height, :width])


def request(image: np.ndarray, *candidates: int) -> ProposalRequest:
    return ProposalRequest(image, np.zeros((1, 1, 1), np.float32), candidates, "")


def test_masks_are_segtrains_with_our_ids(folder: Path) -> None:
    images = [picture(0, 64, 64), picture(1, 50, 75)]
    theirs = segtrain_model.load_model(folder / "model", "cpu").predict(images)
    built = proposer(folder)
    built.prepare([], Prototypes((), np.zeros((0, 0), np.float32)), 3)
    got = built.propose([request(image, 1, 7, 3) for image in images])
    assert {1, 3, 7} & set(np.unique(got[0])) and len(
        np.unique(np.concatenate([theirs[0].ravel(), theirs[1].ravel()]))
    ) > 2
    for mask, expected in zip(got, theirs, strict=True):
        assert mask.dtype == np.uint8
        known = expected != 2  # where it saw a lorry the best of the candidates is taken
        np.testing.assert_array_equal(mask[known], OURS[expected][known])
        assert set(np.unique(mask)) <= {1, 3, 7}
    np.testing.assert_array_equal(built.propose([request(images[1], 1, 7, 3)])[0], got[1])


def test_only_candidates_are_proposed_and_unknown_ones_never(folder: Path) -> None:
    image = picture(2, 64, 64)
    built = proposer(folder)
    assert set(np.unique(built.propose([request(image, 7, 3)])[0])) <= {3, 7}
    assert set(np.unique(built.propose([request(image, 8, 3)])[0])) == {3}
    assert set(np.unique(built.propose([request(image, 8)])[0])) == {IGNORE}


def test_an_unsure_pixel_stays_unlabelled(folder: Path) -> None:
    image = picture(3, 64, 64)
    sure, unsure = (
        proposer(folder, min_probability=least).propose([request(image, 1, 7, 3)])[0] for least in (0.0, 0.6)
    )
    assert 0 < (unsure == IGNORE).mean() < 1
    np.testing.assert_array_equal(unsure[unsure != IGNORE], sure[unsure != IGNORE])
    assert (proposer(folder, min_probability=1.0).propose([request(image, 1, 3)])[0] == IGNORE).mean() > 0.9


def test_the_background_is_no_known_class(folder: Path) -> None:
    """What a label space does not name lies in its background: an unknown object there is rightly `everything else`."""
    image = picture(5, 64, 64)
    segmenter = segtrain_model.load_model(folder / "model", "cpu")
    with torch.inference_mode():
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
        probabilities = segmenter.logits(pixels).softmax(1)[0].numpy()
    known = np.maximum(probabilities[1], probabilities[2])  # cat, tv monitor; ground and lorry are none
    np.testing.assert_allclose(proposer(folder).known_probabilities(image), known, atol=1e-5)
    assert (known < probabilities[0]).any()


def test_a_resized_input_gives_masks_of_the_images_size(folder: Path) -> None:
    image = picture(4, 64, 64)
    large = np.ascontiguousarray(image.repeat(3, axis=0).repeat(3, axis=1))
    mask = proposer(folder, longest_side_px=64).propose([request(large, 1, 7, 3)])[0]
    assert mask.shape == (192, 192)
    small = proposer(folder).propose([request(image, 1, 7, 3)])[0]
    assert (mask[1::3, 1::3] == small).mean() > 0.95


@pytest.mark.parametrize("num_novel", [0, 1])
def test_a_few_shot_network_says_what_segtrains_own_says(folder: Path, tmp_path: Path, num_novel: int) -> None:
    shutil.copy(folder / "labels.yaml", tmp_path)
    config = train_config(data=["x"], out=tmp_path / "model", decoder_channels="16,8,8,8,8", seed=5)
    plain = segtrain_model.build_segmenter(config, THEIRS, torch.device("cpu"))
    torch.manual_seed(0)
    network = PopNetwork(plain.network, 3 - num_novel, num_novel)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.shape[1:] == (8, 1, 1):
                parameter.copy_(torch.randn_like(parameter))
    spec = NetworkSpec(plain.spec.arguments, "pop", {"num_base": 3 - num_novel, "num_novel": num_novel})
    segmenter = segtrain_model.Segmenter(network, spec, THEIRS, torch.device("cpu"))
    (tmp_path / "model").mkdir()
    segtrain_model.save_model(segmenter, tmp_path / "model")
    image = picture(6, 64, 64)
    [expected] = segtrain_model.load_model(tmp_path / "model", "cpu").predict([image])
    got = proposer(tmp_path).propose([request(image, 1, 7, 3)])[0]
    known = expected != 2
    assert len(np.unique(expected[known])) > 1
    np.testing.assert_array_equal(got[known], OURS[expected][known])


def test_what_is_no_segmenter_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    def copied(name: str) -> Path:
        return Path(shutil.copytree(folder, tmp_path / name))

    unfinished, strange, newer, damaged, other = map(copied, ("unfinished", "strange", "newer", "damaged", "other"))
    (unfinished / "model" / "config.json").unlink()
    (strange / "model" / "config.json").write_text('{"_model_class": "Unet"}')
    config = json.loads((newer / "model" / "config.json").read_text())
    (newer / "model" / "config.json").write_text(
        json.dumps({**config, "_segtrain": {**config["_segtrain"], "version": 99}})
    )
    (damaged / "model" / "model.safetensors").write_bytes(b"no")
    (other / "labels.yaml").write_text(
        "name: birds\nbackground: 0\nlabels:\n- {id: 0, name: ground, colour: [0, 0, 0]}\n- {id: 1, name: owl, "
        "colour: [1, 1, 1]}\n"
    )
    for place, kind, says in (
        (unfinished, ModelError, "segtrain train"),
        (strange, ModelError, "no config that segtrain wrote"),
        (newer, ModelError, "version 99"),
        (damaged, ModelError, "model.safetensors: cannot be loaded"),
        (other, LabelError, "shares no class with 'birds'"),
    ):
        with pytest.raises(kind, match=says) as error:
            proposer(place)
        assert "\n" not in str(error.value)
    with pytest.raises(RecipeError, match="space"):
        load("proposer", {"name": "segmenter", "model": str(folder / "model")}, CPU)
