"""SAM 3 as a proposer: the library's own classes with random weights, beside the same computed pixel by pixel."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles.published import without_tensor
from doubles.sam3_folder import write_sam3
from safetensors.torch import load_file, save_file
from transformers import Sam3Model, Sam3Processor

from synthgen.backends import cost, load, statement, weights
from synthgen.errors import ModelError, RecipeError
from synthgen.models import Proposal, ProposalRequest, Prototypes
from synthgen.settings import Execution

CPU = Execution(device="cpu")
WORDS = {0: "background", 3: "red car", 7: "sky"}
NO_FEATURES, NO_PROTOTYPES = np.zeros((1, 1, 1), np.float32), Prototypes((), np.zeros((0, 1), np.float32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sam3(tmp_path_factory.mktemp("sam3") / "sam3")


def proposer(folder: Path, background: int | None = 0, **options: Any) -> Any:
    built = load("proposer", {"name": "sam3", "model": str(folder), **options}, CPU)
    built.prepare([], NO_PROTOTYPES, background)
    return built


def picture(seed: int, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def request(image: np.ndarray, *candidates: int) -> ProposalRequest:
    return ProposalRequest(image, NO_FEATURES, candidates, "", None, tuple(WORDS[k] for k in candidates))


def looked_at(folder: Path, image: np.ndarray, word: str) -> tuple[list[tuple[float, np.ndarray]], np.ndarray]:
    """[(score, mask probability (H, W))] of every query, and the probability (H, W) that the word is there, by the
    library's model in one plain call."""
    model, processor = Sam3Model.from_pretrained(folder).eval(), Sam3Processor.from_pretrained(folder)
    with torch.inference_mode():
        found = model(**{k: v for k, v in processor(images=image, text=word, return_tensors="pt").items()
                         if k in ("pixel_values", "input_ids", "attention_mask")})  # fmt: skip

    def whole(maps: torch.Tensor) -> np.ndarray:
        resized = torch.nn.functional.interpolate(maps[None], image.shape[:2], mode="bilinear", align_corners=False)
        return resized[0].numpy()

    presence = float(found.presence_logits.sigmoid())
    scores = presence * found.pred_logits[0].sigmoid().numpy()
    return list(zip(scores.tolist(), whole(found.pred_masks[0].sigmoid()), strict=True)), whole(
        presence * found.semantic_seg[0].sigmoid()
    )[0]


def test_a_pixel_takes_the_class_of_the_surest_instance_over_it(folder: Path) -> None:
    image = picture(1)
    queries = {k: looked_at(folder, image, WORDS[k]) for k in (3, 7)}
    scores = sorted(score for k in queries for score, _ in queries[k][0])
    least = (scores[1] + scores[2]) / 2  # some instances count, some do not
    [got] = proposer(folder, min_score=least).propose_scored([request(image, 3, 7, 0)])
    expected, score = np.zeros(image.shape[:2], np.uint8), np.zeros(image.shape[:2])
    for row, column in np.ndindex(expected.shape):
        over = [(one, k) for k in (3, 7) for one, masks in queries[k][0] if one > least and masks[row, column] > 0.5]
        if over:
            score[row, column], expected[row, column] = max(over)
        else:
            score[row, column] = 1 - max(queries[k][1][row, column] for k in (3, 7))
    assert len(np.unique(expected)) > 1, "the scene shows something"
    assert got.mask.dtype == np.uint8 and got.score.dtype == np.float32
    assert (got.mask == expected).mean() > 0.995
    np.testing.assert_allclose(got.score[got.mask == expected], score[got.mask == expected], atol=2e-3)


def test_what_no_instance_covers_is_background_where_there_is_one(folder: Path) -> None:
    image = picture(2)

    def of(background: int | None, *candidates: int, **options: Any) -> Proposal:
        built = proposer(folder, background, min_score=1.0, **options)  # nothing is found
        found: Proposal = built.propose_scored([request(image, *candidates)])[0]
        return found

    assert (of(0, 3, 0).mask == 0).all() and (of(0, 3, 0).score > 0).all()
    for found in (of(None, 3, 7), of(0, 3), of(0, 3, 0, rest="unlabelled")):
        assert (found.mask == 255).all() and (found.score == 0).all()


