from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from segment_anything import SamPredictor

from segkit.networks.sam import MINI, construct
from synthgen.drawn.objects import CLASSES, SPOKEN
from synthgen.minis.train import clip, sam
from synthgen.minis.train.scenes import Scenes, scenes
from synthgen.models.feature_extractors.open_clip import load_clip
from synthgen.models.mask_decoders.segment_anything import load_sam
from synthgen.settings import Execution


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scenes, Scenes]:
    cache = tmp_path_factory.mktemp("cache")
    return scenes("objects", 40, cache=cache, workers=1, pair_probability=0.5), scenes(
        "streets", 12, cache=cache, workers=1
    )


@pytest.fixture(scope="module")
def small_sam():
    torch.manual_seed(0)
    return construct({**MINI, "encoder_depth": 2, "global_attention": [1]})


# SAM


def test_a_batch_over_images_is_decoded_as_the_library_decodes_each_image(small_sam) -> None:
    rng = torch.Generator().manual_seed(0)
    embeddings = torch.randn(3, 64, 16, 16, generator=rng)
    prompts = torch.rand(3, 2, 2, generator=rng) * 128
    boxes = torch.tensor([True, False, True])
    with torch.no_grad():
        sparse, dense = sam.encode_prompts(small_sam, prompts, boxes)
        pe = small_sam.prompt_encoder.get_dense_pe()
        logits, quality = sam.decode_batch(small_sam.mask_decoder, embeddings, pe, sparse, dense)
        for n in range(3):
            point = None if boxes[n] else (prompts[n, :1][None], torch.ones(1, 1))
            box = prompts[n].reshape(1, 4) if boxes[n] else None
            own_sparse, own_dense = small_sam.prompt_encoder(points=point, boxes=box, masks=None)
            own_logits, own_quality = small_sam.mask_decoder.predict_masks(
                image_embeddings=embeddings[n : n + 1],
                image_pe=pe,
                sparse_prompt_embeddings=own_sparse,
                dense_prompt_embeddings=own_dense,
            )
            torch.testing.assert_close(logits[n : n + 1], own_logits)
            torch.testing.assert_close(quality[n : n + 1], own_quality)


def test_regions_are_the_objects_and_the_parts_of_stuff() -> None:
    mask = np.zeros((20, 30), dtype=np.uint8)
    instances = np.zeros((20, 30), dtype=np.uint16)
    mask[:, 10:20] = 2  # parts the background in two
    mask[5:15, 12:18], instances[5:15, 12:18] = 13, 4
    mask[0, 0] = 5  # too small
    things = sam.regions(mask, instances, stuff=False)
    assert [int(region.sum()) for region in things] == [60]
    everything = sam.regions(mask, instances, stuff=True)
    assert sorted(int(region.sum()) for region in everything) == [60, 140, 199, 200]
    assert np.sum(everything, axis=0).max() == 1


def test_a_box_holds_its_region_tightly() -> None:
    region = np.zeros((9, 12), dtype=bool)
    region[2:5, 3:10] = True
    region[3, 5] = False
    assert sam.box_of(region).tolist() == [3, 2, 10, 5]


def test_a_jittered_edge_moves_by_its_share_at_most_and_stays_inside() -> None:
    rng = np.random.default_rng(0)
    boxes = np.stack([sam.jittered(np.array([10, 20, 30, 60], np.float32), 0.1, (64, 96), rng) for _ in range(200)])
    moved = np.abs(boxes - [10, 20, 30, 60]).max(axis=0)
    assert (moved <= [2, 4, 2, 4]).all()
    assert (moved > [1.5, 3, 1.5, 3]).all()
    edge = np.stack([sam.jittered(np.array([0, 0, 96, 64], np.float32), 0.25, (64, 96), rng) for _ in range(50)])
    assert edge.min() >= 0 and edge[:, 2].max() <= 96 and edge[:, 3].max() <= 64


def test_the_mask_loss_and_iou_of_known_masks() -> None:
    mask = torch.zeros(1, 8, 8)
    mask[0, :, :4] = 1
    right, wrong = (mask * 2 - 1) * 20, (1 - mask * 2) * 20
    half = right.clone()
    half[0, :4] = -20  # the lower half of the mask only
    loss, iou = sam.mask_loss(torch.stack([right[0], half[0], wrong[0]])[None], mask)
    assert iou.tolist() == [[1.0, 0.5, 0.0]]
    assert loss[0, 0] < 1e-3 < loss[0, 1] < loss[0, 2]


