"""`synthgen adapt --dry-run`, and what a person reads who brings something unfit."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from doubles.adaptations import TINY

from synthgen.adapt.networks import control_config, load_denoiser, new_controlnet, read_base
from synthgen.adapt.run import adapt
from synthgen.adapt_settings import ControlNet
from synthgen.errors import RunError
from synthgen.images import write_image
from synthgen.planning import adaptation as module
from synthgen.planning.adaptation import AdaptationPlan, plan_adaptation, plan_text
from synthgen.planning.machine import Gpu, Machine, machine
from synthgen.recipe import Recipe

Cli = Callable[..., Any]
GPU = Gpu("A small one", 16.0)


@pytest.fixture(scope="module")
def here() -> Machine:
    return machine()


def plan(recipe: Recipe, here: Machine, out: Path = Path("nowhere")) -> AdaptationPlan:
    return plan_adaptation(recipe, out, here)


def test_weights_are_counted_as_they_are(tiny: Callable[..., Recipe], base: Path, here: Machine) -> None:
    import torch

    read = read_base(str(base))
    denoiser = load_denoiser(read, torch.float32)
    for rank in (0, 3):
        settings = ControlNet(lora_rank=rank)
        net = new_controlnet(control_config(read, settings, 0), denoiser, settings)
        made = plan(tiny(f"adapt.controlnet.lora_rank={rank}"), here)
        lora = sum(p.numel() for name, p in net.named_parameters() if "lora_" in name)
        assert made.controlnet_parameters == sum(p.numel() for p in net.parameters()) - lora
        assert made.trained_parameters == sum(p.numel() for p in net.parameters() if p.requires_grad)
        assert made.base_parameters == sum(p.numel() for p in denoiser.parameters())


def test_disk_is_at_least_what_an_adaptation_takes(
    tiny: Callable[..., Recipe], here: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from synthgen.adapt import model_folder

    sizes: list[int] = []
    finish = model_folder.finish

    def measured(out: Path, *rest: Any, **more: Any) -> None:
        sizes.append(
            sum(path.stat().st_size for path in out.rglob("*") if path.is_file() and "board" not in path.parts)
        )
        finish(out, *rest, **more)

    monkeypatch.setattr(model_folder, "finish", measured)
    adapt(tiny(), tmp_path / "m")
    told = plan(tiny(), here).disk_gb
    assert told is not None
    assert sizes[0] / 1e9 <= told * 1.05
    assert told < 4 * sizes[0] / 1e9


@pytest.fixture
def large(tiny: Callable[..., Recipe], base: Path, tmp_path: Path) -> Callable[..., Recipe]:
    """The same folder, whose configuration says that its denoiser is SD3.5-Medium's."""
    folder = tmp_path / "large"
    shutil.copytree(base, folder)
    path = folder / "transformer" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    medium = {"num_layers": 24, "num_attention_heads": 24, "attention_head_dim": 64, "caption_projection_dim": 1536}
    medium |= {"joint_attention_dim": 4096, "pooled_projection_dim": 2048, "in_channels": 16, "out_channels": 16}
    medium |= {"pos_embed_max_size": 384, "dual_attention_layers": list(range(13))}
    path.write_text(json.dumps(config | medium), encoding="utf-8")

    def recipe(*sets: str) -> Recipe:
        size = ("render.height_px=1024", "render.width_px=1024", "adapt.controlnet.batch_size=4")
        return tiny(*size, *sets, model=folder)

    return recipe


def test_sd35_mediums_controlnet_has_the_size_that_arithmetic_says(large: Callable[..., Recipe], here: Machine) -> None:
    made = plan(large(), dataclasses.replace(here, gpus=(GPU,)))
    assert made.base_parameters == pytest.approx(2.24e9, rel=0.02)
    assert made.controlnet_parameters == pytest.approx(1.2e9, rel=0.06)  # 12 of 24 blocks


def test_what_does_not_fit_is_told_with_the_options_that_make_it_fit(
    large: Callable[..., Recipe], here: Machine, tmp_path: Path
) -> None:
    made = plan(large(), dataclasses.replace(here, gpus=(GPU,)))
    assert len(made.missing) == 1
    assert "A small one has 17.2 GB" in made.missing[0]
    assert "--set adapt.gradient_checkpointing=true" in made.missing[0]
    sizes = list(made.smaller.values())
    assert sizes == sorted(sizes, reverse=True)
    assert made.memory_gb is not None
    assert made.memory_gb > sizes[0]
    fitting = next(options for options, size in made.smaller.items() if size < 17.2)
    chosen = [word for word in fitting.split() if word != "--set"]
    again = plan(large(*chosen), dataclasses.replace(here, gpus=(GPU,)))
    assert again.missing == ()
    assert again.memory_gb == pytest.approx(made.smaller[fitting])
    with pytest.raises(RunError, match="memory: about"):
        made.require()


