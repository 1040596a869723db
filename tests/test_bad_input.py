"""Bad input of a Syn4Seg run, from the command line:

one clear line with the way out, before anything costly, and nothing is lost.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles.chat_server import Step, captions, drips, hangs_up, raw, says, serving, stalls

from synthgen import stages
from synthgen.images import write_image
from synthgen.refine.class_rates import rates_of

Cli = Callable[..., Any]
Tiny = Callable[..., Path]


def refused(result: Any) -> str:
    """The one line of a command that was refused."""
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("synthgen: ")]
    return str(line)


def asking(url: str, **more: object) -> dict[str, object]:
    return {
        "name": "llm",
        "base_url": url,
        "model": "any",
        "retries": 0,
        "timeout_s": 20,
        "max_bad_replies": 2,
        "reply": "lines",
        **more,
    }


@pytest.mark.parametrize(
    ("step", "said"), [(hangs_up, "no answer after 1 tries"), (stalls, "timed out"), (drips, "timed out")]
)
def test_an_endpoint_that_is_down_or_slow_ends_the_run_in_one_line_and_its_answers_are_kept(
    cli: Cli, tiny: Tiny, tmp_path: Path, step: Step, said: str
) -> None:
    first, second = says("a photo of a coin on sand"), says("a large disc in snow beside four red houses")
    with serving(first, step, second) as server:
        impatient = tiny(prompts__source=asking(server.url, timeout_s=1.5), labels__classes=["disc"])
        assert said in refused(cli("prompts", impatient))
        assert "a coin on sand" in (tmp_path / "runs" / "tiny" / "prompts" / ".replies.jsonl").read_text()
        done = cli("prompts", tiny(prompts__source=asking(server.url), labels__classes=["disc"]))
        assert done.exit_code == 0, done.output
    prompts = {row.subject.prompt for row in stages.stages(tmp_path / "runs" / "tiny")["prompts"].rows()}
    assert prompts == {"a photo of a coin on sand", "a large disc in snow beside four red houses"}


def test_after_an_endpoint_was_down_the_recipe_may_name_another_one(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    with serving(says("a photo of a coin on sand"), hangs_up) as server:
        refused(cli("prompts", tiny(prompts__source=asking(server.url), labels__classes=["disc"])))
    with serving(says("a large disc in snow beside four red houses")) as server:
        done = cli("prompts", tiny(prompts__source=asking(server.url, timeout_s=5), labels__classes=["disc"]))
        assert done.exit_code == 0, done.output
        assert len(server.asked[0]["messages"]) == 2 and "coin on sand" in str(server.asked[0]), (
            "the first answer is still known"
        )


@pytest.mark.parametrize(
    "garbage", [raw(b"<html>502</html>"), says(""), says("\u202e\x00")], ids=["html", "empty", "invisible"]
)
@pytest.mark.parametrize("form", ["lines", "json_schema"])
def test_an_endpoint_that_answers_garbage_is_survived_unless_it_says_nothing_else(
    cli: Cli, tiny: Tiny, tmp_path: Path, caplog: pytest.LogCaptureFixture, garbage: Step, form: str
) -> None:
    with serving(garbage) as server:
        line = refused(cli("prompts", tiny(prompts__source=asking(server.url, reply=form), labels__classes=["disc"])))
    assert "'any' gave 2 replies and no caption of 'disc'" in line and "another model" in line
    good = captions("a photo of a coin on sand") if form == "json_schema" else says("a photo of a coin on sand")
    with serving(good, garbage) as server:
        assert (
            cli(
                "prompts",
                tiny(prompts__source=asking(server.url, reply=form), labels__classes=["disc"]),
                "--run",
                "survived",
            ).exit_code
            == 0
        )
    assert stages.stages(tmp_path / "runs" / "survived")["prompts"].num_rows() == 1
    assert any("fewer than 4 for disc 1 (bad_replies)" in record.getMessage() for record in caplog.records)


def support_of(world: Path, place: Path) -> Path:
    return Path(shutil.copytree(world / "support", place / "support"))


def test_a_support_set_without_a_wanted_class_is_told_before_anything_is_made(
    cli: Cli, tiny: Tiny, world: Path, tmp_path: Path
) -> None:
    support = support_of(world, tmp_path)
    for file in support.glob("*/bar_*"):
        file.unlink()
    line = refused(cli("run", tiny(support__folder=str(support))))
    assert "no image shows enough of class 'bar' (id 3); add one or leave it out of labels.classes" in line
    assert not (tmp_path / "runs").exists()
    assert "class 'bar'" in cli("run", tiny(support__folder=str(support)), "--dry-run", "--trust").stdout
    assert cli("prompts", tiny(support__folder=str(support))).exit_code == 0, "the stage before needs no support set"
    assert (
        cli("run", tiny(support__folder=str(support), labels__classes=["disc", "square"]), "--run", "without").exit_code
        == 0
    )


def test_masks_with_ids_outside_the_label_space_are_told_before_anything_is_made(
    cli: Cli, tiny: Tiny, world: Path, tmp_path: Path
) -> None:
    support = support_of(world, tmp_path)
    image = np.zeros((32, 32, 3), np.uint8)
    write_image(image, support / "images" / "odd.png")
    write_image(np.full((32, 32), 77, np.uint8), support / "labels" / "odd.png")
    line = refused(cli("run", tiny(support__folder=str(support))))
    assert "odd.png" in line and "77" in line
    assert not (tmp_path / "runs").exists()


def test_a_class_whose_every_region_is_rejected_is_named_and_the_run_goes_on(
    cli: Cli, tiny: Tiny, tmp_path: Path
) -> None:
    done = cli(
        "run",
        tiny(
            refine__apf={"lambda_apf": 1.0, "min_region_px": 6},
            filter__rules={"min_class_fraction": 0, "min_labelled_fraction": 0},
        ),
    )
    assert done.exit_code == 0, done.output
    for name in ("disc", "square", "bar"):
        assert f"every region of class {name!r} was freed" in done.stdout
    assert "the most similar at" in done.stdout and "refine.apf.lambda_apf is 1.0" in done.stdout
    run = stages.stages(tmp_path / "runs" / "tiny")
    assert all(counts.num_kept == 0 for counts in rates_of(run["refine"]).values())
    assert run["refine"].num_rows() == run["render"].num_rows(), "a mask in which nothing was kept is still a row"


def test_a_bank_that_a_low_lambda_leaves_short_says_which_lambda_passes_how_many(
    cli: Cli, tiny: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    assert cli("prompts", tiny(prompts__lambda_div=0.05)).exit_code == 0
    (line,) = [record.getMessage() for record in caplog.records if "fewer than 4" in record.getMessage()]
    assert "disc 1 (budget), square 1 (budget), bar 1 (budget) at lambda_div 0.05 (0." in line
    assert "passes disc" in line and " of 12" in line
