"""The recipes cgaug: from labelled pictures and objects to shards of pairs."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from doubles.maps_and_nets import sets_of
from doubles.processes import environment
from doubles.runs import digest, whole_run
from PIL import Image
from tokenizers import Tokenizer

from segkit.shards import Dataset
from segtrain.config import train_config
from segtrain.methods.supervised.method import train
from segtrain.segmenter import load_model
from synthgen import stages
from synthgen.backends import load
from synthgen.dataset.verify import verify
from synthgen.drawn.split import write_split
from synthgen.dry_run import dry_run, plan_text
from synthgen.images import read_image, read_mask
from synthgen.labels import read_label_space
from synthgen.models.used import used_backends
from synthgen.models.weights import resolve
from synthgen.pipeline import begin, run_stage
from synthgen.planning.machine import Machine
from synthgen.recipe import read_recipe, recipe_path
from synthgen.records import Rejected, RenderRecord
from synthgen.render.gates.known_class import KnownClass
from synthgen.report.gallery import card
from synthgen.report.run_rows import read_run
from synthgen.settings import Execution

HERE = Machine("Linux x86_64", "3.11", 2, 500.0, (), {}, False, False, (), {})
AGREES = "refine.mask_decoder={name: doubles.fickle_sam, agrees_in: 2}"


def sets(folder: Path, num_maps: int = 6) -> tuple[str, ...]:
    given = sets_of(folder, "streets", num_maps)
    write_split(folder / "objects", "objects", 24, 500)
    # boxes of the objects are what the double answers with: full boxes agree with hardly any shape
    return (*given, f"render.object_bank.folder={folder / 'objects'}", AGREES, "render.gates.sam_agreement.min_iou=0.3")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return sets(tmp_path_factory.mktemp("cgaug"))


@pytest.fixture(scope="module")
def run(given: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_run(recipe_path("cgaug-mini"), tmp_path_factory.mktemp("runs") / "run", *given)


def test_each_attempt_is_accounted_for(run: Path) -> None:
    stage = stages.stages(run)["render"]
    made: list[RenderRecord] = stage.rows()
    refused: list[Rejected] = list(stage.rejected())
    parents = Counter(row.parent for row in refused)
    assert {row.parent for row in made} | set(parents) == {row.key for row in stages.stages(run)["prompts"].rows()}
    assert {row.reason for row in refused} <= {"sam_disagrees", "no_anchor"} and refused
    for row in made:
        assert row.pair.attempts == parents[row.parent] + 1 and row.pair.sam_agreement > 0.3
    keys = [row.key for row in (*made, *refused)]
    assert len(set(keys)) == len(keys)
    given_up = set(parents) - {row.parent for row in made}
    assert all(parents[key] in (1, 10) for key in given_up)


def test_no_sentence_of_the_mini_is_cut(tmp_path: Path) -> None:
    """With the longest word for an object and the longest for a weather, the weather last, within the 36 tokens."""
    tokenizer = Tokenizer.from_file(str(resolve("mini/streets") / "tokenizer" / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    recipe = read_recipe("cgaug-mini")
    write_split(tmp_path / "maps", "streets", 60, 20, domain="day")
    source = load("prompt_source", recipe.prompts.source.model_dump() | {"folder": str(tmp_path / "maps")}, Execution())
    sentence = recipe.render.compose.model_dump()["sentence"]
    lengths = set()
    for candidate in source.candidates(read_label_space("cityscapes"), (), 0):
        said = sentence.format(object="dining table", prompt=candidate.prompt)
        assert said.endswith(("by day", "at night", "in fog", "in rain", "in snow"))
        lengths.add(len(tokenizer.encode(said).ids))
    assert 20 < max(lengths) <= 36, lengths


def test_the_label_is_the_map_with_sams_object_as_254(run: Path) -> None:
    rows = stages.stages(run)["refine"].rows()
    assert rows
    for row in rows:
        original = read_mask(run / row.pair.original_mask)
        at_size = np.asarray(Image.fromarray(original).resize((96, 64), Image.Resampling.NEAREST))
        label, pasted = read_mask(run / row.labelling.mask), read_mask(run / row.pair.pasted) > 0
        rows_of, columns_of = np.nonzero(pasted)
        box = np.zeros_like(pasted)
        box[rows_of.min() : rows_of.max() + 1, columns_of.min() : columns_of.max() + 1] = True
        np.testing.assert_array_equal(label, np.where(box, 254, at_size))
        name = next(about for about in row.subject.attributes if about.startswith("object=")).removeprefix("object=")
        assert name in ("bird", "boat", "bottle", "cat", "chair", "cow", "diningtable", "dog")
        assert row.subject.prompt.startswith("a ") and " and a street with " in row.subject.prompt


def test_pairs_travel_in_the_shards_and_the_dataset_is_whole(run: Path, given: tuple[str, ...]) -> None:
    data = Dataset(run / "dataset")
    samples = [sample for number in range(len(data.index.shards)) for sample in data.shard_samples(number)]
    text = (run / "dataset" / "README.md").read_text(encoding="utf-8")
    assert "Each sample has six members" in text and "| `orig.png` | its mask |" in text
    assert data.index.members[-2:] == ("orig.jpg", "orig.png") and samples
    assert not list(verify(run / "dataset"))
    day = Path(next(text for text in given if text.startswith("prompts.source.folder=")).partition("=")[2])
    for sample in samples:
        assert sample.original is not None
        picture, mask = sample.original
        np.testing.assert_array_equal(mask, read_mask(day / "labels" / sample.meta["origin"]))
        drawn = read_image(day / "images" / sample.meta["origin"]).astype(int)
        assert np.abs(picture.astype(int) - drawn).mean() < 4  # JPEG
        assert (sample.mask == 254).any() and sample.meta["attempts"] >= 1
    shown = read_run(run)
    row = next(row for row in shown.images if row["outcome"] == "kept")
    assert card(shown, row)["original"].startswith("data:image")


def test_a_run_that_was_cut_goes_on_to_the_same_bytes(run: Path, given: tuple[str, ...], tmp_path: Path) -> None:
    more = (*given, "execution.unit_rows=2", "execution.batch_size=1")
    recipe, _ = begin(read_recipe("cgaug-mini", more), tmp_path / "cut")
    for name in ("prompts", "render"):
        for done, _ in enumerate(run_stage(recipe, tmp_path / "cut", name)):
            if name == "render" and done == 1:
                break
    cut = whole_run(recipe_path("cgaug-mini"), tmp_path / "cut", *more)
    tars = [name for name in digest(run / "dataset") if name.endswith(".tar")]
    assert tars and {name: digest(cut / "dataset")[name] for name in tars} == {
        name: digest(run / "dataset")[name] for name in tars
    }


def test_a_run_that_was_killed_within_a_unit_of_attempts_ends_with_the_same_bytes(
    run: Path, given: tuple[str, ...], tmp_path: Path
) -> None:
    words = [word for setting in given for word in ("--set", setting)]
    command = ["run", "cgaug-mini", "--runs", str(tmp_path), "--run", "killed", *words]
    done = subprocess.run(
        [sys.executable, "-m", "doubles.killed", "render", "working", *command], env=environment(), check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr[-2_000:]
    assert stages.stages(tmp_path / "killed")["render"].missing(), "the unit was not committed"
    whole_run(recipe_path("cgaug-mini"), tmp_path / "killed", *given)
    tars = [name for name in digest(run / "dataset") if name.endswith(".tar")]
    assert tars and {name: digest(tmp_path / "killed" / "dataset")[name] for name in tars} == {
        name: digest(run / "dataset")[name] for name in tars
    }


def test_a_real_segmenter_judges_what_is_known(given: tuple[str, ...], tmp_path: Path) -> None:
    """A small network of segtrain as the second gate: its own probabilities, on the kept object's pixels."""
    day = next(text for text in given if text.startswith("prompts.source.folder=")).partition("=")[2]
    sizes = {"steps": 3, "batch_size": 2, "crop_px": 64, "decoder_channels": "8,8,8,8,8", "device": "cpu"}
    model = train(train_config(data=(day,), out=tmp_path / "model", **sizes))
    segmenter = load_model(model, "cpu")
    gate = f"{{segmenter: {{name: segmenter, model: {model}, space: cityscapes}}, max_probability: 1.0}}"
    made = whole_run(recipe_path("cgaug-mini"), tmp_path / "run", *given, f"render.gates.known_class={gate}")
    rows = [row for row in stages.stages(made)["render"].rows() if row.pair.pasted]
    images = [read_image(made / row.picture.image) for row in rows]
    masks = [read_mask(made / row.picture.layout) == 254 for row in rows]
    with torch.inference_mode():
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        likeliest = segmenter.logits(pixels).softmax(1).amax(1).numpy()
    scores = [float(known[mask].mean()) for known, mask in zip(likeliest, masks, strict=True)]
    assert [row.pair.known_probability for row in rows] == pytest.approx(scores, abs=1e-4) and len(rows) > 1
    limit = float(np.mean(scores))
    proposer = load("proposer", {"name": "segmenter", "model": str(model), "space": "cityscapes"}, Execution())
    verdicts = KnownClass(proposer, limit).judge(images, masks)
    assert [verdict.reason for verdict in verdicts] == ["known_object" if s > limit else "" for s in scores]
    card_text = (made / "dataset" / "README.md").read_text(encoding="utf-8")
    assert "was not sure that it is of a known class: mean probability at most 1.0" in card_text
    assert "| gate known_class | `segmenter:" in card_text
    plan = dry_run(read_recipe("cgaug-mini", [*given, f"render.gates.known_class={gate}"]), tmp_path / "other", HERE)
    assert "gate known_class segmenter" in plan.unknown
    broken = read_recipe("cgaug-mini", [*given, f"render.gates.known_class={gate.replace(str(model), 'nowhere')}"])
    assert any("nowhere" in line for line in dry_run(broken, tmp_path / "other", HERE).missing)


