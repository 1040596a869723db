from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from synthgen.backends import load
from synthgen.errors import ModelError, RecipeError
from synthgen.models import ProposalRequest, Prototypes
from synthgen.models.feature_extractors.open_clip import load_clip
from synthgen.settings import Execution

EXECUTION = Execution(device="cpu")
MERGES = 200
MODEL = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 514 + MERGES, "width": 32, "heads": 2, "layers": 1},
}
LABELS = """
name: pets
background: 0
labels:
- {id: 0, name: background, colour: [0, 0, 0]}
- {id: 1, name: cat, colour: [9, 0, 0]}
- {id: 2, name: tvmonitor, colour: [0, 9, 0], synonyms: [tv monitor]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    clip = open_clip.model.CLIP(**MODEL)
    save_file(
        {name: value.contiguous() for name, value in clip.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    with gzip.open(open_clip.tokenizer.default_bpe(), "rt", encoding="utf-8") as source:
        lines = source.read().split("\n")[: 1 + MERGES]
    with gzip.open(folder / "merges.txt.gz", "wt", encoding="utf-8") as target:
        target.write("\n".join(lines))
    text = {**MODEL["text_cfg"], "tokenizer_kwargs": {"bpe_path": "merges.txt.gz"}}
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    config = {"model_cfg": {**MODEL, "text_cfg": text}, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "labels.yaml").write_text(LABELS)
    return folder


def picture(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def extractor(folder: Path, **options: object) -> object:
    return load("feature_extractor", {"name": "open_clip", "model": str(folder), **options}, EXECUTION)


def test_grids_follow_the_image_and_images_stand_alone(folder: Path) -> None:
    images = [picture(0, 40, 40), picture(1, 30, 60)]
    for side, expected in ((0, [(4, 4, 24), (2, 4, 24)]), (64, [(8, 8, 24), (4, 8, 24)])):
        model = extractor(folder, longest_side_px=side)
        got = model.features(images)
        assert [grid.shape for grid in got] == expected
        for image, grid in zip(images, got, strict=True):
            np.testing.assert_allclose(np.linalg.norm(grid, axis=-1), 1, atol=1e-5)
            np.testing.assert_array_equal(model.features([image])[0], grid)


def test_plain_tokens_are_those_of_open_clip(folder: Path) -> None:
    clip, _, _ = load_clip(str(folder), EXECUTION)
    image = picture(2, 32, 32)
    pixels = (torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.25
    with torch.inference_mode():
        tokens = clip.visual.forward_intermediates(pixels, indices=1, normalize_intermediates=True)[
            "image_intermediates"
        ][-1]
        expected = torch.nn.functional.normalize(tokens[0].permute(1, 2, 0) @ clip.visual.proj, dim=-1).numpy()
    np.testing.assert_allclose(extractor(folder, tokens="plain").features([image])[0], expected, atol=1e-5)
    assert np.abs(extractor(folder).features([image])[0] - expected).max() > 1e-3


def test_values_of_a_patch_do_not_see_other_patches_in_the_last_layer(folder: Path) -> None:
    # With one layer only, the value of a patch depends on the pixels of this patch alone.
    clip, preprocess, _ = load_clip(str(folder), EXECUTION)
    from synthgen.models.feature_extractors.open_clip import ClipFeatures, Options

    clip.visual.transformer.resblocks = clip.visual.transformer.resblocks[-1:]
    image = picture(3, 32, 32)
    other = image.copy()
    other[:8, :8] = 255 - other[:8, :8]
    for tokens, far_away_moves in (("value", False), ("plain", True)):
        model = ClipFeatures(clip, preprocess, Options(model=str(folder), tokens=tokens), EXECUTION)
        one, two = model.features([image, other])
        assert np.abs(one[0, 0] - two[0, 0]).max() > 1e-3
        assert (np.abs(one[3, 3] - two[3, 3]).max() > 1e-6) == far_away_moves


def test_an_earlier_layer_has_the_towers_width(folder: Path) -> None:
    assert extractor(folder, layer=-1).features([picture(0, 32, 32)])[0].shape == (4, 4, 32)
    with pytest.raises(ModelError, match=r"use -1\.\.0"):
        extractor(folder, layer=-2)


def test_a_relative_vocabulary_lies_in_the_model_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, _, tokenizer = load_clip(str(folder), EXECUTION)
    tokens = tokenizer(["a cat"])
    assert tokens.shape == (1, 16)
    assert int(tokens.max()) < 514 + MERGES


def test_a_model_without_weights_is_never_used(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="needs open_clip_config"):
        load_clip(str(tmp_path), EXECUTION)
    (tmp_path / "open_clip_config.json").write_text((folder / "open_clip_config.json").read_text())
    (tmp_path / "merges.txt.gz").write_bytes((folder / "merges.txt.gz").read_bytes())
    with pytest.raises(ModelError) as missing:
        load_clip(str(tmp_path), EXECUTION)
    assert "\n" not in str(missing.value)
    (tmp_path / "open_clip_config.json").write_text("{")
    with pytest.raises(ModelError) as broken:
        load_clip(str(tmp_path), EXECUTION)
    assert "\n" not in str(broken.value)


def test_dense_clip_labels_each_patch_with_the_nearest_text(folder: Path) -> None:
    config = {
        "name": "dense_clip",
        "model": str(folder),
        "space": str(folder / "labels.yaml"),
        "background_words": ["wall", "sky"],
    }
    proposer = load("proposer", config, EXECUTION)
    proposer.prepare([], Prototypes((), np.zeros((0, 0), np.float32)), 0)
    images = [picture(4, 32, 32), picture(5, 24, 32)]
    requests = [ProposalRequest(image, np.zeros((1, 1, 1), np.float32), (2, 0), "") for image in images]
    got = proposer.propose(requests)

    clip, _, tokenizer = load_clip(str(folder), EXECUTION)
    with torch.inference_mode():
        tokens = tokenizer([f"a photo of a {word}." for word in ("tv monitor", "wall", "sky")])
        texts = torch.nn.functional.normalize(clip.encode_text(tokens), dim=-1)
    for image, mask in zip(images, got, strict=True):
        assert mask.shape == image.shape[:2]
        assert set(np.unique(mask)) <= {0, 2}
        cosines = torch.from_numpy(extractor(folder).features([image])[0]) @ texts.T
        maps = torch.nn.functional.interpolate(
            cosines.permute(2, 0, 1)[None], image.shape[:2], mode="bilinear", align_corners=False
        )[0].numpy()
        expected = np.where(maps[0] >= maps[1:].max(axis=0), 2, 0)
        assert (mask == expected).mean() > 0.99
    np.testing.assert_array_equal(proposer.propose(requests[1:])[0], got[1])


def test_a_template_needs_a_gap(folder: Path) -> None:
    with pytest.raises(RecipeError, match="templates"):
        load("proposer", {"name": "dense_clip", "space": "x", "templates": ["a photo"]}, EXECUTION)
