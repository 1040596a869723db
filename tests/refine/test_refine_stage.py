from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from doubles.rows import row as row_of
from safetensors.torch import save_file

from segkit.labels import IGNORE
from segkit.networks.sam import MINI, construct
from segkit.regions import connected_components
from synthgen import claims
from synthgen.drawn import objects
from synthgen.images import read_image, read_mask, write_image
from synthgen.labels import read_label_space
from synthgen.models import Labelled, MaskDecoder, MaskPrompts, Proposal, ProposalRequest, TellsScores
from synthgen.models.proposers.support_segmenter import SupportSegmenter
from synthgen.recipe import Recipe
from synthgen.records import MaskRecord, Rejected, RenderRecord, flat
from synthgen.refine import stage
from synthgen.refine.class_rates import read_rates
from synthgen.refine.leave_one_out import distinct
from synthgen.refine.prototypes import support_prototypes, support_sums
from synthgen.refine.regions import box_window
from synthgen.refine.support import support_shots
from synthgen.refine.whitening import Scatter, WhitenedFeatures
from synthgen.rows import StoredRows, write_rows
from synthgen.runner import StageRun, Unit
from synthgen.settings import Apf, Apr

SIZE_PX = 64
CLASSES = ("bus", "cat")
LABELS = """
name: three
background: 0
labels:
- {id: 0, name: background, colour: [0, 0, 0]}
- {id: 4, name: cat, colour: [9, 0, 0]}
- {id: 9, name: bus, colour: [0, 9, 0]}
- {id: 2, name: boat, colour: [0, 0, 9]}
"""
IDS = {"bus": 9, "cat": 4}


class TrueSam:
    """A mask decoder that knows the drawings: it gives what is drawn inside the box."""

    id = "true"

    def __init__(self, truths: dict[bytes, np.ndarray]) -> None:
        self._truths = truths
        self.calls: list[list[int]] = []

    def decode(
        self, images: Sequence[np.ndarray], prompts: Sequence[MaskPrompts]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        boxes = [asked.boxes for asked in prompts]
        self.calls.append([len(of_image) for of_image in boxes])
        result = []
        for image, of_image in zip(images, boxes, strict=True):
            masks = np.zeros((len(of_image), *image.shape[:2]), bool)
            for mask, box in zip(masks, of_image, strict=True):
                mask[box_window(box)] = self._truths[image.tobytes()][box_window(box)] > 0
            result.append((masks, np.full(len(of_image), 0.75, np.float32)))
        return result


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "labels.yaml").write_text(LABELS)
    torch.manual_seed(0)
    (tmp_path / "sam").mkdir()
    (tmp_path / "sam" / "config.json").write_text(json.dumps(MINI))
    save_file(construct(MINI).state_dict(), tmp_path / "sam" / "model.safetensors")
    (tmp_path / "run" / "render" / "00000").mkdir(parents=True)
    return tmp_path / "run"


def recipe(run: Path, **refine: object) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "test",
            "labels": {"space": str(run.parent / "labels.yaml"), "classes": list(CLASSES)},
            "support": {"shots": 3, "drawn": {"size_px": SIZE_PX}},
            "refine": {
                "features": {"name": "efficientnet_lite0", "input_px": 160},
                "mask_decoder": {"name": "segment_anything", "model": str(run.parent / "sam")},
                "background_prototypes": 4,
                "apf": {"lambda_apf": 0.4, "min_region_px": 12},
                "apr": {"min_cosine": 0.3, "min_margin": 0.0},
                "sabr": {"min_band_px": 4, "min_region_px": 12, "min_agreement": 0.3},
                **refine,
            },
            "execution": {"device": "cpu", "batch_size": 3},
        }
    )