def test_an_image_alone_or_in_company(folder: Path) -> None:
    built = proposer(folder, min_score=0.05)
    images = [picture(3), picture(4, (60, 30))]
    together = built.propose_scored([request(image, 3, 7, 0) for image in images])
    assert [one.mask.shape for one in together] == [(40, 60), (60, 30)]
    [alone] = built.propose_scored([request(images[1], 3, 7, 0)])
    np.testing.assert_array_equal(alone.mask, together[1].mask)
    np.testing.assert_array_equal(alone.score, together[1].score)
    np.testing.assert_array_equal(built.propose([request(images[1], 3, 7, 0)])[0], alone.mask)


def test_the_video_model_that_the_hub_has_is_read_as_its_detector(folder: Path, tmp_path: Path) -> None:
    """facebook/sam3 says sam3_video, and its weights have the detector's under `detector_model.`."""
    video = Path(shutil.copytree(folder, tmp_path / "video"))
    config = json.loads((video / "config.json").read_text())
    (video / "config.json").write_text(json.dumps({"model_type": "sam3_video", "detector_config": config}))
    [file] = video.glob("*.safetensors")
    tensors = {f"detector_model.{name}": value for name, value in load_file(file).items()}
    save_file(tensors | {"tracker_neck.x": torch.zeros(2)}, file, metadata={"format": "pt"})
    one, other = (
        proposer(place, min_score=0.05).propose_scored([request(picture(5), 3, 0)])[0] for place in (folder, video)
    )
    np.testing.assert_array_equal(one.mask, other.mask)
    np.testing.assert_array_equal(one.score, other.score)


def test_what_cannot_be_used_is_one_line(folder: Path, tmp_path: Path) -> None:
    torn = Path(shutil.copytree(folder, tmp_path / "torn"))
    without_tensor(torn, "text_projection.weight")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "sam2"}))
    nameless = ProposalRequest(picture(0), NO_FEATURES, (3, 0), "")
    wordy = ProposalRequest(picture(0), NO_FEATURES, (3,), "", None, ("wide " * 40,))
    said = {}
    for name, call in (
        ("torn", lambda: proposer(torn)),
        ("other", lambda: proposer(other)),
        ("missing", lambda: proposer(tmp_path / "nothing")),
        ("nameless", lambda: proposer(folder).propose([nameless])),
        ("wordy", lambda: proposer(folder).propose([wordy])),
    ):
        with pytest.raises(ModelError) as caught:
            call()
        said[name] = str(caught.value)
        assert "\n" not in said[name]
    assert "tensors" in said["torn"] and "random numbers" in said["torn"]
    assert "config.json says 'sam2'" in said["other"] and "refine.mask_decoder" in said["other"]
    assert "no such file or folder" in said["missing"]
    assert "class_names" in said["nameless"] and "short synonym" in said["wordy"]
    with pytest.raises(RecipeError, match="min_score"):
        load("proposer", {"name": "sam3", "model": str(folder), "min_score": 2}, CPU)


def test_a_plan_knows_weights_licence_and_cost(folder: Path) -> None:
    published = {"name": "sam3", "revision": "abc"}
    assert weights("proposer", published) == [("facebook/sam3", "abc")]
    assert statement("proposer", published, "licences", {})["facebook/sam3"].name == "SAM License"
    found = cost("proposer", published, (1024, 1024), CPU)
    assert found is not None and 0.8e9 < found.parameters < 0.9e9 and found.downloads_gb["facebook/sam3"] > 3
    local = {"name": "sam3", "model": str(folder)}
    mini = cost("proposer", local, (1024, 1024), CPU)
    assert mini is not None and 0 < mini.parameters < 1e6 and not mini.downloads_gb
    assert statement("proposer", local, "licences", {}) == {}
