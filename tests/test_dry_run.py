"""`synthgen run RECIPE --dry-run`: what a run would be, told without beginning it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from synthgen import stages
from synthgen.dry_run import Plan, dry_run, plan_text
from synthgen.images import write_image
from synthgen.models.sizes import clip_of, denoiser_of, parameters_in, sam_of
from synthgen.models.weights import resolve
from synthgen.planning.machine import Gpu, Machine
from synthgen.planning.readiness import check_recipe
from synthgen.recipe import read_recipe

Tiny = Callable[..., Path]
SETTINGS = (
    "support.folder=''",
    "support.drawn={world: objects}",
    "labels.classes=[bicycle, bus]",
    "refine.mask_decoder.model=mini/sam",
)


def machine(gpu_gib: float = 0.0, free_gib: float = 500.0, cached: tuple[str, ...] = ()) -> Machine:
    gpus = (Gpu("NVIDIA H100", gpu_gib),) if gpu_gib else ()
    return Machine("Linux x86_64", "3.11", 2, free_gib, gpus, {}, False, False, cached, {})


def full_size(tmp_path: Path, here: Machine, *more: str) -> Plan:
    return dry_run(read_recipe("syn4seg", [*SETTINGS, *more]), tmp_path / "run", here)


def test_the_full_size_recipe_is_planned_from_what_is_known_of_its_models(tmp_path: Path) -> None:
    plan = full_size(tmp_path, machine(80))
    rows = {stage.name: (stage.rows, stage.units) for stage in plan.stages}
    assert tuple(rows) == stages.names()
    assert rows == {
        "prompts": (200, 1),
        "render": (200, 4),
        "refine": (200, 4),
        "score": (200, 4),
        "filter": (200, 1),
        "pack": (200, 1),
    }
    assert plan.needs_gpu and plan.missing == ()
    # 28 steps x 2 of 8.06e9 x 4429 + 4 x 38 x 2432 x 4429^2 operations: 2.4e15 an image
    assert plan.gpu_hours["H100"] == pytest.approx(200 * 2.4e15 / (0.25 * 989e12) / 3600, rel=0.02)
    ratio = plan.gpu_hours["A100"] / plan.gpu_hours["H100"]
    assert 1.5 < ratio < 2.1, "public figures: 1.5 in PyTorch, 1.9 in TensorRT"
    assert 8 < plan.gpu_hours["H100"] / 200 * 3600 < 12, "seconds an image"
    assert 17 < (plan.gpu_memory_gb or 0) < 24, "the recipe says 24 GB"
    assert 29 < plan.download_gb < 30
    embeddings = 200 * (77 + 256) * 4096 * 2 / 1e9  # bfloat16
    assert {stage.name: stage.disk_gb for stage in plan.stages}["prompts"] == pytest.approx(embeddings)
    assert not list(tmp_path.iterdir()), "a dry run writes nothing"


def test_settings_that_cost_more_or_less(tmp_path: Path) -> None:
    def hours(*more: str) -> float:
        return full_size(tmp_path, machine(80), *more).gpu_hours["H100"]

    assert hours("render.images_per_prompt=3") == pytest.approx(3 * hours(), rel=0.01)
    assert hours("render.renderer.steps=14") == pytest.approx(hours() / 2, rel=0.01)
    assert hours("render.renderer.guidance=1") == pytest.approx(hours() / 2, rel=0.01)
    assert hours("render.height_px=512", "render.width_px=512") < hours() / 3.5

    def memory(*more: str) -> float:
        return full_size(tmp_path, machine(80), *more).stages[1].gpu_memory_gb or 0.0

    assert (
        memory("execution.quantise=bnb-nf4")
        < memory("execution.quantise=fp8")
        < memory()
        < memory("execution.dtype=float32")
    )
    assert memory("execution.offload=sequential") < memory("execution.offload=model") < memory()


def test_what_is_missing_is_told_all_at_once(tmp_path: Path) -> None:
    recipe = read_recipe("syn4seg", ["support.folder=nowhere", "labels.classes=[bicycle, unicorn]"])
    plan = dry_run(recipe, tmp_path / "run", machine(free_gib=10))
    missing = "\n".join(plan.missing)
    for said in ("sam_vit_h_4b8939.pth", "'unicorn'", "no GPU here", "GB are needed, 10.7 GB are free"):
        assert said in missing, missing
    assert "missing   no GPU here" in plan_text(plan)
    small = full_size(tmp_path, machine(12))
    assert len(small.missing) == 1 and "execution.offload=model" in small.missing[0]
    cached = ("stabilityai/stable-diffusion-3.5-large", "laion/CLIP-ViT-L-14-laion2B-s32B-b82K")
    assert full_size(tmp_path, machine(80, cached=cached)).download_gb == 0


def test_minis_need_no_gpu_and_unknown_models_are_called_unknown(tmp_path: Path) -> None:
    plan = dry_run(read_recipe("syn4seg-mini"), tmp_path / "run", machine())
    assert not plan.needs_gpu and plan.missing == () and plan.gpu_hours == {}
    assert 280 * 0.2 < (plan.core_hours or 0) * 3600 < 280 * 0.8, "measured: 0.375 s an image"
    assert "of one CPU core" in plan_text(plan)
    strange = full_size(
        tmp_path, machine(80), "render.renderer.model=nobody/nothing", "prompts.embedder.model=nobody/nothing"
    )
    assert strange.gpu_memory_gb is None and strange.gpu_hours == {} and "unknown" in plan_text(strange)


def test_a_renderer_of_unknown_cost_is_called_unknown(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    cheap = tiny(**{"prompts__embedder": {"name": "clip"}, "filter__scorer": {"name": "open_clip"}})
    recipe = read_recipe(
        str(cheap),
        ["refine.features={name: open_clip}", "refine.mask_decoder={name: segment_anything, model: mini/sam}"],
    )
    plan = dry_run(recipe, tmp_path / "run", machine())
    assert plan.unknown == ("renderer doubles.painter",) and plan.missing == ()
    operations = {stage.name: stage.operations for stage in plan.stages}
    assert operations.pop("render") is None and None not in operations.values()
    assert (plan.core_hours, plan.gpu_hours, plan.gpu_memory_gb, plan.memory_gb) == (None, {}, None, None)
    text = plan_text(plan)
    assert "time      unknown: renderer doubles.painter does not say what it takes" in text
    assert "one CPU core" not in text and "memory    unknown" in text
    assert any("no GPU here" in note and "doubles.painter" in note for note in plan.notes)
    assert "no GPU here" not in "".join(dry_run(recipe, tmp_path / "run", machine(80)).notes)
    doubles = dry_run(read_recipe(str(tiny())), tmp_path / "run", machine())
    assert len(doubles.unknown) == 5, "all but the grammar and the prototypes"


def test_a_broken_recipe_gives_no_numbers(tmp_path: Path) -> None:
    plan = full_size(tmp_path, machine(80), "labels.classes=[bicycle, unicorn]")
    assert any("'unicorn'" in line for line in plan.missing)
    assert {(stage.rows, stage.units, stage.disk_gb, stage.operations) for stage in plan.stages} == {(None,) * 4}
    assert (plan.disk_gb, plan.core_hours, plan.gpu_hours) == (None, None, {})
    text = plan_text(plan)
    assert "unknown number of prompts" in text and "time      unknown: see what is missing" in text
    assert " 0 s" not in text and "at most 0" not in text


def test_the_download_of_a_controlnet_is_counted(tmp_path: Path) -> None:
    net = "stabilityai/stable-diffusion-3.5-large-controlnet-canny"
    plain, controlled = (full_size(tmp_path, machine(80), f"render.renderer.controlnet={name}") for name in ("''", net))
    assert controlled.download_gb - plain.download_gb == pytest.approx(8.65)
    assert controlled.gpu_hours["H100"] > 1.1 * plain.gpu_hours["H100"]
    memory = [plan.stages[1].gpu_memory_gb or 0.0 for plan in (plain, controlled)]
    assert memory[1] - memory[0] == pytest.approx(4.3, rel=0.02)
    cached = machine(80, cached=(net,))
    assert full_size(tmp_path, cached, f"render.renderer.controlnet={net}").download_gb == plain.download_gb
    strange = full_size(tmp_path, machine(80), "render.renderer.controlnet=nobody/net")
    assert strange.unknown == ("renderer sd3",) and strange.gpu_hours == {}


@pytest.mark.parametrize(
    ("gpu_gib", "free_gib", "settings"),
    [(0, 500, ()), (80, 500, ()), (12, 500, ()), (80, 10, ()), (80, 500, ("labels.classes=[bicycle, unicorn]",))],
)
def test_doctor_and_dry_run_judge_alike(
    tmp_path: Path, gpu_gib: float, free_gib: float, settings: tuple[str, ...]
) -> None:
    here = machine(gpu_gib, free_gib)
    recipe = read_recipe("syn4seg", [*SETTINGS, *settings])
    plan, check = dry_run(recipe, tmp_path / "run", here), check_recipe(recipe, here)
    assert (check.missing, check.notes) == (plan.missing, plan.notes)
    assert check.would_run == (gpu_gib == 80 and free_gib == 500 and not settings)


def test_an_empty_file_of_weights_is_missing(tmp_path: Path) -> None:
    (tmp_path / "sam_vit_b.pth").touch()
    recipe = read_recipe("syn4seg-mini", [f"refine.mask_decoder.model={tmp_path / 'sam_vit_b.pth'}"])
    assert [line for line in check_recipe(recipe, machine()).missing if "is an empty file" in line]


def test_a_decoder_of_drawings_is_noted_where_it_would_redraw_photographs(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    write_image(np.zeros((8, 8, 3), np.uint8), tmp_path / "photos" / "a.png")
    photos = [f"prompts.source.folder={tmp_path / 'photos'}", *SETTINGS[:2], "labels.space=objects"]

    def notes(*more: str) -> str:
        return "".join(check_recipe(read_recipe("label-photos", [*photos, *more]), machine()).notes)

    mini = "refine.mask_decoder={name: segment_anything, model: mini/sam}"
    assert "only seen drawings" in notes("refine.sabr.enabled=true", mini)
    assert "only seen drawings" not in notes("refine.sabr.enabled=false", mini)
    copy = shutil.copytree(resolve("mini/sam"), tmp_path / "sam")
    assert "only seen drawings" not in notes("refine.sabr.enabled=true", f"refine.mask_decoder.model={copy}")
    drawn = check_recipe(read_recipe("syn4seg-mini"), machine())
    assert "only seen drawings" not in "".join(drawn.notes)


def test_photographs_and_lists_count_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        write_image(np.zeros((8, 8, 3), np.uint8), tmp_path / "photos" / f"{number}.png")
    settings = (
        f"prompts.source.folder={tmp_path / 'photos'}",
        "support.drawn={world: objects}",
        "support.folder=''",
        "labels.space=objects",
    )
    plan = dry_run(read_recipe("label-photos", settings), tmp_path / "run", machine())
    assert [stage.rows for stage in plan.stages] == [3] * 6
    assert plan.download_gb == 0, "photographs need no text encoder"
    (tmp_path / "list.txt").write_text("a bus\na bicycle\n")
    listed = full_size(tmp_path, machine(80), f"prompts.source={{name: file, path: '{tmp_path / 'list.txt'}'}}")
    assert listed.stages[1].rows == 2 and "as the source gives them" in listed.what


def test_the_command_tells_what_a_finished_run_already_has(cli: Any, tiny: Tiny, finished: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in finished.rglob("*"))
    told = cli("run", tiny(), "--dry-run", "--trust", "--json")
    assert told.exit_code == 0, told.output
    plans = {stage["name"]: stage for stage in json.loads(told.stdout)["stages"]}
    assert plans["render"]["units_done"] == len(stages.stages(finished)["render"].units())
    assert plans["prompts"]["rows"] == 12
    assert sorted((path, path.stat().st_mtime_ns) for path in finished.rglob("*")) == before
    other = cli("run", tiny(seed=6), "--dry-run", "--trust")
    assert other.exit_code == 1 and "missing   " in other.stdout and "seed" in other.stdout
    assert len(other.stdout.splitlines()) < 25
    assert cli("run", tiny(support__folder="nowhere"), "--dry-run", "--trust").exit_code == 1


def test_sizes_of_local_folders_are_read(tmp_path: Path) -> None:
    mini = denoiser_of("mini/objects")
    assert mini is not None
    assert (mini.layers, mini.width, mini.token_px, mini.t5, mini.download_gb) == (6, 192, 8, 0.0, 0.0)
    assert 5e6 < mini.transformer < 10e6
    assert denoiser_of(str(tmp_path)) is None and denoiser_of("nobody/nothing") is None
    for name, shape in (("a.safetensors", (2, 3)), ("b.safetensors", (5,))):
        save_file({name: np.zeros(shape, np.float32)}, tmp_path / name)
    save_file({"a.safetensors": np.zeros((2, 3), np.float16)}, tmp_path / "a.fp16.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(b"\x04")
    assert parameters_in(tmp_path) == 11, "the same weights in two precisions count once"
    sam, clip = sam_of("mini/sam", "mini"), clip_of("mini/clip")
    assert sam and clip and sam.parameters < 2e6 and clip.parameters < 5e6
    assert sam_of("sam_vit_h_4b8939.pth", "vit_h") and clip_of("nobody/nothing") is None


def test_listed_sizes_are_those_of_the_published_configurations() -> None:
    import torch
    from diffusers import SD3Transformer2DModel

    from benchmarks.wiring import SD35_LARGE

    listed = denoiser_of("stabilityai/stable-diffusion-3.5-large")
    assert listed is not None
    with torch.device("meta"):
        counted = sum(weight.numel() for weight in SD3Transformer2DModel(**SD35_LARGE).parameters())
    assert listed.transformer == pytest.approx(counted, rel=1e-4)
    assert (
        listed.width == SD35_LARGE["num_attention_heads"] * SD35_LARGE["attention_head_dim"]
        and listed.layers == SD35_LARGE["num_layers"]
    )
    assert dataclasses.replace(listed).operations(1024, 1024, 333) == pytest.approx(4.3e13, rel=0.05)


def test_two_text_encoders_and_a_distilled_model_under_guidance_are_noted(tmp_path: Path) -> None:
    turbo = "stabilityai/stable-diffusion-3.5-large-turbo"
    plain = full_size(tmp_path, machine(80), f"render.renderer.model={turbo}")
    assert not [note for note in plain.notes if "distilled" in note or "encodes each prompt again" in note]
    assert plain.download_gb < 31, "one model for embedder and renderer"
    assert plain.gpu_hours["H100"] < full_size(tmp_path, machine(80)).gpu_hours["H100"] / 10, "4 steps, no guidance"
    guided = full_size(tmp_path, machine(80), f"render.renderer.model={turbo}", "render.renderer.guidance=4.5")
    assert [note for note in guided.notes if "is distilled: its makers take 4 steps and no guidance (1)" in note]
    large = "stabilityai/stable-diffusion-3.5-large"
    both = full_size(tmp_path, machine(80), f"render.renderer.model={turbo}", f"prompts.embedder.model={large}")
    (note,) = [note for note in both.notes if "encodes each prompt again" in note]
    assert turbo in note and large in note and "leave prompts.embedder out" in note
    assert both.download_gb > plain.download_gb + 27


def test_a_controlnet_is_counted_and_a_broken_recipe_is_unknown(tmp_path: Path) -> None:
    net = "stabilityai/stable-diffusion-3.5-large-controlnet-canny"
    plain, controlled = (
        full_size(tmp_path, machine(80)),
        full_size(tmp_path, machine(80), f"render.renderer.controlnet={net}"),
    )
    assert controlled.download_gb - plain.download_gb == pytest.approx(8.65)
    broken = full_size(tmp_path, machine(80), "labels.classes=[crane]")
    text = plan_text(broken)
    assert "an unknown number of prompts" in text and "time      unknown" in text
    assert broken.core_hours is None and broken.disk_gb is None and broken.missing
