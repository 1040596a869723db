"""Speed of the render path, and what the step cache costs: rows engine/*. Side by side, in one process, turn by turn.

`plain` is the loop that a user would write with diffusers alone: the pipeline with a batch of prompts, seeded images,
saved as PNG. `ours` is the stage `render` with the prompts' encoding added, as a run does both. `compile` and `cache`
are ours with `execution.compile`, and with the step cache at RECOMMENDED. On a CPU the time is the processor's (one
thread, all of the process), so that other work on the machine counts for nothing; the model's compilation and its first
batch are not counted.
"""

from __future__ import annotations

import dataclasses
import gc
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.row import Row, spread_of

RECOMMENDED = {"threshold": 0.1, "first_steps": 3, "last_steps": 1}
THRESHOLDS = (0.05, 0.1, 0.2, 0.3)
FEWER_STEPS = (14, 10)  # what a user would do instead of caching
STEPS = 20
BATCH = 8
VARIANTS = ("plain", "ours", "compile", "cache")
DOCUMENT = Path(__file__).parents[1] / "docs" / "STEP_CACHE.md"
BEGIN, END = "<!-- written by `python -m benchmarks.run engine/cache_psnr_db` -->\n", "<!-- end of table -->"


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """What is rendered of one mini world."""

    name: str
    controlnet: str
    guidance: float
    size_px: tuple[int, int]  # (H, W)
    captions: list[str]
    layouts: np.ndarray | None  # (N, H, W) uint8

    @property
    def options(self) -> dict[str, Any]:
        return {
            "name": "sd3",
            "model": f"mini/{self.name}",
            "controlnet": self.controlnet,
            "steps": STEPS,
            "guidance": self.guidance,
        }


def world(name: str, count: int) -> World:
    """Captions, and layouts for streets, of scenes that no training has seen; guidance as in the rows minis/*."""
    from synthgen.drawn import objects, streets

    if name == "objects":
        drawn = [objects.draw(seed, class_name=objects.CLASSES[seed % len(objects.CLASSES)]) for seed in range(count)]
        return World(name, "", 3.0, (64, 64), [scene.caption for scene in drawn], None)
    scenes = [streets.draw(seed) for seed in range(count)]
    return World(
        name,
        "mini/streets-day",
        2.0,
        (64, 96),
        [scene.caption for scene in scenes],
        np.stack([scene.mask for scene in scenes]),
    )


def overhead() -> Iterator[Row]:
    """Share of the time between the first and the last denoiser step of a unit that is neither denoiser, ControlNet nor
    VAE; wall clock.
    """
    shares = []
    with tempfile.TemporaryDirectory() as place:
        path = Path(place)
        chosen = world("objects", 2 * BATCH)
        rows = _bank(chosen, path, range(2 * BATCH))
        stage = _stage(chosen, path, {})
        _unit(stage, path, rows[:1])
        with _watched(stage._renderer._pipeline) as spans:
            for _ in range(3):
                spans.clear()
                _unit(stage, path, rows)
                steps = [span for span in spans if span[0] == "transformer"]
                first, last = steps[0][1], steps[-1][2]
                inside = sum(max(0.0, min(end, last) - max(begin, first)) for _, begin, end in spans)
                shares.append(1 - inside / (last - first))
    yield Row("engine/overhead_cpu", float(np.median(shares)), "fraction", spread_of(shares), len(shares))


def throughput() -> Iterator[Row]:
    """Images a second of the minis by the plain loop and by ours, text only and with a ControlNet."""
    yield from _throughput("objects", "", 24)
    yield from _throughput("streets", "_controlnet", 16)


