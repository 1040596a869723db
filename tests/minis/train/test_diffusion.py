"""Training of the denoiser and the ControlNet:

the objective, what the pipelines make of it, the loop, the saved folder, the command.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from doubles.mini_family import random_flow, random_vae, write_trained_size
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image

from synthgen.minis.train import controlnet, denoiser, diffusion, vae
from synthgen.minis.train.__main__ import main
from synthgen.minis.train.loop import Schedule, train
from synthgen.minis.train.scenes import Scenes, scenes

CAPTIONS = ["a red car on the road at night", "a white horse in the snow", "", "a boat on the sea, by day"]


def batch_of_latents(size: int = 6, with_maps: bool = False, length: int = 16) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(5)
    batch = {
        "latents": torch.randn(size, 4, 8, 8, generator=rng),
        "tokens": torch.randint(0, 8000, (size, length), generator=rng),
    }
    return batch | ({"maps": torch.randn(size, 4, 8, 8, generator=rng)} if with_maps else {})


# words


def test_the_short_vocabulary_gives_clips_own_ids() -> None:
    theirs = SimpleTokenizer(context_length=24)
    ids = diffusion.tokenize(diffusion.tokenizer(24), CAPTIONS)
    assert ids.shape == (4, 24)
    for mine, caption in zip(ids.tolist(), CAPTIONS, strict=True):
        # start and end are the last two ids of either vocabulary; the rest is padded with the end
        words = theirs.encode(caption)
        assert max(words, default=0) < diffusion.VOCABULARY - 2
        end = diffusion.VOCABULARY - 1
        assert mine == [end - 1, *words] + [end] * (23 - len(words))


# the objective


@pytest.mark.parametrize("control_layers", [0, 1])
def test_steps_on_a_fixed_batch_lower_its_loss(control_layers: int) -> None:
    flow = random_flow(control_layers=control_layers)
    batch = batch_of_latents(with_maps=bool(control_layers))
    optimiser = torch.optim.AdamW(flow.parameters(), lr=2e-3)

    def loss() -> torch.Tensor:
        torch.manual_seed(7)  # the same noise and the same sigma
        return flow(batch)["loss"]

    before = loss().item()
    for _ in range(15):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    assert before > 1.5  # |noise - data|^2 is 2 where nothing is predicted
    assert loss().item() < 0.9 * before


def test_the_map_reaches_the_first_share_of_a_batch_only() -> None:
    flow = random_flow(control_layers=1)
    batch = batch_of_latents(with_maps=True)

    def losses(maps: torch.Tensor) -> dict[str, torch.Tensor]:
        torch.manual_seed(7)
        return flow(batch | {"maps": maps})

    with torch.no_grad():
        first, second = losses(batch["maps"]), losses(batch["maps"] * -2)
    assert first["controlled"] != second["controlled"]
    assert first["free"] == second["free"]
    torch.testing.assert_close(first["loss"], (first["controlled"] + first["free"]) / 2)


def test_what_is_learned_is_what_the_pipelines_ask_for(tmp_path: Path) -> None:
    """One Euler step from pure noise is noise - velocity:

    text states, pooled vectors, maps and time must be fed as in training.
    """
    denoiser.save(random_flow(control_layers=1), random_vae(8, 16, 16), tmp_path)
    pipeline = denoiser.load_pipeline(tmp_path, control=True)
    flow = random_flow(control_layers=1)
    denoiser.load_start(flow, tmp_path)
    pipeline.vae.register_to_config(scaling_factor=0.7, shift_factor=0.3)
    ids = diffusion.tokenize(flow.tokenizer, CAPTIONS[:1])
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    painted = np.kron(np.arange(16, dtype=np.uint8).reshape(4, 4, 1) * 15, np.ones((8, 8, 3), np.uint8))
    with torch.no_grad():
        states, pooled = flow.encode_text(ids)
        maps = vae.encode(pipeline.vae, painted[None]) * 0.7
        start = torch.tensor([1000.0])
        residuals = flow.controlnet(noise, maps, 1.0, states, torch.zeros_like(pooled), start, return_dict=False)[0]
        velocities = {
            "plain": flow.transformer(noise, states, pooled, start, return_dict=False)[0],
            "controlled": flow.transformer(noise, states, pooled, start, residuals, return_dict=False)[0],
        }
        asked: dict[str, Any] = {
            "prompt": CAPTIONS[0],
            "latents": noise.clone(),
            "num_inference_steps": 1,
            "guidance_scale": 1.0,
            "max_sequence_length": 0,
            "height": 32,
            "width": 32,
            "output_type": "latent",
        }
        plain = denoiser.load_pipeline(tmp_path)(**asked).images
        # the pipeline samples the map's latents; their noise is small and this tolerance is not
        controlled = pipeline(**asked, control_image=Image.fromarray(painted)).images
    torch.testing.assert_close(plain, noise - velocities["plain"], atol=1e-4, rtol=1e-4)
    far = (velocities["controlled"] - velocities["plain"]).abs().mean()
    near = (noise - velocities["controlled"] - controlled).abs().mean()
    assert near < 0.35 * far


# latents


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return scenes("streets", 6, cache=tmp_path_factory.mktemp("drawings"), workers=1)


def test_latents_are_scaled_as_the_pipelines_scale_them(drawn: Scenes, tmp_path: Path) -> None:
    coder = random_vae(8, 16, 16)
    coder.register_to_config(scaling_factor=0.7, shift_factor=0.3)
    palette = controlnet.palette()
    found = diffusion.latents_of(coder, drawn, diffusion.tokenizer(32), tmp_path, palette)
    assert found.maps is not None
    assert found.images.shape == found.maps.shape == (6, 4, 16, 24) and found.images.dtype == torch.float16
    raw, painted = vae.encode(coder, drawn.images[:]), vae.encode(coder, palette[drawn.masks[:]])
    torch.testing.assert_close(found.images.float() / 0.7 + 0.3, raw, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(found.maps.float() / 0.7, painted, atol=2e-3, rtol=2e-3)
    assert found.tokens.shape == (6, 32)
    batch = diffusion.batches(found)(np.random.default_rng(0), 9)
    assert {name: len(rows) for name, rows in batch.items()} == {"latents": 9, "tokens": 9, "maps": 9}
    at = [int((found.images == row).flatten(1).all(1).nonzero()[0]) for row in batch["latents"]]
    assert torch.equal(batch["maps"], found.maps[at]) and torch.equal(batch["tokens"], found.tokens[at])


def test_latents_are_encoded_once_for_each_vae(drawn: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[AutoencoderKL] = []
    monkeypatch.setattr(diffusion, "encode", lambda coder, images: calls.append(coder) or vae.encode(coder, images))
    coder, words = random_vae(8, 16, 16), diffusion.tokenizer(32)
    first = diffusion.latents_of(coder, drawn, words, tmp_path, palette=None)
    again = diffusion.latents_of(coder, drawn, words, tmp_path, palette=None)
    assert first.maps is None and torch.equal(first.images, again.images) and len(calls) == 1
    with torch.no_grad():
        coder.encoder.conv_in.weight += 0.1
    changed = diffusion.latents_of(coder, drawn, words, tmp_path, palette=None)
    assert len(calls) == 2 and not torch.equal(first.images, changed.images)


# the loop


class Stop(Exception):  # noqa: N818 - it stands for a kill
    pass


class Line(torch.nn.Module):
    """A fit with noise from torch's generator, as the objectives have it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {
            "loss": (self.layer(batch + 0.1 * torch.randn_like(batch)) - batch.sum(1, keepdim=True)).square().mean()
        }