def test_prompts_lie_on_their_masks_in_sams_frame(drawn: tuple[Scenes, Scenes]) -> None:
    for world, scale in ((drawn[0], 2.0), (drawn[1], 128 / 96)):
        group = sam.group_of(world, np.arange(10), np.random.default_rng(1))
        assert max(group.images.shape[-2:]) == 128
        assert len(group.masks) == len(group.prompts) == len(group.labels) == 10 * sam.PROMPTS_PER_IMAGE
        assert group.labels.any() and not group.labels.all()
        for prompt, is_box, mask in zip(group.prompts.numpy() / scale, group.labels, group.masks.numpy(), strict=True):
            if not is_box:
                x, y = np.rint(prompt[0]).astype(int)
                assert mask[y, x] == 1
                continue
            tight = sam.box_of(mask > 0)
            sides = np.tile([tight[2] - tight[0], tight[3] - tight[1]], 2)
            assert (np.abs(prompt.reshape(4) - tight) <= 0.25 * sides + 1e-3).all()


def test_all_objects_of_an_image_are_asked_for_before_one_is_asked_for_twice(drawn: tuple[Scenes, Scenes]) -> None:
    street = drawn[1]
    group = sam.group_of(street, np.array([0]), np.random.default_rng(0))
    assert len(sam.regions(street.masks[0], street.instances[0], stuff=True)) >= sam.PROMPTS_PER_IMAGE
    assert len({mask.numpy().tobytes() for mask in group.masks}) == sam.PROMPTS_PER_IMAGE


def test_a_few_steps_on_one_batch_lower_the_loss(small_sam, drawn: tuple[Scenes, Scenes]) -> None:
    torch.manual_seed(0)
    objective = sam.Objective(small_sam).train()
    batch = sam.batches(*drawn)(np.random.default_rng(0), 4)
    assert [len(group.images) for group in batch] == [2, 2]
    optimiser = torch.optim.AdamW(objective.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        losses.append(objective(batch))
        losses[-1]["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()
    assert float(losses[-1]["loss"].detach()) < 0.85 * float(losses[0]["loss"].detach())
    assert all(p.grad is None for p in objective.parameters())
    assert set(losses[0]) == {"loss", "single", "best_of_three", "quality", "iou"}


def test_sam_trains_resumes_saves_and_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "--out",
        str(tmp_path / "out"),
        "--cache",
        str(tmp_path / "cache"),
        "--threads",
        "1",
        "--batch-size",
        "2",
        "--scenes",
        "4",
        "--held-out",
        "2",
    ]
    sam.main([*command, "--steps", "1"])
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    sam.main([*command, "--steps", "2"])
    second = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (first["steps"], second["steps"]) == (1, 2)
    assert 0 <= second["sam_box_miou"] <= 1 and second["num_boxes"] > 0
    again = load_sam(str(tmp_path / "out" / "model"))
    predictor = SamPredictor(again)
    predictor.set_image(np.zeros((64, 96, 3), dtype=np.uint8))
    masks, _, _ = predictor.predict(box=np.array([10, 10, 40, 40]), multimask_output=True)
    assert masks.shape == (3, 64, 96)


# CLIP


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> SimpleTokenizer:
    return SimpleTokenizer(str(clip.write_vocabulary(tmp_path_factory.mktemp("vocabulary"))), context_length=32)


def test_the_short_vocabulary_gives_clips_own_ids(
    tokenizer: SimpleTokenizer, drawn: tuple[Scenes, Scenes], tmp_path: Path
) -> None:
    assert tokenizer.vocab_size == clip.CONFIG["model_cfg"]["text_cfg"]["vocab_size"] == 8192
    whole = SimpleTokenizer(context_length=32)
    texts = [f"a photo of a {SPOKEN[name]} at night" for name in CLASSES] + ["Caffè 21!", ""]
    same = 0
    for text in texts:
        ours, theirs = tokenizer.encode(text), whole.encode(text)
        assert tokenizer.decode(ours) == whole.decode(theirs)
        if max(theirs, default=0) < 512 + clip.NUM_MERGES:  # every word is common enough to have kept its merges
            assert ours == theirs
            same += 1
    assert same >= len(CLASSES) // 2
    # a caption must fit the context: what is cut off cannot be learnt
    for caption in (*drawn[0].captions, *drawn[1].captions):
        assert len(tokenizer.encode(caption)) + 2 <= 33  # at most the last token is lost
    first, second = clip.write_vocabulary(tmp_path / "a"), clip.write_vocabulary(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    assert len(gzip.decompress(first.read_bytes()).decode().split("\n")) == clip.NUM_MERGES + 1


def test_the_loss_spreads_over_all_right_captions() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 4))
    positive = np.eye(4, dtype=bool)
    positive[1, 3] = positive[2, 0] = True
    expected = 0.0
    for row, right in zip(logits, positive, strict=True):
        share = np.exp(row) / np.exp(row).sum()
        expected += -np.log(share[right]).mean() / 4
    assert float(clip.contrast(torch.from_numpy(logits), torch.from_numpy(positive))) == pytest.approx(expected)