def _throughput(name: str, suffix: str, count: int) -> Iterator[Row]:
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    chosen = world(name, count)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place)
        loops: dict[str, Callable[[range], None]] = {
            "plain": _plain(chosen, path),
            "ours": _ours(chosen, path, {}),
            "compile": _ours(chosen, path, {}, compile=True),
            "cache": _ours(chosen, path, RECOMMENDED),
        }
        spent: dict[str, list[float]] = {variant: [] for variant in loops}
        for loop in loops.values():
            loop(range(1))
        for start in range(0, count, BATCH):
            for variant, loop in loops.items():
                began = time.process_time()
                loop(range(start, start + BATCH))
                spent[variant].append((time.process_time() - began) / BATCH)
    for variant, seconds in spent.items():
        rates = 1 / np.array(seconds)
        yield Row(
            f"engine/{variant}{suffix}_images_s_cpu",
            count / (BATCH * sum(seconds)),
            "images/s of a core",
            spread_of(rates),
            len(rates),
        )


def quality() -> Iterator[Row]:
    """PSNR and agreement of a judge's labels between cached and uncached images at RECOMMENDED;

    writes the table of docs/STEP_CACHE.md.
    """
    from benchmarks import judges
    from synthgen.drawn import objects

    classes, masks = judges.classifier("objects", "class", objects.CLASSES), judges.segmenter()
    text, lines = _compared("objects", 24, classes)
    control, more = _compared("streets", 16, masks)
    _write_table([*lines, *more])
    for suffix, found in (("", control), ("_text", text)):
        yield Row(
            f"engine/cache{suffix}_psnr_db",
            float(found.psnr_db.mean()),
            "dB",
            spread_of(found.psnr_db),
            len(found.psnr_db),
        )
        yield Row(
            f"engine/cache{suffix}_agreement",
            float(found.agreement.mean()),
            "fraction",
            spread_of(found.agreement),
            len(found.agreement),
        )
        yield Row(f"engine/cache{suffix}_runs", found.runs, "of the denoiser's runs", n=len(found.psnr_db))


@dataclasses.dataclass(frozen=True, slots=True)
class Compared:
    """Images of one setting against those of the whole 20 steps."""

    runs: float  # of the denoiser, as a share
    seconds: float  # of processor time, as a share
    psnr_db: np.ndarray  # (N,)
    agreement: np.ndarray  # (N,) share of pixels, or 1 or 0, that a judge labels alike


def _compared(name: str, count: int, judge: Any) -> tuple[Compared, list[str]]:
    from benchmarks import judges

    chosen = world(name, count)
    settings: dict[str, dict[str, Any]] = {f"{STEPS} steps, off": {}}
    settings |= {f"{steps} steps, off": {"steps": steps} for steps in FEWER_STEPS}
    settings |= {
        f"{STEPS} steps, threshold {value:g}": {"step_cache": RECOMMENDED | {"threshold": value}}
        for value in THRESHOLDS
    }
    renderers = {key: _renderer(chosen.options | changes) for key, changes in settings.items()}
    made: dict[str, list[np.ndarray]] = {key: [] for key in settings}
    runs, seconds = dict.fromkeys(settings, 0), dict.fromkeys(settings, 0.0)
    jobs = _jobs(chosen, range(count))
    for start, (key, renderer) in itertools.product(range(0, count, BATCH), renderers.items()):
        began = time.process_time()
        rendered = renderer.render(jobs[start : start + BATCH])
        seconds[key] += time.process_time() - began
        made[key] += [result.image for result in rendered]
        runs[key] += sum(result.denoiser_runs for result in rendered)
    whole = next(iter(settings))
    exact = np.stack(made[whole])
    labels = judges.predict(judge, exact)
    found: dict[str, Compared] = {}
    for key in settings:
        images = np.stack(made[key])
        error = np.maximum(((images.astype(np.float64) - exact) ** 2).mean((1, 2, 3)), 1e-3)
        same = (judges.predict(judge, images) == labels).reshape(count, -1).mean(1)
        found[key] = Compared(
            runs[key] / runs[whole], seconds[key] / seconds[whole], 10 * np.log10(255**2 / error), same
        )
    what = f"{name}, {'ControlNet' if chosen.controlnet else 'text only'}"
    lines = [
        f"| {what} | {key} | {one.runs:.2f} | {one.seconds:.2f} | {one.psnr_db.mean():.1f} | "
        f"{one.psnr_db.min():.1f} | {one.agreement.mean():.4f} |"
        for key, one in found.items()
        if key != whole
    ]
    return found[f"{STEPS} steps, threshold {RECOMMENDED['threshold']:g}"], lines