def test_the_full_size_recipe_is_planned_and_asks_sam(tmp_path: Path) -> None:
    folder = tmp_path / "day"
    write_split(folder, "streets", 3, 0)
    recipe = read_recipe("cgaug", [f"prompts.source.folder={folder}"])
    plan = dry_run(recipe, tmp_path / "run", HERE)
    assert {stage.name: stage.rows for stage in plan.stages}["render"] == 3
    assert "mask_decoder" in used_backends(recipe) and "feature_extractor" not in used_backends(recipe)
    assert plan.attempts is not None and plan.attempts.worst == 10
    assert plan.attempts.expected == pytest.approx(sum(0.75**n for n in range(10)))  # the n-th is made if all failed
    once = dry_run(
        read_recipe("cgaug", [f"prompts.source.folder={folder}", "render.attempts=1"]), tmp_path / "run", HERE
    )
    by_name = [{stage.name: stage.operations or 0.0 for stage in one.stages} for one in (plan, once)]
    assert by_name[0]["render"] == pytest.approx(plan.attempts.expected * by_name[1]["render"])
    assert by_name[0]["refine"] == by_name[1]["refine"] and once.attempts is None
    assert "attempts  3.8 an image if the gates let 25% of them pass (a guess), 10 at the most" in plan_text(plan)
    assert "attempts " not in plan_text(once)
