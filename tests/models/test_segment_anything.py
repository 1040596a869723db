from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import segkit.networks.sam
from segkit.networks.sam import MINI, construct
from synthgen.backends import load
from synthgen.errors import ModelError
from synthgen.models import MaskPrompts
from synthgen.models.feature_extractors.segment_anything import grid_of
from synthgen.models.mask_decoders.segment_anything import load_sam
from synthgen.models.provenance import pinned
from synthgen.settings import Execution

EXECUTION = Execution(device="cpu")


def save(folder: Path, config: dict[str, object], dtype: torch.dtype = torch.float16) -> Path:
    torch.manual_seed(0)
    sam = construct(config)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(
        {name: value.to(dtype).contiguous() for name, value in sam.state_dict().items()}, folder / "model.safetensors"
    )
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("sam") / "sam", MINI)


def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (64, 96, 3), dtype=np.uint8), rng.integers(0, 256, (150, 90, 3), dtype=np.uint8)]


BOXES = [
    np.array([[5, 5, 40, 50], [30, 10, 90, 60], [0, 0, 96, 64]], np.float32),
    np.array([[3, 3, 80, 140]], np.float32),
]


def asked(boxes: list[np.ndarray]) -> list[MaskPrompts]:
    return [MaskPrompts(of_image) for of_image in boxes]


def test_masks_and_ious_for_every_box(folder: Path) -> None:
    decoder = load("mask_decoder", {"name": "segment_anything", "model": str(folder)}, EXECUTION)
    got = decoder.decode(images(), asked(BOXES))
    assert [masks.shape for masks, _ in got] == [(3, 64, 96), (1, 150, 90)]
    for masks, ious in got:
        assert masks.dtype == bool
        assert ious.dtype == np.float32
        assert ((ious >= 0) & (ious <= 1)).all()


def test_an_image_does_not_depend_on_its_neighbours_nor_on_its_other_boxes(folder: Path) -> None:
    decoder = load("mask_decoder", {"name": "segment_anything", "model": str(folder)}, EXECUTION)
    together = decoder.decode(images(), asked(BOXES))
    for n, (image, boxes) in enumerate(zip(images(), BOXES, strict=True)):
        [(masks, ious)] = decoder.decode([image], asked([boxes]))
        np.testing.assert_array_equal(masks, together[n][0])
        np.testing.assert_array_equal(ious, together[n][1])
    [(masks, ious)] = decoder.decode(images()[:1], asked([BOXES[0][1:2]]))
    assert (masks[0] == together[0][0][1]).mean() > 0.999
    np.testing.assert_allclose(ious[0], together[0][1][1], atol=1e-5)


def test_it_says_what_the_authors_predictor_says(folder: Path) -> None:
    from segment_anything import SamPredictor

    predictor = SamPredictor(load_sam(str(folder)))
    predictor.set_image(images()[0])
    decoder = load("mask_decoder", {"name": "segment_anything", "model": str(folder)}, EXECUTION)
    [(masks, ious)] = decoder.decode(images()[:1], asked([BOXES[0][:1]]))
    expected, scores, _ = predictor.predict(box=BOXES[0][0], multimask_output=False)
    np.testing.assert_array_equal(masks[0], expected[0])
    np.testing.assert_allclose(ious[0], np.clip(scores[0], 0, 1), atol=1e-6)

    best_of_three = load(
        "mask_decoder", {"name": "segment_anything", "model": str(folder), "multimask": True}, EXECUTION
    )
    [(masks, _)] = best_of_three.decode(images()[:1], asked([BOXES[0][:1]]))
    expected, scores, _ = predictor.predict(box=BOXES[0][0], multimask_output=True)
    np.testing.assert_array_equal(masks[0], expected[np.clip(scores, 0, 1).argmax()])


def test_no_boxes_no_masks(folder: Path) -> None:
    decoder = load("mask_decoder", {"name": "segment_anything", "model": str(folder)}, EXECUTION)
    [(masks, ious)] = decoder.decode(images()[:1], asked([np.zeros((0, 4), np.float32)]))
    assert masks.shape == (0, 64, 96)
    assert ious.shape == (0,)