def test_mirroring_swaps_only_the_sides() -> None:
    assert clip.mirrored_words("a red car facing left on grass, night") == "a red car facing right on grass, night"
    assert clip.mirrored_words("right, leftover") == "left, leftover"


def test_a_batch_names_the_classes_that_its_captions_name(
    drawn: tuple[Scenes, Scenes], tokenizer: SimpleTokenizer
) -> None:
    size = 60
    batch = clip.batches(*drawn, tokenizer)(np.random.default_rng(0), size)
    assert batch.images.shape == (size, 3, clip.IMAGE_PX, clip.IMAGE_PX)
    assert batch.words.shape == (len(CLASSES), 32)
    captions = [tokenizer.decode([i for i in row.tolist() if 0 < i < 8190]) for row in batch.captions]
    for caption, named in zip(captions[:40], batch.named[:40].numpy(), strict=True):
        assert {SPOKEN[CLASSES[c]] for c in np.flatnonzero(named)} == {
            word for word in SPOKEN.values() if re.search(rf"\b{word}\b", caption)
        }
    assert set(batch.named[:40].sum(dim=1).tolist()) == {1, 2}
    assert not batch.named[40:].any()  # streets are not asked


def test_a_few_steps_on_one_batch_lower_every_part_of_the_loss(
    drawn: tuple[Scenes, Scenes], tokenizer: SimpleTokenizer
) -> None:
    objective = clip.Objective(clip.build(0)).train()
    batch = clip.batches(*drawn, tokenizer)(np.random.default_rng(0), 9)
    optimiser = torch.optim.AdamW(objective.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        parts = objective(batch)
        parts["loss"].backward()
        losses.append({name: float(value.detach()) for name, value in parts.items()})
        optimiser.step()
        optimiser.zero_grad()
    assert losses[0]["word"] == pytest.approx(np.log(len(CLASSES)), abs=1.5)
    for part in ("caption", "word", "patch"):
        assert losses[-1][part] < 0.9 * losses[0][part]


def test_top1_counts_equal_captions_as_right() -> None:
    images = np.eye(4)[[0, 1, 2, 3, 0, 1, 2, 3]]
    texts = images[[1, 0, 2, 3, 0, 1, 2, 3]]
    assert clip.top1(images, texts, ("a", "b", "c", "d", "e", "f", "g", "h"), group=4) == 6 / 8
    assert clip.top1(images, texts, ("a", "a", "c", "d", "e", "f", "g", "h"), group=4) == 1
    assert clip.top1(images, texts, ("a", "b", "c", "d", "e", "f", "g", "h"), group=8) < 6 / 8 + 1e-9


def test_the_image_embedding_is_the_mean_of_its_projected_patches() -> None:
    visual = clip.build(0).eval().visual
    visual.output_tokens = True
    with torch.no_grad():
        pooled, tokens = visual(
            torch.randn(2, 3, clip.IMAGE_PX, clip.IMAGE_PX, generator=torch.Generator().manual_seed(0))
        )
    torch.testing.assert_close((tokens @ visual.proj).mean(dim=1), pooled)


def test_images_are_normalised_as_the_saved_transform_does(tmp_path: Path, drawn: tuple[Scenes, Scenes]) -> None:
    from PIL import Image

    clip.save(clip.build(0), clip.write_vocabulary(tmp_path), tmp_path)
    model, preprocess, tokenizer = load_clip(str(tmp_path), Execution(device="cpu"))
    for world in drawn:
        ours = clip.normalised(world.images[:3])
        theirs = torch.stack([preprocess(Image.fromarray(image)) for image in world.images[:3]])
        off = (ours - theirs).abs()  # one grey level is 0.016; Pillow rounds between its two passes
        assert float(off.mean()) < 0.01 and float(off.max()) < 0.13
    assert tokenizer.vocab_size == 8192
    assert next(model.parameters()).dtype == torch.float32


def test_clip_trains_resumes_saves_and_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "--out",
        str(tmp_path / "out"),
        "--cache",
        str(tmp_path / "cache"),
        "--threads",
        "1",
        "--batch-size",
        "6",
        "--scenes",
        "12",
        "--held-out",
        "64",
    ]
    clip.main([*command, "--steps", "1"])
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    clip.main([*command, "--steps", "2"])
    second = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (first["steps"], second["steps"]) == (1, 2)
    assert all(
        0 <= second[name] <= 1
        for name in ("clip_top1_of_64", "objects_top1_of_64", "streets_top1_of_64", "class_of_20")
    )
    load_clip(str(tmp_path / "out" / "model"), Execution(device="cpu"))
