"""The data card: YAML that the Hub reads, and a body that says what was done."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.runs import whole_run
from doubles.world import paint
from huggingface_hub import DatasetCard

from synthgen.errors import RecipeError
from synthgen.images import write_image
from synthgen.models.licences import STABILITY
from synthgen.pack.card import dataset_license, size_category
from synthgen.pack.counts import MaskRate, ModelUse, RunCounts
from synthgen.pack.finish import finish
from synthgen.pack_settings import Pack
from synthgen.settings import Apf

MakeRun = Callable[..., Any]
SD3 = ModelUse(
    "renderer", "stabilityai/stable-diffusion-3.5-large", "ceddf0a", STABILITY.name, STABILITY.link, STABILITY.hub_name
)
COUNTS = RunCounts(
    made={"prompts": 90, "filter": 10},
    rejected={"prompts": {"too_similar": 29, "no_class_word": 1}, "filter": {"class|rank": 5}},
    models=(
        SD3,
        ModelUse("mask_decoder", "mini/sam", "1", "Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0"),
    ),
)


def _card(run: Any, counts: RunCounts = COUNTS) -> Path:
    return finish(run.recipe, run.folder, run.pack(), run.samples, counts) / "README.md"


def _rows(text: str, heading: str) -> list[list[str]]:
    """Cells of the table below a heading, head and rule left out."""
    lines = text.split(f"{heading}\n", 1)[1].split("\n#", 1)[0].splitlines()
    table = [line for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in table[2:]]


@pytest.mark.parametrize(("number", "says"), [(1, "1 of them is longer"), (12, "12 of them are longer")])
def test_prompts_that_the_text_encoder_has_cut_are_told(make_run: MakeRun, number: int, says: str) -> None:
    run = make_run(samples_per_shard=4)
    assert says in _card(run, RunCounts(cut_prompts=number)).read_text(encoding="utf-8")


def test_no_cut_prompt_is_no_line(make_run: MakeRun) -> None:
    assert "longer than that text encoder" not in _card(make_run(samples_per_shard=4)).read_text(encoding="utf-8")


def test_yaml_block_loads(make_run: MakeRun) -> None:
    data = DatasetCard.load(_card(make_run(samples_per_shard=4))).data.to_dict()
    assert data["configs"] == [
        {
            "config_name": "default",
            "data_files": [
                {"split": "train", "path": "train-*.tar"},
                {"split": "validation", "path": "validation-*.tar"},
            ],
        }
    ]
    assert data["pretty_name"] == "Shapes"
    assert data["annotations_creators"] == ["machine-generated"]
    assert data["task_categories"] == ["image-segmentation"] and data["task_ids"] == ["semantic-segmentation"]
    assert data["size_categories"] == ["n<1K"]
    assert {"synthetic", "webdataset"} <= set(data["tags"])


def test_a_title_cannot_break_the_yaml(make_run: MakeRun) -> None:
    run = make_run(count=3)
    title = 'a: [b] # "c"\n---\nlicense: mit'
    run.recipe = run.recipe.model_copy(update={"title": title})
    data = DatasetCard.load(_card(run)).data
    assert data.pretty_name == title and data.license == "other"


@pytest.mark.parametrize(
    ("pack", "models", "wanted"),
    [
        (Pack(), (SD3,), ("other", "stabilityai-ai-community", "https://stability.ai/community-license-agreement")),
        (Pack(), (), ("other", "not-chosen", "")),
        (Pack(license="cc-by-4.0"), (SD3,), ("cc-by-4.0", "", "")),
        (Pack(license_name="ours", license_link="LICENSE.md"), (SD3,), ("other", "ours", "LICENSE.md")),
    ],
)
def test_license(make_run: MakeRun, pack: Pack, models: tuple[ModelUse, ...], wanted: tuple[str, str, str]) -> None:
    run = make_run(count=3)
    run.recipe = run.recipe.model_copy(update={"pack": pack})
    assert dataset_license(run.recipe, RunCounts(models=models)) == wanted
    data = DatasetCard.load(_card(run, RunCounts(models=models))).data.to_dict()
    assert (data["license"], data.get("license_name", ""), data.get("license_link", "")) == wanted


def test_models_keep_their_licence_and_revision(make_run: MakeRun) -> None:
    models = _rows(_card(make_run()).read_text(), "### Models")
    stability = "[Stability AI Community License](https://stability.ai/community-license-agreement)"
    assert models == [
        ["renderer", "`stabilityai/stable-diffusion-3.5-large`", "ceddf0a", stability],
        ["mask_decoder", "`mini/sam`", "1", "[Apache-2.0](https://www.apache.org/licenses/LICENSE-2.0)"],
    ]


def test_rejects_with_their_share_of_what_the_stage_saw(make_run: MakeRun) -> None:
    assert _rows(_card(make_run()).read_text(), "### Rejected") == [
        ["prompts", "too_similar", "29", "24.2 %"],
        ["prompts", "no_class_word", "1", "0.8 %"],
        ["filter", "class\\|rank", "5", "33.3 %"],
    ]


def test_counts_by_class(make_run: MakeRun) -> None:
    rows = _rows(_card(make_run(count=10)).read_text(), "## Classes")
    assert [row[:4] for row in rows] == [
        ["0", "background", "-", "10"],
        ["1", "disc", "4", "4"],
        ["2", "pipe \\| bar", "3", "3"],
        ["7", "star", "3", "3"],
    ]


def test_what_was_kept_of_the_masks_is_told_by_class(make_run: MakeRun) -> None:
    counts = RunCounts(mask_rates=(MaskRate(1, 12, 0.75, 0.5, 0.25), MaskRate(2, 3, 0.0, 1.0, 0.0)))
    assert _rows(_card(make_run(count=3), counts).read_text(), "### Masks by class") == [
        ["disc", "12", "75 %", "50 %", "25 %"],
        ["pipe \\| bar", "3", "0 %", "100 %", "0 %"],
    ]


def test_a_threshold_that_was_chosen_from_the_support_set_is_told_by_value(make_run: MakeRun) -> None:
    run = make_run(count=3)
    refine = run.recipe.refine.model_copy(update={"apf": Apf(lambda_apf="auto")})
    counts = RunCounts(calibrated={"lambda_apf": 0.35, "min_cosine": 0.6, "min_margin": 0.05})
    recipe = run.recipe.model_copy(update={"refine": refine})
    text = (finish(recipe, run.folder, run.pack(), run.samples, counts) / "README.md").read_text()
    assert re.search(r"cosine below\s+0\.35, chosen from the support images\) were freed", text)
    fixed = _card(make_run("fixed", 3), RunCounts()).read_text()
    assert re.search(r"cosine below\s+0\.6\) were freed", fixed)


@pytest.mark.parametrize(
    ("lambda_div", "counts", "says"),
    [
        (0.9, RunCounts(), "is below 0.9."),
        ("auto", RunCounts(lambda_div=0.9125), "is below 0.9125."),
        (1.0, RunCounts(cut_prompts=2), "none was refused for being like another. 2 of them are longer than `"),
        (0.9, RunCounts(compares_prompts=False), "none was refused for being like another."),
    ],
)
def test_by_what_a_prompt_was_refused_is_told_by_value(
    make_run: MakeRun, lambda_div: Any, counts: RunCounts, says: str
) -> None:
    run = make_run(count=3)
    prompts = run.recipe.prompts.model_copy(update={"lambda_div": lambda_div})
    recipe = run.recipe.model_copy(update={"prompts": prompts})
    text = (finish(recipe, run.folder, run.pack(), run.samples, counts) / "README.md").read_text()
    told = " ".join(text.partition("## How it was made")[2].partition("2. Images")[0].split())
    assert says in told and ("greatest cosine" in told) == ("is below" in says)


def test_nothing_known_is_said_plainly(make_run: MakeRun) -> None:
    text = _card(make_run(count=3), RunCounts(models=(ModelUse("renderer", "photograph"),))).read_text()
    assert "Nothing was rejected." in text and "Masks by class" not in text
    assert _rows(text, "### Models") == [["renderer", "`photograph`", "not recorded", "not stated"]]


def test_no_folder_of_the_machine_gets_in(make_run: MakeRun, tmp_path: Path) -> None:
    dataset = _card(make_run()).parent
    for path in dataset.iterdir():
        data = path.read_bytes()
        assert str(tmp_path).encode() not in data and b"/home/somebody" not in data, path.name


# webdataset 1.0.2 leaves it to the collector
@pytest.mark.filterwarnings(r"ignore:unclosed file .*\.tar:ResourceWarning")
@pytest.mark.parametrize("per_shard", [3, 100])
def test_the_loading_snippet_runs(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], per_shard: int
) -> None:
    card = _card(make_run(samples_per_shard=per_shard))
    snippet = card.read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(card.parent)
    exec(snippet, {})
    assert re.fullmatch(r"s[0-9a-f]{15} \(24, 32, 3\) \(24, 32\)\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("samples", "word"), [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10**5, "100K<n<1M"), (10**9, "100M<n<1B")]
)
def test_size_category(samples: int, word: str) -> None:
    assert size_category(samples) == word


def test_a_template_of_ones_own(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(count=3, card=str(tmp_path / "mine.md"))
    (tmp_path / "mine.md").write_text("# {{ title }} & {{ num_samples }}\n")
    assert DatasetCard.load(_card(run)).text.strip() == "# Shapes & 3"


def test_a_licence_that_nobody_chose_is_said_to_be_none(make_run: MakeRun) -> None:
    run = make_run(count=3)
    run.recipe = run.recipe.model_copy(update={"pack": Pack()})
    text = _card(run, RunCounts()).read_text()
    assert "This dataset: not chosen: set pack.license." in text and "license_name: not-chosen" in text


@pytest.mark.parametrize(
    "attack",
    [
        "{{ cycler.__init__.__globals__.os.popen('touch PLACE').read() }}",
        "{{ title.__class__.__mro__[-1].__subclasses__() }}",
        "{{ classes.append(1) }}",
        "{{ lipsum.__globals__['os'].system('touch PLACE') }}",
    ],
)
def test_a_template_reaches_nothing_but_its_facts(make_run: MakeRun, tmp_path: Path, attack: str) -> None:
    run = make_run(count=3, card=str(tmp_path / "mine.md"))
    (tmp_path / "mine.md").write_text(attack.replace("PLACE", str(tmp_path / "harm")))
    with pytest.raises(RecipeError, match=r"mine\.md.*cannot be used"):
        _card(run)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("template", "message"),
    [("{{ nonsense }}", "nonsense"), ("{% if %}", "cannot be used"), (None, "no file .*: synthetic")],
)
def test_a_broken_template_is_named(make_run: MakeRun, tmp_path: Path, template: str | None, message: str) -> None:
    run = make_run(count=3, card=str(tmp_path / "mine.md"))
    if template is not None:
        (tmp_path / "mine.md").write_text(template)
    with pytest.raises(RecipeError, match=message):
        _card(run)


def test_the_card_tells_only_steps_that_ran(tmp_path: Path, tiny: Callable[..., Path]) -> None:
    """Photographs with APR and SABR off: no prompt was compared, nothing was labelled again, no boundary refined."""
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for number, name in enumerate(("disc", "bar")):
        write_image(paint(name, number)[0], photographs / f"{number}.png")
    run = whole_run(
        tiny(
            prompts__source={"name": "images", "folder": str(photographs)},
            render__renderer={"name": "images"},
            refine__apr__enabled=False,
            refine__sabr__enabled=False,
            filter__rules={"min_class_fraction": 0.0, "min_labelled_fraction": 0.0},
        ),
        tmp_path / "run",
    )
    text = " ".join((run / "dataset" / "README.md").read_text().split())
    assert "lists the files that are taken over" in text and "cosine similarity to the prompts" not in text
    assert "were freed. 4. Filter" in text and "word_bag" not in text