def run_until(stop: int, out: Path, seen: list[torch.Tensor], schedule: Schedule) -> Line:
    """Train until batch number `stop` of this process is asked for."""
    model = Line()
    own = 0

    def batch_of(rng: np.random.Generator, size: int) -> torch.Tensor:
        nonlocal own
        own += 1
        if own > stop:
            raise Stop
        seen.append(torch.from_numpy(rng.standard_normal((size, 4), dtype=np.float32)))
        return seen[-1]

    with pytest.raises(Stop):
        train(model, batch_of, schedule, out)
    return model


def test_a_killed_training_goes_on_as_if_nothing_had_been(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # flat: the learning rate does not follow the clock; every step is stored
    schedule = Schedule(
        minutes=60, batch_size=3, learning_rate=0.01, warmup_steps=4, flat=0.99, checkpoint_s=-1.0, threads=1
    )
    undisturbed: list[torch.Tensor] = []
    run_until(9, tmp_path / "a", undisturbed, schedule)
    killed: list[torch.Tensor] = []
    run_until(4, tmp_path / "b", killed, schedule)
    run_until(5, tmp_path / "b", killed, schedule)
    assert "resumed at step 4" in capsys.readouterr().out
    assert torch.equal(torch.stack(killed), torch.stack(undisturbed))
    assert len({batch.numpy().tobytes() for batch in killed}) == 9
    one, other = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in "ab")
    assert one["step"] == other["step"] == 9
    for part in ("model", "average"):
        assert all(torch.equal(one[part][name], other[part][name]) for name in one[part])
    other_seed: list[torch.Tensor] = []
    run_until(1, tmp_path / "c", other_seed, Schedule(minutes=60, batch_size=3, learning_rate=0.01, seed=1, threads=1))
    assert not torch.equal(other_seed[0], undisturbed[0])


