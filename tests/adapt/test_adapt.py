"""The whole of `synthgen adapt` on a narrow base: what it leaves, and what a kill costs."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from doubles.adaptations import TINY
from doubles.processes import environment
from PIL import Image

from synthgen.adapt import model_folder
from synthgen.adapt import run as module
from synthgen.adapt.losses import Losses, curve, read_losses
from synthgen.adapt.run import adapt
from synthgen.errors import RunError, StorageError
from synthgen.labels import read_label_space
from synthgen.recipe import Recipe
from synthgen.training.loop import Step


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def files(out: Path) -> dict[str, bytes]:
    """What must be the same after any number of kills; hours and TensorBoard's clock are not."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and "board" not in path.parts and path.name != "README.md"
    }


@pytest.fixture(scope="module")
def model(tiny: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed adaptation."""
    out = tmp_path_factory.mktemp("model") / "model"
    adapt(tiny(), out)
    return out


def test_it_leaves_what_is_documented_and_no_work(model: Path) -> None:
    assert sorted(path.name for path in model.iterdir()) == [
        "README.md",
        "controlnet",
        "lora",
        "synthgen.json",
        "training",
    ]
    assert sorted(path.name for path in (model / "controlnet").iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    config = json.loads((model / "controlnet" / "config.json").read_text(encoding="utf-8"))
    assert config["force_zeros_for_pooled_projection"] is False
    assert config["extra_conditioning_channels"] == 0
    assert "_name_or_path" not in config
    facts = json.loads((model / "synthgen.json").read_text(encoding="utf-8"))
    assert (facts["control"], facts["swap"], facts["max_sequence_length"]) == ("palette", True, 0)
    assert facts["base"]["revision"].startswith("local-")
    car = facts["label_space"]["labels"][13]
    assert (car["id"], car["name"], car["colour"]) == (13, "car", [0, 0, 142])
    assert facts["label_space"] == read_label_space("cityscapes").to_json()


def test_stock_diffusers_loads_and_renders_it(model: Path, base: Path) -> None:
    from diffusers import SD3ControlNetModel, StableDiffusion3ControlNetPipeline

    net = SD3ControlNetModel.from_pretrained(model, subfolder="controlnet", dtype=torch.float32)
    pipeline = StableDiffusion3ControlNetPipeline.from_pretrained(
        base, controlnet=net, text_encoder_3=None, tokenizer_3=None, dtype=torch.float32
    )
    rng = np.random.default_rng(0)
    maps = [Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)) for _ in range(2)]

    def render(picture: Image.Image) -> np.ndarray:
        made: np.ndarray = pipeline(
            "a street", control_image=picture, height=64, width=96, num_inference_steps=2, max_sequence_length=0,
            generator=torch.Generator().manual_seed(0), output_type="np",
        ).images  # fmt: skip
        return made

    first = render(maps[0])
    assert first.shape == (1, 64, 96, 3)
    assert not np.allclose(first, render(maps[1]))  # the map matters
    pipeline.load_lora_weights(model / "lora")
    assert not np.allclose(first, render(maps[0]))  # and so does the look


def test_the_training_is_on_record(model: Path) -> None:
    with (model / "training" / "controlnet.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert (model / "training" / "controlnet.svg").read_text(encoding="utf-8").startswith("<svg")
    card = (model / "README.md").read_text(encoding="utf-8")
    assert "4 steps, 8 samples" in card
    assert "| 13 | car | 0, 0, 142 |" in card
    assert "Nobody says under which licence" in card  # a local base of no known family
    assert "training/controlnet.svg" in card


MOMENTS: dict[str, tuple[Any, str, int]] = {
    "after the claim": (module.Adaptation, "_encode", 1),
    "before the captions": (module.Encoder, "encode_captions", 1),
    "in the first training": (module, "grid_of", 1),
    "between training and writing the look": (module, "save_lora", 1),
    "before the second training": (module, "new_controlnet", 1),
    "in the second training": (module, "grid_of", 4),
    "while the network is written": (model_folder, "move_into_place", 2),
    "before the card": (model_folder, "write_card", 1),
    "before the mark": (model_folder, "write_model_facts", 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_at_any_moment_costs_nothing_but_time(
    tiny: Callable[..., Recipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    undisturbed: dict[str, bytes],
) -> None:
    place, name, count = MOMENTS[moment]
    original, calls = getattr(place, name), 0

    def mortal(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            raise Killed
        return original(*arguments, **options)

    out = tmp_path / "model"
    with monkeypatch.context() as patch:
        patch.setattr(place, name, mortal)
        with pytest.raises(Killed):
            adapt(tiny("adapt.samples_every=1", "adapt.samples_steps=1"), out)
    assert not model_folder.is_finished(out)
    adapt(tiny("adapt.samples_every=1", "adapt.samples_steps=1"), out)
    assert files(out) == undisturbed


@pytest.fixture(scope="module")
def undisturbed(tiny: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "model"
    adapt(tiny("adapt.samples_every=1", "adapt.samples_steps=1"), out)
    return files(out)


def test_grids_change_no_weight(undisturbed: dict[str, bytes], model: Path) -> None:
    plain = files(model)
    assert {name: undisturbed[name] for name in plain if "samples" not in name} == plain


def test_a_second_call_of_a_finished_adaptation_loads_nothing(
    tiny: Callable[..., Recipe], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(model)
    for name in ("load_denoiser", "load_vae"):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("a model was loaded"))
    adapt(tiny(), model)
    assert files(model) == before


def test_other_settings_are_refused_and_what_only_shows_things_is_not(tiny: Callable[..., Recipe], model: Path) -> None:
    with pytest.raises(RunError, match=r"was begun with adapt\.controlnet\.learning_rate = 0\.01, it now says 0\.02"):
        adapt(tiny("adapt.controlnet.learning_rate=0.02"), model)
    adapt(tiny("adapt.samples_every=7", "adapt.gradient_checkpointing=true"), model)


def test_every_setting_that_changes_a_weight_is_on_record(tiny: Callable[..., Recipe], tmp_path: Path) -> None:
    """Flip each key of `adapt`: the record notices, or the key is one of those that only show things or save memory."""
    free = {"samples_every", "samples_steps", "samples_guidance", "checkpoint_s", "gradient_checkpointing"}
    free |= {"data.folder", "data.source", "data.split"}  # the pictures themselves are compared
    others: dict[str, Any] = {"control": "onehot", "save_dtype": "float16", "crops.window": [0.2, 0.9]}
    others |= {"lora.weighting": "none", "controlnet.weighting": "none", "captions.sentence": "{things}!"}
    others |= {"captions.unnamed": ["sky"], "lora.targets": ["attn.to_q"], "controlnet.flat": 0.5, "lora.flat": 0.5}
    recipe = tiny()
    before = module.Adaptation(recipe, tmp_path).identity
    unnoticed = []
    for place, value in leaves(recipe.adapt.model_dump(mode="json")):
        if place in free or place == "controlnet.layers":  # two blocks: no other depth is possible
            continue
        new = others.get(place)
        if new is None:
            new = (not value) if isinstance(value, bool) else value + 1 if isinstance(value, int) else value / 2 + 0.1
        after = module.Adaptation(tiny(f"adapt.{place}={json.dumps(new)}"), tmp_path).identity
        if after == before:
            unnoticed.append(place)
    assert unnoticed == []
    assert module.Adaptation(tiny("seed=5"), tmp_path).identity != before


def leaves(settings: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """(dotted key, value) of every setting."""
    every: list[tuple[str, Any]] = []
    for key, value in settings.items():
        every += leaves(value, f"{before}{key}.") if isinstance(value, dict) else [(before + key, value)]
    return every


def test_a_folder_of_somebody_else_is_left_alone(tiny: Callable[..., Recipe], tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RunError, match=r"mine: holds 'notes.txt' and was not begun by synthgen adapt"):
        adapt(tiny(), out)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


def test_a_full_disk_is_one_line_and_the_checkpoint_before_it_stays(
    tiny: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    save, calls = torch.save, 0

    def full(*arguments: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:  # in the second training
            raise OSError(28, "No space left on device")
        save(*arguments, **options)

    out = tmp_path / "model"
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StorageError, match=r"checkpoint\.pt: cannot be written .*No space left"):
        adapt(tiny(), out)
    assert not list(out.rglob("*.tmp"))
    adapt(tiny(), out)
    assert files(out) == files(model)


def test_a_base_in_bfloat16_as_on_a_gpu_learns_nearly_the_same(
    tiny: Callable[..., Recipe], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_frozen_dtype", lambda device: torch.bfloat16)
    adapt(tiny(), tmp_path / "half")
    losses = [
        [float(row["loss"]) for row in read_losses(out / "training" / "controlnet.csv")]
        for out in (model, tmp_path / "half")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
    assert losses[1] != losses[0]
    assert all(value.dtype == torch.float32 for value in load(tmp_path / "half" / "controlnet").values())


def test_without_a_look_the_controlnet_stands_on_the_base_itself(
    tiny: Callable[..., Recipe], model: Path, tmp_path: Path
) -> None:
    adapt(tiny("adapt.lora.steps=0"), tmp_path / "bare")
    assert not (tmp_path / "bare" / "lora").exists()
    one, other = (files(out)["controlnet/diffusion_pytorch_model.safetensors"] for out in (model, tmp_path / "bare"))
    assert one != other


def test_onehot_says_that_only_synthgen_feeds_it(tiny: Callable[..., Recipe], tmp_path: Path) -> None:
    adapt(tiny("adapt.control=onehot", "adapt.lora.steps=0"), tmp_path / "onehot")
    config = json.loads((tmp_path / "onehot" / "controlnet" / "config.json").read_text(encoding="utf-8"))
    assert config["extra_conditioning_channels"] == 20
    assert "**synthgen only**" in (tmp_path / "onehot" / "README.md").read_text(encoding="utf-8")


def test_low_rank_training_and_accumulation_give_a_model_like_any_other(
    tiny: Callable[..., Recipe], model: Path, tmp_path: Path
) -> None:
    adapt(tiny("adapt.controlnet.lora_rank=2", "adapt.controlnet.accumulate=2", "adapt.lora.steps=0"), tmp_path / "low")
    one, other = (
        {key: value.shape for key, value in load(out / "controlnet").items()} for out in (model, tmp_path / "low")
    )
    assert one == other


def load(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "diffusion_pytorch_model.safetensors")


def test_learning_lowers_the_loss(tiny: Callable[..., Recipe], tmp_path: Path) -> None:
    adapt(
        tiny(
            "adapt.controlnet.steps=60", "adapt.controlnet.batch_size=4", "adapt.lora.steps=0", "adapt.checkpoint_s=60"
        ),
        tmp_path / "m",
    )
    losses = [float(row["loss"]) for row in read_losses(tmp_path / "m" / "training" / "controlnet.csv")]
    assert np.mean(losses[-15:]) < 0.9 * np.mean(losses[:15])


def test_losses_beyond_the_checkpoint_are_replaced(tmp_path: Path) -> None:
    for first, values in ((1, (0.5, 0.4, 0.3)), (3, (0.2, 0.1))):
        losses = Losses(tmp_path, "lora")
        for number, value in enumerate(values, start=first):
            losses.add(Step(number, 4, 0.0, {"loss": value, "rate": 1.0}))
        losses.close()
    rows = read_losses(tmp_path / "lora.csv")
    assert [(int(row["step"]), float(row["loss"])) for row in rows] == [(1, 0.5), (2, 0.4), (3, 0.2), (4, 0.1)]


def test_the_curve_has_its_ends_where_the_losses_say() -> None:
    svg = curve([(n, 1.0 - n / 1000) for n in range(1, 1001)])
    points = [tuple(map(float, pair.split(","))) for pair in svg.split('points="')[1].split('"')[0].split()]
    assert len(points) == 200
    assert points[0][1] < points[-1][1]  # down is larger
    assert points[-1][0] == pytest.approx(720 - 42)
    assert curve([]).startswith("<svg")


def test_a_real_kill_minus_nine_gives_the_same_bytes(labelled: Path, base: Path, tmp_path: Path, model: Path) -> None:
    """Killed whenever the second training has begun to save; the same command then goes on."""
    out = tmp_path / "model"
    command = [
        sys.executable,
        "-m",
        "synthgen",
        "adapt",
        "--data",
        str(labelled),
        "--base",
        str(base),
        "--out",
        str(out),
    ]
    command += [word for setting in TINY for word in ("--set", setting)]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    checkpoint = out / "work" / "controlnet" / "checkpoint.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert subprocess.run(command, env=environment(), stderr=subprocess.DEVNULL, check=False).returncode == 0
    assert files(out) == files(model)


@pytest.mark.slow
def test_two_processes_train_together_and_a_kill_of_both_costs_nothing(
    labelled: Path, base: Path, tmp_path: Path
) -> None:
    """Batches are drawn by rank, so two processes learn something else than one, and always the same."""

    def command(out: Path) -> list[str]:
        made = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "synthgen", "adapt"]
        made += ["--data", str(labelled), "--base", str(base), "--out", str(out)]
        return made + [word for setting in TINY for word in ("--set", setting)]

    made = []
    for name in ("undisturbed", "killed"):
        out = tmp_path / name
        if name == "killed":
            process = subprocess.Popen(command(out), env=environment(), start_new_session=True)
            checkpoint = out / "work" / "controlnet" / "checkpoint.pt"
            deadline = time.monotonic() + 120
            while not checkpoint.is_file() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.005)
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()
            assert not model_folder.is_finished(out)
        subprocess.run(command(out), env=environment(), check=True)
        made.append(files(out))
    assert made[0] == made[1]
