"""`synthgen improve` with the real trainer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from doubles.world import IDS, MORE_WORDS, paint

from synthgen.images import write_image


def held_out(folder: Path) -> Path:
    """Nine images, a domain for each in domains.txt."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    (folder / "labels.yaml").write_text((folder.parent / "labels.yaml").read_text())
    for number, name in enumerate(list(IDS) * 3):
        image, mask = paint(name, 900 + number)
        write_image(image, folder / "images" / f"{number}.png")
        write_image(mask.astype(np.uint8), folder / "labels" / f"{number}.png")
    (folder / "domains.txt").write_text("".join(f"{n}\t{'sand' if n < 5 else 'snow'}\n" for n in range(9)))
    return folder


def test_a_model_is_scored_images_are_made_and_it_is_trained_anew(
    cli: Callable[..., Any], process: Callable[..., Any], finished: Path, world: Path, tmp_path: Path
) -> None:
    (tmp_path / "labels.yaml").write_text((world / "labels.yaml").read_text())
    validation = held_out(tmp_path / "held-out")
    options = (
        "--steps 2 --batch-size 2 --crop 32 --arch Unet --encoder resnet18 --decoder-channels 8,8,8,8,8 --device cpu"
    )
    done = process("-m", "segtrain", "train", "--data", finished / "dataset", "--out", "model", *options.split())
    assert done.returncode == 0, done.stderr
    (tmp_path / "words.yaml").write_text(MORE_WORDS)
    more = f"prompts.source.vocabulary={tmp_path / 'words.yaml'}"
    words = ["improve", finished, "--set", more, "--model", tmp_path / "model", "--validation", validation]
    result = cli(*words, "--rounds", "1", "--images", "6", "--train=--device", "--train=cpu", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "round 1: " in result.output and "ended: " in result.output and "so it flatters" in result.output
    assert "most for " in result.output and "background x" not in result.output, "nothing is made for it"
    told = json.loads((tmp_path / "out" / "improve.json").read_text())["rounds"][0]
    assert set(told["need"]["domains"]) == {"sand", "snow"}
    settings = [
        json.loads((folder / "settings.json").read_text())
        for folder in (tmp_path / "model", tmp_path / "out" / "model-1")
    ]
    assert len(settings[1].pop("sources")) == 2 and len(settings[0].pop("sources")) == 1
    assert settings[0] == settings[1], "trained as the model that was given, but on more"
    assert (tmp_path / "out" / "scores-1.json").is_file()
    again = cli(*words, "--rounds", "1", "--images", "6", "--train=--device", "--train=cpu", "--out", tmp_path / "out")
    assert again.exit_code == 0 and again.output.splitlines()[-3:] == result.output.splitlines()[-3:]


def test_a_model_that_is_none_is_one_line(cli: Callable[..., Any], finished: Path, tmp_path: Path) -> None:
    result = cli("improve", finished, "--model", tmp_path / "nothing", "--validation", tmp_path)
    assert result.exit_code == 2 and len(result.output.strip().splitlines()) == 1 and "nothing" in result.output