def test_a_spent_budget_ends_the_training_with_the_averaged_weights(tmp_path: Path) -> None:
    schedule = Schedule(minutes=0.01, batch_size=3, learning_rate=0.01, threads=1)
    batch_of = lambda rng, size: torch.ones(size, 4)  # noqa: E731
    model = Line()
    facts = train(model, batch_of, schedule, tmp_path)
    assert facts["steps"] > 0 and facts["samples"] == 3 * facts["steps"]
    stored = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert torch.equal(model.layer.weight, stored["average"]["layer.weight"])
    assert not torch.equal(model.layer.weight, stored["model"]["layer.weight"])
    assert train(Line(), batch_of, schedule, tmp_path)["steps"] == facts["steps"]  # nothing is left to do


def test_the_learning_rate_warms_up_stays_and_falls() -> None:
    schedule = Schedule(minutes=1, batch_size=1, learning_rate=1.0, warmup_steps=10, flat=0.5)
    assert schedule.rate_at(0, 0.0) == pytest.approx(0.1)
    assert schedule.rate_at(99, 0.5) == pytest.approx(1.0)
    falling = [schedule.rate_at(99, spent) for spent in np.linspace(0.5, 1, 20)]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == pytest.approx(0.02)


# the saved family


def test_the_saved_family_is_small_files_without_a_trace_of_the_machine(tmp_path: Path) -> None:
    random_vae(8, 16, 16).save_pretrained(tmp_path / "my-vae")
    coder = AutoencoderKL.from_pretrained(tmp_path / "my-vae")
    denoiser.save(random_flow(control_layers=1), coder, tmp_path / "family")
    write_trained_size(tmp_path / "trained")
    for path in [*(tmp_path / "family").rglob("*"), *(tmp_path / "trained").rglob("*")]:
        if path.is_file():
            assert path.stat().st_size <= 16 * 2**20, path
            assert path.suffix == ".safetensors" or str(tmp_path) not in path.read_text(encoding="utf-8"), path
    assert json.loads((tmp_path / "family" / "vae" / "config.json").read_text())["_class_name"] == "AutoencoderKL"


def test_the_saved_family_loads_in_float32_and_repeats_itself(tmp_path: Path) -> None:
    denoiser.save(random_flow(control_layers=1), random_vae(8, 16, 16), tmp_path)
    assert {tensor.dtype for tensor in denoiser.load_pipeline(tmp_path).transformer.state_dict().values()} == {
        torch.float32
    }

    def image(control: bool) -> np.ndarray:
        torch.manual_seed(0)
        extra = {"control_image": Image.new("RGB", (32, 32), (90, 10, 60))} if control else {}
        made = denoiser.load_pipeline(tmp_path, control)(
            CAPTIONS[0],
            height=32,
            width=32,
            num_inference_steps=2,
            max_sequence_length=0,
            output_type="np",
            generator=torch.Generator().manual_seed(4),
            **extra,
        )
        return made.images[0]

    for control in (False, True):
        first = image(control)
        assert first.shape == (32, 32, 3) and np.isfinite(first).all() and first.std() > 0.01
        np.testing.assert_array_equal(image(control), first)