def _write_table(lines: Sequence[str]) -> None:
    head = [
        "| images | setting | denoiser runs | time | PSNR, mean dB | PSNR, worst dB | labels alike |",
        "|---|---|---|---|---|---|---|",
    ]
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    DOCUMENT.write_text(
        before + BEGIN + "\n".join(["", *head, *lines, "", ""]) + END + rest.partition(END)[2], encoding="utf-8"
    )


# the loops


def _plain(chosen: World, place: Path) -> Callable[[range], None]:
    import torch
    from diffusers import SD3ControlNetModel, StableDiffusion3ControlNetPipeline, StableDiffusion3Pipeline
    from PIL import Image

    from synthgen.labels import read_label_space
    from synthgen.models.weights import resolve

    place_of = resolve(f"mini/{chosen.name}")
    pipeline = StableDiffusion3Pipeline.from_pretrained(
        place_of, text_encoder_3=None, tokenizer_3=None, dtype=torch.float32
    )
    if chosen.controlnet:
        pipeline = StableDiffusion3ControlNetPipeline(
            controlnet=SD3ControlNetModel.from_pretrained(resolve(chosen.controlnet), dtype=torch.float32),
            **pipeline.components,
        )
    pipeline.set_progress_bar_config(disable=True)
    colours = read_label_space("cityscapes").colour_table()

    def loop(numbers: range) -> None:
        extra = (
            {}
            if chosen.layouts is None
            else {"control_image": [Image.fromarray(colours[chosen.layouts[n]]) for n in numbers]}
        )
        images = pipeline(
            prompt=[chosen.captions[n] for n in numbers],
            negative_prompt=[""] * len(numbers),
            height=chosen.size_px[0],
            width=chosen.size_px[1],
            num_inference_steps=STEPS,
            guidance_scale=chosen.guidance,
            generator=[torch.Generator().manual_seed(n) for n in numbers],
            max_sequence_length=0,
            **extra,
        ).images
        for n, image in zip(numbers, images, strict=True):
            image.save(place / f"plain-{n}.png")

    return loop


def _ours(chosen: World, place: Path, cache: dict[str, Any], **execution: Any) -> Callable[[range], None]:
    stage = _stage(chosen, place, cache, **execution)
    encoder = _encoder(chosen)
    return lambda numbers: _unit(stage, place, _bank(chosen, place, numbers, encoder))


def _renderer(options: dict[str, Any], **execution: Any) -> Any:
    from synthgen.backends import load
    from synthgen.settings import Execution

    return load("renderer", options, Execution(device="cpu", **execution))


def _encoder(chosen: World) -> Any:
    from synthgen.backends import load
    from synthgen.settings import Execution

    return load("text_encoder", {"name": "sd3", "model": f"mini/{chosen.name}"}, Execution(device="cpu"))


def _jobs(chosen: World, numbers: range) -> list[Any]:
    from synthgen.models import RenderJob

    encoder = _encoder(chosen)
    texts = {text: encoder.encode([text])[0] for text in ("", *(chosen.captions[n] for n in numbers))}
    return [
        RenderJob(
            str(n),
            chosen.captions[n],
            "",
            n,
            *chosen.size_px,
            texts[chosen.captions[n]],
            texts[""],
            None,
            None if chosen.layouts is None else chosen.layouts[n],
        )
        for n in numbers
    ]