def row(number: int, class_name: str = "") -> RenderRecord:
    return row_of(
        RenderRecord,
        key=f"s{number}",
        parent=f"p{number}",
        class_name=class_name,
        class_id=IDS.get(class_name, IGNORE),
        prompt=f"a {class_name}",
        attributes=(),
        seed=number,
        image=f"render/00000/s{number}.png",
        height_px=SIZE_PX,
        width_px=SIZE_PX,
        renderer="drawn",
        model_revision="",
        steps=1,
        guidance=0.0,
        layout="",
    )


def drawn(run: Path, names: Sequence[str]) -> tuple[list[RenderRecord], list[np.ndarray], TrueSam]:
    """Rows with an image each, the true masks in the label space, and the decoder that knows them."""
    rows, truths, known = [], [], {}
    for number, name in enumerate(names):
        drawing = objects.draw(9000 + number, SIZE_PX, class_name=name)
        rows.append(row(number, name))
        truths.append(np.where(drawing.mask > 0, np.uint8(IDS[name]), np.uint8(0)))
        known[drawing.image.tobytes()] = truths[-1]
        write_image(drawing.image, run / rows[-1].picture.image)
    return rows, truths, TrueSam(known)


def with_decoder(built: stage.RefineStage, decoder: MaskDecoder) -> stage.RefineStage:
    built._decoder = decoder
    return built


def process(
    built: stage.RefineStage, rows: Sequence[RenderRecord], run: Path, unit: str
) -> list[MaskRecord | Rejected]:
    """What the runner does: artefacts go to the unit's folder under the stage's."""
    folder = run / "refine" / unit
    folder.mkdir(parents=True)
    return list(built.process(rows, folder, unit))


def test_every_step_is_an_artefact_and_the_last_one_is_the_best(run: Path) -> None:
    rows, truths, sam = drawn(run, ["bus", "cat", "cat", "bus", "bus"])
    built = with_decoder(stage.build(recipe(run), run), sam)
    made = process(built, rows, run, "00000")
    assert [m.key for m in made] == [r.key for r in rows]
    assert [m.parent for m in made] == [r.parent for r in rows]
    assert len(sam.calls) == 2, "one decoder call for a batch of 3 and one for the rest"
    overlap: dict[str, list[float]] = {"coarse": [], "mask": []}
    for m, truth in zip(made, truths, strict=True):
        assert m.labelling.mask == f"refine/00000/{m.key}_mask.png"
        masks = {
            name: read_mask(run / flat(m)[name]) for name in ("coarse", "filtered", "relabelled", "mask", "confidence")
        }
        assert all(mask.shape == (SIZE_PX, SIZE_PX) for mask in masks.values())
        for name in ("coarse", "filtered", "relabelled", "mask"):
            assert set(np.unique(masks[name])) <= {0, m.subject.class_id, IGNORE}
        np.testing.assert_array_equal(masks["confidence"] == 0, masks["mask"] == IGNORE)
        for name, values in overlap.items():
            mine, true = masks[name] == m.subject.class_id, truth == m.subject.class_id
            values.append((mine & true).sum() / (mine | true).sum())
        assert m.labelling.labelled_fraction == pytest.approx((masks["mask"] != IGNORE).mean())
        assert m.labelling.class_fraction == pytest.approx((masks["mask"] == m.subject.class_id).mean())
        assert m.num_regions == len(connected_components(masks["coarse"], exclude=(0,)))
        assert 0 <= m.num_kept_regions <= m.num_regions
        assert m.num_sam_boxes > 0
        assert m.labelling.sam_predicted_iou == 0.75
    assert np.mean(overlap["coarse"]) > 0.4, "real features and five shots find the object"
    assert np.mean(overlap["mask"]) > np.mean(overlap["coarse"]) + 0.05, (
        "a decoder that knows the truth mends the edges"
    )


