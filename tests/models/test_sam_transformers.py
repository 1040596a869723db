"""SAM and SAM 2 through transformers: the mini's weights give the masks that segment_anything gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles.published import without_tensor
from doubles.sam_folders import write_sam, write_sam2

from segkit.networks.sam import MINI, read_sam
from synthgen.backends import cost
from synthgen.drawn.objects import draw
from synthgen.errors import ModelError
from synthgen.models import MaskPrompts
from synthgen.models.mask_decoders import sam_transformers, segment_anything
from synthgen.models.weights import resolve
from synthgen.settings import Execution

CPU = Execution(device="cpu")
BOXES = np.array([[5, 5, 40, 50], [30, 10, 90, 60], [0, 0, 90, 60]], np.float32)


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = resolve("mini/sam")
    config = {**MINI, **json.loads((Path(place) / "config.json").read_text())}
    return write_sam(read_sam(Path(place)), config, tmp_path_factory.mktemp("sam") / "sam-vit-mini")


@pytest.fixture(scope="module")
def sam2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sam2(tmp_path_factory.mktemp("sam2") / "sam2.1-hiera-mini")


def decoder(folder: Path, **options: Any) -> sam_transformers.SamTransformers:
    return sam_transformers.build(sam_transformers.Options(model=str(folder), **options), CPU)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def test_the_minis_weights_give_the_masks_that_segment_anything_gives(sam: Path) -> None:
    """The network of facebook/sam-vit-* is that of sam_vit_*.pth, in other names."""
    theirs = segment_anything.build(segment_anything.Options(model="mini/sam"), CPU)
    ours = decoder(sam)
    images = [draw(seed, 128).image for seed in (1, 2)]
    points = MaskPrompts(points=np.array([[[60, 70], [10, 10]]], np.float32), point_labels=np.array([[1, 0]], np.int64))
    boxes = MaskPrompts(np.array([[20, 20, 110, 120], [5, 60, 60, 125]], np.float32))
    for asked in (boxes, points):
        for (masks, ious), (expected, scores) in zip(
            ours.decode(images, [asked] * 2), theirs.decode(images, [asked] * 2), strict=True
        ):
            assert expected.any()
            assert (masks == expected).mean() > 0.999
            np.testing.assert_allclose(ious, scores, atol=1e-3)


@pytest.mark.parametrize("name", ["sam", "sam2"])
@pytest.mark.parametrize("multimask", [False, True])
def test_masks_of_the_images_size_alone_or_in_company(
    name: str, multimask: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = decoder(request.getfixturevalue(name), multimask=multimask)
    images = [picture(0), picture(1).transpose(1, 0, 2).copy()]
    other = MaskPrompts(points=np.array([[[20, 30]]], np.float32))
    (masks, ious), (second, _) = model.decode(images, [MaskPrompts(BOXES), other])
    assert masks.shape == (3, 60, 90) and masks.dtype == bool and second.shape == (1, 90, 60)
    assert ious.shape == (3,) and ious.dtype == np.float32 and ((ious >= 0) & (ious <= 1)).all()
    monkeypatch.setattr(sam_transformers, "CHUNK", 2)
    [(alone, scores)] = model.decode(images[:1], [MaskPrompts(BOXES)])
    assert (alone == masks).mean() > 0.999
    np.testing.assert_allclose(scores, ious, atol=1e-5)
    [(nothing, none)] = model.decode(images[:1], [MaskPrompts(np.zeros((0, 4), np.float32))])
    assert nothing.shape == (0, 60, 90) and none.shape == (0,)


def test_the_video_model_that_the_hub_has_is_read_as_its_image_model(sam2: Path, tmp_path: Path) -> None:
    video = Path(shutil.copytree(sam2, tmp_path / "video"))
    config = json.loads((video / "config.json").read_text())
    (video / "config.json").write_text(json.dumps(config | {"model_type": "sam2_video"}))
    one, other = (decoder(folder).decode([picture(0)], [MaskPrompts(BOXES)])[0] for folder in (sam2, video))
    np.testing.assert_array_equal(one[0], other[0])


def test_what_is_not_whole_or_of_another_kind_is_one_line(sam: Path, sam2: Path, tmp_path: Path) -> None:
    torn = Path(shutil.copytree(sam2, tmp_path / "torn"))
    without_tensor(torn, "no_memory_embedding")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "bert"}))
    said: dict[str, Any] = {}
    for name, build in (
        ("torn", lambda: decoder(torn)),
        ("other", lambda: decoder(other)),
        ("package", lambda: segment_anything.build(segment_anything.Options(model=str(sam)), CPU)),
        ("file", lambda: resolve("sam_vit_h_4b8939.pth")),
        ("sam2", lambda: read_sam(tmp_path / "sam2.1_hiera_large.pt")),
    ):
        with pytest.raises(ModelError) as caught:
            build()
        said[name] = str(caught.value)
        assert "\n" not in said[name]
    assert "lack 1 of its tensors" in said["torn"]
    assert "config.json says 'bert'" in said["other"] and "refine.mask_decoder.name=segment_anything" in said["other"]
    assert "is a checkpoint of SAM 2" in said["sam2"] and "name: sam_transformers" in said["sam2"]
    assert "'sam' in transformers' layout" in said["package"] and "name=sam_transformers" in said["package"]
    assert "dl.fbaipublicfiles.com/segment_anything/sam_vit_h_4b8939.pth" in said["file"]
    assert "a7bf3b02" in said["file"] and "facebook/sam-vit-huge" in said["file"]


def test_the_dry_run_knows_what_the_released_ones_cost(sam: Path) -> None:
    for model, parameters in (("facebook/sam2.1-hiera-large", 224.4e6), ("facebook/sam-vit-huge", 641.1e6)):
        found = cost("mask_decoder", {"name": "sam_transformers", "model": model}, (1024, 1024), CPU)
        assert found is not None and found.parameters == parameters and found.downloads_gb[model] > 0.5
    local = cost("mask_decoder", {"name": "sam_transformers", "model": str(sam)}, (1024, 1024), CPU)
    assert local is not None and local.parameters > 1e5 and not local.downloads_gb