def _stage(chosen: World, place: Path, cache: dict[str, Any], **execution: Any) -> Any:
    from synthgen.recipe import Recipe
    from synthgen.render.stage import build

    options = chosen.options | ({"step_cache": cache} if cache else {})
    raw = {
        "name": "bench",
        "labels": {"space": "objects"},
        "prompts": {"embedder": {"name": "sd3", "model": f"mini/{chosen.name}"}},
        "render": {"renderer": options, "height_px": chosen.size_px[0], "width_px": chosen.size_px[1]},
        "execution": {"device": "cpu", "batch_size": BATCH, **execution},
    }
    return build(Recipe.model_validate(raw), place)


def _bank(chosen: World, place: Path, numbers: range, encoder: Any = None) -> list[Any]:
    """Prompt rows whose embeddings lie in a file, as the stage `prompts` leaves them."""
    from synthgen.images import write_image
    from synthgen.prompts.store import EmbeddingWriter
    from synthgen.records import PromptRecord, Subject

    encoder = encoder or _encoder(chosen)
    rows = []
    with EmbeddingWriter(place, len(numbers), lambda: encoder.encode([""])[0]) as bank:
        for n in numbers:
            key, layout = f"p{n}", ""
            stored = bank.add(key, encoder.encode([chosen.captions[n]])[0])
            if chosen.layouts is not None:
                layout = str(place / f"{key}.png")
                write_image(chosen.layouts[n], Path(layout))
            rows.append(
                PromptRecord(
                    key,
                    "",
                    Subject("", 255, chosen.captions[n], ()),
                    "",
                    n,
                    -1.0,
                    "",
                    "",
                    stored,
                    "",
                    layout,
                    "",
                )
            )
    return rows


def _unit(stage: Any, place: Path, rows: Sequence[Any]) -> None:
    list(stage.process(rows, place, "u"))


class _watched:  # noqa: N801
    """Notes (part, begin, end) of every call of the models for a while."""

    def __init__(self, pipeline: Any) -> None:
        self._calls = [
            (pipeline.transformer, "forward", "transformer"),
            (pipeline.vae, "decode", "vae"),
            (pipeline.vae, "encode", "vae"),
        ]
        if getattr(pipeline, "controlnet", None) is not None:
            self._calls.append((pipeline.controlnet, "forward", "controlnet"))

    def __enter__(self) -> list[tuple[str, float, float]]:
        spans: list[tuple[str, float, float]] = []

        def noted(part: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **inputs: Any) -> Any:
                began = time.perf_counter()
                out = real(*args, **inputs)
                spans.append((part, began, time.perf_counter()))
                return out

            return call

        self._before = [(model, name, getattr(model, name)) for model, name, _ in self._calls]
        for model, name, part in self._calls:
            setattr(model, name, noted(part, getattr(model, name)))
        return spans

    def __exit__(self, *error: object) -> None:
        for model, name, before in self._before:
            setattr(model, name, before)


# full size


def gpu_names() -> tuple[str, ...]:
    """The rows of `gpu`."""
    return tuple(
        f"engine/{v}{s}_{what}_gpu" for s in ("", "_controlnet") for v in VARIANTS for what in ("images_s", "gb")
    ) + tuple(f"engine/cache{s}_runs_gpu" for s in ("", "_controlnet"))


def gpu() -> Iterator[Row]:
    """SD3.5-Large's shapes with random weights at 1024 px, 28 steps, guidance, without and with a ControlNet of
    Stability's kind.

    Weights are random, so how much the cache skips is not what it would skip of the trained model; `cache_runs` says
    how much it was.
    """
    import torch

    from benchmarks import wiring

    if not torch.cuda.is_available():
        for name in gpu_names():
            yield Row(
                name,
                "not run: no GPU",
                "GB" if "_gb_" in name else "of the denoiser's runs" if "runs" in name else "images/s",
            )
        return
    with tempfile.TemporaryDirectory() as place:
        wiring.save_random(Path(place))
        wiring.save_random_controlnet(Path(place) / "controlnet")
        yield from full_size(Path(place), "cuda", wiring.SIZE_PX, wiring.STEPS, 3, torch.cuda.get_device_name())