def test_the_result_does_not_depend_on_batch_or_order(run: Path) -> None:
    rows, _, sam = drawn(run, ["bus", "cat", "cat", "bus"])
    built = with_decoder(stage.build(recipe(run), run), sam)
    together = {m.key: m for m in process(built, rows, run, "00000")}
    again = with_decoder(stage.build(recipe(run), run), sam)
    for n, single in enumerate(reversed(rows)):
        [m] = process(again, [single], run, f"alone{n}")
        for name in ("coarse", "filtered", "relabelled", "mask", "confidence"):
            assert (run / flat(m)[name]).read_bytes() == (run / flat(together[m.key])[name]).read_bytes()
        assert m.labelling.region_similarity == together[m.key].labelling.region_similarity


def test_whitened_features_are_those_of_prototypes_and_of_images(run: Path) -> None:
    rows, _, _ = drawn(run, ["bus", "cat"])
    plain, built = stage.build(recipe(run), run), stage.build(recipe(run, whitening=0.4), run)
    assert isinstance(built._extractor, WhitenedFeatures)
    shots = distinct(support_shots(recipe(run), read_label_space(str(run.parent / "labels.yaml"))))
    scatter = Scatter((9, 4), 0)
    for shot in shots:
        scatter.add(plain._extractor.features([shot.image])[0], shot.mask)
    expected = WhitenedFeatures(plain._extractor, *scatter.whitening(0.4))
    image = read_image(run / rows[0].picture.image)
    assert (built._extractor.features([image])[0] == expected.features([image])[0]).all()
    sums = [support_sums(expected.features([shot.image])[0], shot.mask, (9, 4), 0) for shot in shots]
    assert (built._prototypes.vectors == support_prototypes(sums, (9, 4), 0, 4).vectors).all()
    assert not isinstance(plain._extractor, WhitenedFeatures)


def test_an_unreadable_image_is_rejected_and_the_others_go_on(run: Path) -> None:
    rows, _, sam = drawn(run, ["bus", "cat", "cat"])
    (run / rows[1].picture.image).write_bytes(b"damaged")
    made = process(with_decoder(stage.build(recipe(run), run), sam), [*rows, row(77, "cat")], run, "00000")
    kept = {m.key for m in made if isinstance(m, MaskRecord)}
    refused = {m.parent: m for m in made if isinstance(m, Rejected)}
    assert kept == {"s0", "s2"}
    assert set(refused) == {"s1", "s77"}
    assert {(r.stage, r.reason) for r in refused.values()} == {("refine", "unreadable_image")}
    assert refused["s77"].detail.startswith("render/00000/s77.png: ")


def test_a_row_without_a_class_may_hold_any_wanted_class(run: Path) -> None:
    _, _, sam = drawn(run, ["bus"])
    built = with_decoder(stage.build(recipe(run), run), sam)
    assert built._candidates(4) == (4, 0)
    assert built._candidates(IGNORE) == (9, 4, 0)
    [made] = process(built, [row(0)], run, "00000")
    assert set(np.unique(read_mask(run / made.labelling.mask))) <= {0, 4, 9, IGNORE}
    assert made.labelling.class_fraction == made.labelling.labelled_fraction


def test_a_blank_result_is_still_a_row(run: Path) -> None:
    write_image(np.full((SIZE_PX, SIZE_PX, 3), 127, np.uint8), run / row(0).picture.image)
    built = stage.build(recipe(run, apf={"lambda_apf": 1.0}, apr={"min_cosine": 1.0}, sabr={"enabled": False}), run)
    [made] = process(built, [row(0, "cat")], run, "00000")
    assert (made.num_kept_regions, made.labelling.region_similarity) == (0, -1.0)
    assert (made.num_sam_boxes, made.labelling.sam_predicted_iou) == (0, -1.0)
    assert made.labelling.class_fraction == 0.0


def test_the_whole_stage_runs_with_the_real_decoder_class(run: Path) -> None:
    rows, _, _ = drawn(run, ["bus", "cat"])
    made = process(stage.build(recipe(run), run), rows, run, "00000")
    assert all(isinstance(m, MaskRecord) and 0 <= m.labelling.sam_predicted_iou <= 1 for m in made)