@pytest.mark.parametrize("chunk", [1, 7, 32])
def test_masks_do_not_depend_on_how_many_prompts_are_decoded_at_once(
    folder: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    corners = np.sort(rng.uniform(0, 60, (20, 2, 2)), axis=1)
    boxes = np.concatenate([corners[:, 0], corners[:, 1] + 4], axis=1).astype(np.float32)
    decoder = load("mask_decoder", {"name": "segment_anything", "model": str(folder)}, EXECUTION)
    sizes: list[int] = []
    decoder._predictor.model.mask_decoder.register_forward_pre_hook(
        lambda _, args, named: sizes.append(len(named["sparse_prompt_embeddings"])), with_kwargs=True
    )
    [(whole, scores)] = decoder.decode(images()[:1], asked([boxes]))
    monkeypatch.setattr(segkit.networks.sam, "CHUNK", chunk)
    sizes.clear()
    [(masks, ious)] = decoder.decode(images()[:1], asked([boxes]))
    assert max(sizes) <= chunk and sum(sizes) == 20
    assert (masks == whole).mean() > 0.9999, "rounding alone"
    np.testing.assert_allclose(ious, scores, atol=1e-5)


def test_points_are_prompts_too(folder: Path) -> None:
    from segment_anything import SamPredictor

    predictor = SamPredictor(load_sam(str(folder)))
    predictor.set_image(images()[0])
    decoder = load("mask_decoder", {"name": "segment_anything", "model": str(folder)}, EXECUTION)
    points = np.array([[[20, 30], [60, 12]]], np.float32)
    for labels, boxes in ((None, None), (np.array([[1, 0]]), BOXES[0][:1])):
        [(masks, _)] = decoder.decode(images()[:1], [MaskPrompts(boxes, points, labels)])
        expected, _, _ = predictor.predict(
            points[0], np.ones(2) if labels is None else labels[0], None if boxes is None else boxes[0], None, False
        )
        np.testing.assert_array_equal(masks[0], expected[0])
    for wrong in ({}, {"boxes": BOXES[0], "points": points}, {"point_labels": np.ones((1, 1))}):
        with pytest.raises(ValueError, match="boxes or points"):
            MaskPrompts(**wrong)


def test_an_image_too_flat_for_sam_has_no_masks(folder: Path) -> None:
    decoder = load("mask_decoder", {"name": "segment_anything", "model": str(folder)}, EXECUTION)
    [(masks, ious)] = decoder.decode([np.zeros((1, 300, 3), np.uint8)], asked([np.array([[0, 0, 9, 1]], np.float32)]))
    assert masks.shape == (1, 1, 300) and not masks.any() and ious.tolist() == [0]


def test_half_precision_runs(folder: Path) -> None:
    decoder = load(
        "mask_decoder", {"name": "segment_anything", "model": str(folder)}, Execution(device="cpu", dtype="bfloat16")
    )
    exact = load("mask_decoder", {"name": "segment_anything", "model": str(folder)}, EXECUTION)
    [(masks, _)], [(expected, _)] = (d.decode(images()[:1], asked(BOXES[:1])) for d in (decoder, exact))
    assert (masks == expected).mean() > 0.9


def test_features_cover_the_image_and_nothing_else(folder: Path) -> None:
    extractor = load("feature_extractor", {"name": "segment_anything", "model": str(folder)}, EXECUTION)
    got = extractor.features(images())
    assert [grid.shape for grid in got] == [(11, 16, 64), (16, 10, 64)]
    for image, grid in zip(images(), got, strict=True):
        assert grid.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(grid, axis=-1), 1, atol=1e-5)
        np.testing.assert_array_equal(extractor.features([image])[0], grid)


@pytest.mark.parametrize(
    ("size", "expected"), [((64, 64), (8, 8)), ((64, 128), (4, 8)), ((10, 1000), (1, 8)), ((90, 100), (7, 8))]
)
def test_the_longest_side_has_all_cells(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert grid_of(size, 8) == expected


def test_what_is_no_sam_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({**MINI, "encoder_dim": 32}))
    (other / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    damaged = tmp_path / "sam_vit_b.pth"
    damaged.write_bytes(b"not a checkpoint")
    unnamed = tmp_path / "weights.pth"
    unnamed.write_bytes(b"")
    for model, says in (
        (empty, "needs config.json and model.safetensors"),
        (other, "do not give a SAM: size mismatch"),
        (damaged, "not a checkpoint of SAM vit_b"),
        (unnamed, "set kind to vit_h, vit_l or vit_b"),
    ):
        with pytest.raises(ModelError, match=says) as error:
            load_sam(str(model))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"depth": 3}, "no such key: depth"),
        ({"patch_size": 7}, "not a multiple of patch_size"),
        ({"prompt_dim": 60}, "prompt_dim 60"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused(config: dict[str, int], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        construct(config)


def test_an_official_checkpoint_is_loaded_by_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import segment_anything

    tiny = {
        "image_size": 32,
        "encoder_dim": 16,
        "encoder_depth": 1,
        "global_attention": [0],
        "prompt_dim": 16,
        "decoder_depth": 1,
    }
    torch.manual_seed(1)
    sam = construct(tiny)
    path = tmp_path / "sam_vit_l_0b3195.pth"
    torch.save(sam.state_dict(), path)
    monkeypatch.setitem(segment_anything.sam_model_registry, "vit_l", lambda: construct(tiny))
    loaded = load_sam(str(path))
    for name, value in sam.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_a_checkpoint_on_the_hub_is_one_file_of_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked = []

    def download(repository: str, filename: str, revision: str) -> str:
        asked.append((repository, filename, revision))
        raise LocalEntryNotFoundError("nothing here")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    commit = "c" * 40
    with pinned({"owner/repository": commit}):
        with pytest.raises(ModelError, match="is not in the local cache"):
            load_sam("hf-hub:owner/repository/checkpoints/sam_vit_h_4b8939.pth")
        with pytest.raises(ModelError, match="is not in the local cache"):
            load_sam("owner/repository")
    files = ("checkpoints/sam_vit_h_4b8939.pth", "config.json")
    assert asked == [("owner/repository", file, commit) for file in files]