def full_size(place: Path, device: str, size_px: int, steps: int, count: int, name: str) -> Iterator[Row]:
    """The rows of `gpu` for a model folder with `controlnet/`; `count` images each after one that is not counted."""
    import torch

    from synthgen.backends import load
    from synthgen.models import RenderJob, TextEmbedding
    from synthgen.models.devices import give_memory_back
    from synthgen.settings import Execution

    options = {"name": "sd3", "model": str(place), "steps": steps, "guidance": 4.5}
    config = load("renderer", options, Execution(device="cpu"))._pipeline.transformer.config
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(333, config.joint_attention_dim)).astype(np.float32)
    text = TextEmbedding(tokens, rng.normal(size=config.pooled_projection_dim).astype(np.float32))
    gc.collect()
    for suffix, control in (("", False), ("_controlnet", True)):
        layout = rng.integers(0, 19, (size_px, size_px), dtype=np.uint8) if control else None
        for variant in VARIANTS:
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            changes: dict[str, Any] = (
                {"controlnet": str(place / "controlnet"), "control_palette": "cityscapes"} if control else {}
            )
            if variant == "cache":
                changes["step_cache"] = RECOMMENDED
            loop: Any = None
            if variant == "plain":
                loop = _plain_full(place, device, size_px, steps, text, layout)
            else:
                renderer = load("renderer", options | changes, Execution(device=device, compile=variant == "compile"))

                def loop(seed: int, renderer: Any = renderer, layout: Any = layout) -> Any:
                    return renderer.render([RenderJob("s", "", "", seed, size_px, size_px, text, text, None, layout)])

            seconds = []
            for number in range(count + 1):
                began = time.perf_counter()
                made = loop(number)
                seconds.append(time.perf_counter() - began)
            rates = 1 / np.array(seconds[1:])
            yield Row(
                f"engine/{variant}{suffix}_images_s_gpu",
                count / sum(seconds[1:]),
                "images/s",
                spread_of(rates),
                count,
                name,
            )
            peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else "not measured: no GPU"
            yield Row(f"engine/{variant}{suffix}_gb_gpu", peak, "GB", device=name)
            if variant == "cache":
                yield Row(
                    f"engine/cache{suffix}_runs_gpu",
                    made[0].denoiser_runs / (2 * steps),
                    "of the denoiser's runs",
                    device=name,
                )
            loop = renderer = None
            give_memory_back()


def _plain_full(
    place: Path, device: str, size_px: int, steps: int, text: Any, layout: np.ndarray | None
) -> Callable[[int], None]:
    import torch
    from diffusers import SD3ControlNetModel, StableDiffusion3ControlNetPipeline, StableDiffusion3Pipeline
    from PIL import Image

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    none = {f"{part}{number}": None for part in ("text_encoder", "tokenizer") for number in ("", "_2", "_3")}
    pipeline = StableDiffusion3Pipeline.from_pretrained(place, dtype=dtype, **none)
    if layout is not None:
        net = SD3ControlNetModel.from_pretrained(place / "controlnet", dtype=dtype)
        pipeline = StableDiffusion3ControlNetPipeline(controlnet=net, **pipeline.components)
    pipeline.to(device)
    pipeline.set_progress_bar_config(disable=True)
    tokens, pooled = (torch.from_numpy(values)[None].to(device, dtype) for values in (text.tokens, text.pooled))
    extra = {} if layout is None else {"control_image": Image.fromarray(np.stack([layout * 13] * 3, -1))}

    def loop(seed: int) -> None:
        pipeline(
            prompt_embeds=tokens,
            pooled_prompt_embeds=pooled,
            negative_prompt_embeds=tokens,
            negative_pooled_prompt_embeds=pooled,
            height=size_px,
            width=size_px,
            num_inference_steps=steps,
            guidance_scale=4.5,
            generator=torch.Generator().manual_seed(seed),
            **extra,
        )

    return loop