def test_an_image_is_encoded_once_and_all_of_its_boxes_are_decoded_together(run: Path) -> None:
    rows, _, _ = drawn(run, ["bus", "cat", "cat", "bus"])
    built = stage.build(recipe(run), run)
    asked: dict[str, list[int]] = {"features": [], "encoded": [], "decoded": []}
    extract = built._extractor.features
    built._extractor.features = lambda images: asked["features"].append(len(images)) or extract(images)
    sam = built._decoder._predictor.model
    sam.image_encoder.register_forward_pre_hook(lambda _, args: asked["encoded"].append(len(args[0])))
    sam.mask_decoder.register_forward_pre_hook(
        lambda _, args, named: asked["decoded"].append(len(named["sparse_prompt_embeddings"])), with_kwargs=True
    )
    made = process(built, rows, run, "00000")
    assert asked["features"] == [3, 1]
    boxes = [m.num_sam_boxes for m in made if m.num_sam_boxes]
    assert len(boxes) > 1
    assert asked["encoded"] == [1] * len(boxes)
    assert asked["decoded"] == boxes


def test_what_the_steps_did_to_each_class_is_counted_beside_the_masks(run: Path) -> None:
    rows, _, sam = drawn(run, ["bus", "cat", "cat", "bus", "bus"])
    built = with_decoder(stage.build(recipe(run), run), sam)
    made = process(built, rows, run, "00000")
    rates = read_rates([run / "refine" / "00000"])
    for class_id in IDS.values():
        own = [m for m in made if m.subject.class_id == class_id]
        assert (rates[class_id].num_regions, rates[class_id].num_kept) == (
            sum(m.num_regions for m in own),
            sum(m.num_kept_regions for m in own),
        )
    for row in rows:  # as a unit is tried again after an error: row by row into one folder
        (run / "refine" / "again").mkdir(exist_ok=True)
        assert list(built.process([row], run / "refine" / "again", "again"))
    assert read_rates([run / "refine" / "again"]) == rates


def test_settings_follow_what_changes_the_masks_and_nothing_else(run: Path) -> None:
    base = recipe(run)
    first = stage.settings(base)
    assert json.loads(json.dumps(first)) == first
    assert (
        stage.settings(base.model_copy(update={"execution": base.execution.model_copy(update={"batch_size": 1})}))
        == first
    )
    for changed in (
        recipe(run, apf={"lambda_apf": 0.5}),
        recipe(run, features={"name": "efficientnet_lite0", "input_px": 192}),
        recipe(run, proposer={"name": "prototype", "min_cosine": 0.1}),
        base.model_copy(update={"support": base.support.model_copy(update={"shots": 4})}),
    ):
        assert stage.settings(changed) != first
    assert len(first["revisions"]) == 1
    assert first["revisions"][str(run.parent / "sam")].startswith("local-")
    (run.parent / "labels.yaml").write_text(LABELS.replace("name: boat", "name: ship"))
    assert stage.settings(base) != first


def test_settings_hash_the_files_of_a_support_folder(run: Path) -> None:
    folder = run.parent / "support"
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number, name in enumerate(CLASSES):
        drawing = objects.draw(number, SIZE_PX, class_name=name)
        write_image(drawing.image, folder / "images" / f"{name}.png")
        write_image(np.where(drawing.mask > 0, np.uint8(IDS[name]), np.uint8(0)), folder / "labels" / f"{name}.png")
    base = recipe(run)
    base = base.model_copy(
        update={"support": base.support.model_copy(update={"folder": str(folder), "drawn": None, "shots": 1})}
    )
    first = stage.settings(base)
    assert str(folder) not in json.dumps(first)
    rows, _, sam = drawn(run, ["cat"])
    [made] = process(with_decoder(stage.build(base, run), sam), rows, run, "00000")
    assert isinstance(made, MaskRecord)
    write_image(np.full((SIZE_PX, SIZE_PX), 9, np.uint8), folder / "labels" / "bus.png")
    assert stage.settings(base) != first