def test_the_weights_of_a_saved_family_are_a_start(tmp_path: Path) -> None:
    saved = random_flow(control_layers=1)
    denoiser.save(saved, random_vae(8, 16, 16), tmp_path)
    flow = random_flow(control_layers=1)
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(1.0)
    denoiser.load_start(flow, tmp_path)
    for name, weight in flow.named_parameters():
        torch.testing.assert_close(weight, saved.get_parameter(name).float(), rtol=0, atol=0)


# the command


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WIDTH": 48, "LAYERS": 2, "HEADS": 2, "TEXT_WIDTH": 32}.items():
        monkeypatch.setattr(diffusion, name, value)
    monkeypatch.setattr(controlnet, "CONTROL_LAYERS", 1)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("model", ["denoiser", "controlnet"])
def test_the_command_trains_resumes_and_saves(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random_vae(8, 16, 16).save_pretrained(tmp_path / "vae")
    command = [
        model,
        "--vae",
        str(tmp_path / "vae"),
        "--out",
        str(tmp_path / "out"),
        "--cache",
        str(tmp_path / "cache"),
        "--scenes",
        "4",
        "--batch-size",
        "2",
        "--threads",
        "1",
    ]
    assert main([*command, "--minutes", "0.005"]) == 0
    assert main([*command, "--minutes", "0.01"]) == 0
    assert "resumed at step" in capsys.readouterr().out
    denoiser.load_pipeline(tmp_path / "out" / "model", control=model == "controlnet")
    assert (
        main(
            [*command, "--minutes", "0.005", "--out", str(tmp_path / "on"), "--start", str(tmp_path / "out" / "model")]
        )
        == 0
    )


def fails(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    try:
        code = main(argv)
    except SystemExit as end:  # argparse ends by itself
        code = end.code
    assert code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: python -m synthgen.minis.train")
    return captured.err.splitlines()[-1]


def test_help_names_the_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "{vae,denoiser,controlnet,sam,clip}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "error: which model?"),
        (["unet"], "error: no model 'unet'"),
        (["vae"], "the following arguments are required: --out, --cache"),
        (["denoiser", "--out", "o", "--cache", "c"], "the following arguments are required: --vae"),
        (["vae", "--out", "o", "--cache", "c", "--minutes", "0"], "argument --minutes: 0 is not above 0"),
        (["vae", "--out", "o", "--cache", "c", "--batch-size", "none"], "argument --batch-size: invalid"),
        (["vae", "--out", "o", "--cache", "c", "--stesp", "1"], "unrecognized arguments: --stesp 1"),
        (
            ["denoiser", "--out", "o", "--cache", "c", "--vae", "no/vae"],
            "--vae no/vae: no trained model there (it has no config.json)",
        ),
        (["controlnet", "--out", "o", "--cache", "c", "--vae", "no/vae"], "--vae no/vae: no trained model there"),
    ],
)
def test_a_wrong_command_ends_with_the_usage_and_one_line(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in fails(argv, capsys)


def test_a_start_that_is_no_family_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random_vae(8, 16, 16).save_pretrained(tmp_path)
    argv = ["denoiser", "--out", "o", "--cache", "c", "--vae", str(tmp_path), "--start", "gone"]
    assert "--start gone: no trained model there (it has no model_index.json)" in fails(argv, capsys)


def test_python_dash_m_gives_the_exit_code(process: Callable[..., Any]) -> None:
    done = process("-m", "synthgen.minis.train", "unet")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "error: no model 'unet'"
    assert process("-m", "synthgen.minis.train", "--help").returncode == 0