def test_hours_follow_steps_and_checkpointing(large: Callable[..., Recipe], here: Machine) -> None:
    hours = [
        plan(large(*sets), here).gpu_hours["H100"]
        for sets in (("adapt.lora.steps=0",), ("adapt.lora.steps=0", "adapt.controlnet.steps=8"))
    ]
    assert hours[1] == pytest.approx(2 * hours[0])
    again = plan(large("adapt.lora.steps=0", "adapt.gradient_checkpointing=true"), here).gpu_hours["H100"]
    assert 1.3 < again / hours[0] < 1.5


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    tiny: Callable[..., Recipe], here: Machine, tmp_path: Path
) -> None:
    made = plan(tiny(), dataclasses.replace(here, free_disk_gib=1e-4), tmp_path / "m")
    assert made.missing[0].startswith("disk: about")
    assert not (tmp_path / "m").exists()


def test_the_text_says_what_a_person_asks(large: Callable[..., Recipe], here: Machine) -> None:
    text = plan_text(plan(large(), dataclasses.replace(here, gpus=(GPU,))))
    for word in ("labelled pictures", "ControlNet", "memory", "disk", "H100", "missing: memory", "needs less memory"):
        assert word in text
    assert json.loads(json.dumps(plan(large(), here).to_json()))["windows"] == 5


def test_every_named_way_out_is_a_setting_that_exists(tiny: Callable[..., Recipe]) -> None:
    for options in module.SMALLER:
        tiny(*(f"adapt.{option}" for option in options))


def run(cli: Cli, *arguments: str) -> Any:
    return cli("adapt", *arguments, *(word for setting in TINY for word in ("--set", setting)))


def test_a_dry_run_makes_nothing(cli: Cli, base: Path, labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    made = run(cli, "--data", str(labelled), "--base", str(base), "--out", str(out), "--dry-run")
    assert made.exit_code == 0
    assert "nothing was made" in made.stdout
    assert not out.exists()


def test_a_dry_run_that_misses_something_says_so_to_scripts(cli: Cli, base: Path, tmp_path: Path) -> None:
    missing = run(cli, "--data", str(tmp_path / "none"), "--base", str(base), "--out", str(tmp_path / "m"), "--dry-run")
    assert missing.exit_code == 1 and "missing: " in missing.stdout and "none/images: no such folder" in missing.stdout


def bare(labelled: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(labelled, folder)
    return folder


def no_labels_file(folder: Path) -> None:
    (folder / "labels.yaml").unlink()


def no_colours(folder: Path) -> None:
    space = yaml.safe_load((folder / "labels.yaml").read_text(encoding="utf-8"))
    for label in space["labels"]:
        del label["colour"]
    (folder / "labels.yaml").write_text(json.dumps(space), encoding="utf-8")


def a_foreign_id(folder: Path) -> None:
    mask = next((folder / "labels").iterdir())
    import numpy as np

    write_image(np.full((64, 96), 77, dtype=np.uint8), mask)


def no_partner(folder: Path) -> None:
    next((folder / "labels").iterdir()).unlink()


def another_size(folder: Path) -> None:
    import numpy as np

    write_image(np.zeros((64, 90), dtype=np.uint8), next((folder / "labels").iterdir()))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (no_labels_file, "labels.yaml: no such file"),
        (no_colours, "'road' and 'sidewalk' are both black, and a ControlNet that is fed colours could not tell them"),
        (a_foreign_id, "ids 77 are not in label space"),
        (no_partner, "has no partner labels/"),
        (another_size, "90"),
    ],
)
def test_unfit_labels_are_one_line_and_nothing_is_lost(
    cli: Cli, base: Path, labelled: Path, tmp_path: Path, damage: Callable[[Path], None], told: str
) -> None:
    folder, out = bare(labelled, tmp_path), tmp_path / "m"
    damage(folder)
    before = sorted(path.name for path in folder.rglob("*"))
    made = run(cli, "--data", str(folder), "--base", str(base), "--out", str(out))
    assert made.exit_code == 2
    assert told in made.stderr
    assert len([line for line in made.stderr.splitlines() if line.startswith("synthgen:")]) == 1
    assert sorted(path.name for path in folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--base", "mini/sam"), "mini/sam"),
        (("--base", "./nowhere"), "no such file or folder"),
        (("--set", "render.height_px=60"), "multiples of"),
        (("--set", "adapt.controlnet.layers=9"), "adapt.controlnet.layers = 9"),
        (("--set", "adapt.crops.window=[1.0, 0.5]"), "crops.window"),
        (("--set", "adapt.captions.sentence='{domain}'"), "{things} is the only slot"),
        (("--set", "adapt.crop.per_image=2"), "no such setting"),
        (("--set", "adapt.controlnet.steps=0"), "adapt.controlnet.steps"),
        (("--set", "render.renderer={name: images}"), "trains the renderer sd3 only"),
    ],
)
def test_unfit_settings_are_one_line(
    cli: Cli, base: Path, labelled: Path, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    tiny = [word for setting in TINY for word in ("--set", setting)]
    given = ["--data", str(labelled), *(["--base", str(base)] if "--base" not in arguments else [])]
    made = cli("adapt", *given, "--out", str(tmp_path / "m"), *tiny, *arguments)
    assert made.exit_code == 2
    assert told in made.stderr
    assert len(made.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "m").exists()