LEARNER = {"name": "support_segmenter", "steps": 4, "batch_size": 2, "crop_px": 32}


def masks_of(run: Path, made: Sequence[MaskRecord | Rejected]) -> list[bytes]:
    return [(run / m.labelling.mask).read_bytes() for m in made if isinstance(m, MaskRecord)]


def test_what_a_run_has_learnt_holds_for_every_worker_and_batch(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _, sam = drawn(run, ["bus", "cat", "cat"])
    claims.claim(StageRun("refine", run / "refine", MaskRecord, None), {"a": 1}, lambda: [Unit("u", 0, 3)])
    taught: list[list[int]] = []
    learn = SupportSegmenter.learn

    def counted(self: SupportSegmenter, sets: Sequence[Sequence[Labelled]], watch: Callable[[int], None]) -> bytes:
        taught.append([len(one) for one in sets])
        return learn(self, sets, watch)

    monkeypatch.setattr(SupportSegmenter, "learn", counted)
    monkeypatch.setattr(stage, "_first_rows", lambda run: rows)
    first = with_decoder(stage.build(recipe(run, proposer=LEARNER, rounds=1), run), sam)
    assert taught == [[6], [6, 3]], "the support set, then half of it and half of the run's own images"
    second = with_decoder(stage.build(recipe(run, proposer=LEARNER, rounds=1), run), sam)
    assert len(taught) == 2
    second.batch_size = 1
    assert masks_of(run, process(first, rows, run, "a")) == masks_of(run, process(second, rows, run, "b"))


def test_a_round_learns_from_the_images_of_the_first_keys_of_a_finished_render(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stage._first_rows(run) == []
    write_rows([row(n, "bus") for n in (3, 1, 2)], RenderRecord, run / "rows.parquet")
    monkeypatch.setattr(StageRun, "is_complete", lambda self: True)
    monkeypatch.setattr(StageRun, "stored", lambda self: StoredRows([run / "rows.parquet"], RenderRecord))
    monkeypatch.setattr(StoredRows, "__iter__", lambda self: pytest.fail("a run may have more rows than memory holds"))
    monkeypatch.setattr(stage, "MOST_OWN_IMAGES", 2)
    assert [r.key for r in stage._first_rows(run)] == ["s1", "s2"]


def test_probabilities_of_the_proposer_hold_sam_back_and_are_the_confidence(run: Path) -> None:
    rows, truths, sam = drawn(run, ["bus", "cat"])
    settings = {"min_band_px": 30, "min_region_px": 12, "min_agreement": 0.0, "max_probability": 0.6}
    built = with_decoder(stage.build(recipe(run, sabr=settings), run), sam)

    class Sure(TellsScores):
        def prepare(self, *given: object) -> None: ...

        def propose_scored(self, requests: Sequence[ProposalRequest]) -> list[Proposal]:
            sure = np.full((SIZE_PX, SIZE_PX), 0.5, np.float32)
            sure[:, : SIZE_PX // 2] = 0.8
            return [Proposal(np.roll(t, 6, axis=1), sure) for t, _ in zip(truths, requests, strict=True)]

    built._proposer, built._is_scored = Sure(), True
    built._settings = built._settings.model_copy(update={"apf": Apf(enabled=False), "apr": Apr(enabled=False)})
    half = SIZE_PX // 2
    for m, truth in zip(process(built, rows, run, "00000"), truths, strict=True):
        assert isinstance(m, MaskRecord)
        final, confidence = read_mask(run / m.labelling.mask), read_mask(run / m.labelling.confidence)
        moved = np.roll(truth, 6, axis=1)
        assert np.array_equal(final[:, :half], moved[:, :half])
        assert (final[:, half:] == truth[:, half:]).mean() > (moved[:, half:] == truth[:, half:]).mean()
        assert (confidence[:, :half] == 204).all()
