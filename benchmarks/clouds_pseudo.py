"""Pseudo-labels before and after SAM: rows clouds/pseudo/*; what a joint step costs: rows clouds/cost/*.

The layout behind each generated picture is known and never learnt from, so what the paper cannot show can be measured
here: mIoU of the teacher's answer and of the target that comes of it, and the share of pixels that has a label, over
the first and the last tenth of the joint steps of the training `sam_online` of benchmarks/clouds.py. Spread is over
seeds. Costs are those of one thread: seconds of a joint step and of a source step, in turn, and the shares of the
teacher, of the components and points, and of SAM in the former; spread is over rounds of 20 steps.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import clouds_data as data
from benchmarks.clouds import PARTS, WHAT, WHEN, WHO, Plan, drawn_words, tuned
from benchmarks.peak import peak_of
from benchmarks.row import Row, spread_of
from benchmarks.trainings import remembered
from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION
from segkit.networks.sam import SamDecoder
from segtrain.config import checked
from segtrain.data.joint import JointBatch, Views
from segtrain.loop import Training, reports, run
from segtrain.methods.clouds import sam_labels
from segtrain.methods.clouds.config import Config
from segtrain.methods.clouds.method import Clouds
from segtrain.options import SPELLINGS
from segtrain.self_training.method import opened
from segtrain.self_training.pseudo_labels import PseudoLabels
from segtrain.self_training.teacher import Teacher

WAY = "sam_online"  # of DRAWN, whose joint steps are watched


def pseudo() -> Iterator[Row]:
    """clouds/pseudo/*."""
    yield from pseudo_rows(Plan())


def cost() -> Iterator[Row]:
    """clouds/cost/*."""
    yield from cost_rows(Plan())


def pseudo_rows(plan: Plan) -> Iterator[Row]:
    """Choose the rate, measure what is missing, then put it together."""
    plan = tuned(plan)
    yield Row("clouds/pseudo/rate", plan.learning_rate, "1")
    found = [_of_seed(plan, seed) for seed in plan.seeds]
    values = {key: np.array([of_seed[key] for of_seed in found]) for key in found[0]}
    for key, by_seed in values.items():
        yield Row(f"clouds/pseudo/{key}", float(by_seed.mean()), "fraction", spread_of(by_seed), len(by_seed))
    for when in WHEN:
        gain = values[f"target_miou_{when}"] - values[f"teacher_miou_{when}"]
        yield Row(f"clouds/pseudo/gain_sam_miou_{when}", float(gain.mean()), "fraction", spread_of(gain), len(gain))


def config_of(plan: Plan, way: str, seed: int, out: Path) -> Config:
    """The settings that `segtrain` would make of a way's words."""
    run_folder = data.generated_run(plan, plan.generated, plan.generated)
    words = list(drawn_words(plan, way, run_folder / "dataset", None, seed))[1:]
    names = {spelling: name for name, spelling in SPELLINGS.items()}
    values: dict[str, Any] = {"out": out}
    while words:
        flag = words.pop(0).removeprefix("--").replace("-", "_")
        if not words or words[0].startswith("--"):
            values[flag.removeprefix("no_")] = not flag.startswith("no_")
        else:
            value = words.pop(0)
            values[names.get(flag, flag)] = [value] if flag in ("data", "unlabelled") else value
    return checked(Config, values)


class Watched(Clouds):
    """Counts, of each joint step, how the teacher's answer and the target agree with the layout behind the picture."""

    def watch(self, layouts: dict[str, np.ndarray], steps: int) -> None:
        """`layouts` by key; `steps` = how many joint steps there will be."""
        self.layouts, self.joint_steps, self.done = layouts, steps, 0
        classes = len(self._opened.space.labels)
        self.counts = {(who, when): np.zeros((classes, classes + 1), np.int64) for who in WHO for when in WHEN}

    def targets(self, batch: JointBatch, views: Views, step: int) -> PseudoLabels:
        self._batch = batch
        return super().targets(batch, views, step)

    def _seen(self, views: Views, teacher: torch.Tensor, labels: PseudoLabels, step: int, more: Any) -> PseudoLabels:
        made = super()._seen(views, teacher, labels, step, more)
        tenth = max(1, self.joint_steps // 10)
        when = "start" if self.done < tenth else "end" if self.done >= self.joint_steps - tenth else ""
        self.done += 1
        if when:
            truth = torch.stack([self._truth(draft) for draft in self._batch.drafts]).long()
            for who, channels in (("teacher", teacher), ("target", made.channels)):
                self.counts[who, when] += confusion(truth, channels.cpu(), len(self._opened.space.labels))
        return made

    def _truth(self, draft: Any) -> torch.Tensor:
        source = self._opened.sources[draft.source]
        layout = self._opened.space.to_channels(self.layouts[source.name(draft.row)], "layout")
        return self._data_of_views.geometry(draft, layout.shape).map(layout, IGNORE)


def confusion(truth: torch.Tensor, said: torch.Tensor, classes: int) -> np.ndarray:
    """(C, C + 1) counts of the pixels that have a truth: true channel, channel said; the last one is "none"."""
    known = truth < OUT_OF_DISTRIBUTION
    said = said.long().clamp(max=classes)
    return (
        (truth[known] * (classes + 1) + said[known])
        .bincount(minlength=classes * (classes + 1))
        .reshape(classes, classes + 1)
        .numpy()
    )


def scores_of(counts: np.ndarray) -> dict[str, float]:
    """mIoU over the pixels that have a label, of the classes that occur there (0 if none does), and
    the share of those pixels."""
    labelled = counts[:, :-1]
    union = labelled.sum(axis=0) + labelled.sum(axis=1) - np.diag(labelled)
    present = union > 0
    return {
        "miou": float((np.diag(labelled)[present] / union[present]).mean()) if present.any() else 0.0,
        "coverage": float(labelled.sum() / counts.sum()),
    }


def _of_seed(plan: Plan, seed: int) -> dict[str, float]:
    out = plan.place / "models" / f"pseudo-seed{seed}"
    run_folder = data.generated_run(plan, plan.generated, plan.generated)

    def measure() -> dict[str, float]:
        shutil.rmtree(out, ignore_errors=True)  # the counts are in no checkpoint
        config = config_of(plan, WAY, seed, out)
        made = opened(config)
        method = Watched(made, config)
        method.watch(data.hidden_layouts(run_folder), config.steps - config.first_joint_step)
        run(Training(config, reports(made.sources, made.data.planned_counts), made.space, method.build), method)
        shutil.rmtree(out)
        return {
            f"{who}_{what}_{when}": scores_of(method.counts[who, when])[what]
            for who in WHO
            for what in WHAT
            for when in WHEN
        }

    words = drawn_words(plan, WAY, run_folder / "dataset", None, seed)
    return remembered(f"pseudo-seed{seed}", words, plan.place, measure)


def cost_rows(plan: Plan, rounds: int = 3, steps: int = 20) -> Iterator[Row]:
    """Steps of a student that learns, of both kinds in turn; memory of whole trainings of as many steps."""
    torch.set_num_threads(1)
    config = config_of(plan, WAY, 0, plan.place / "models" / "cost")
    made = opened(config)
    method = Clouds(made, config)
    segmenter = method.build(torch.device("cpu"))
    segmenter.network.train()
    batches = {
        "source": [made.data.batch(step) for step in range(steps)],
        "joint": [made.data.batch(config.first_joint_step + step) for step in range(steps)],
    }
    spent: dict[str, list[float]] = {name: [] for name in ("source", "joint", *PARTS)}
    for _ in range(rounds):
        for kind, of_kind in batches.items():
            with Timed() as parts:
                began = time.perf_counter()
                for number, batch in enumerate(of_kind):
                    segmenter.network.zero_grad()
                    method.loss(segmenter, batch, config.first_joint_step + number)["loss"].backward()
                spent[kind].append((time.perf_counter() - began) / steps)
            if kind == "joint":
                for part in PARTS:
                    spent[part].append(parts[part] / steps)
    for kind in batches:
        yield Row(f"clouds/cost/{kind}_step_s", float(np.mean(spent[kind])), "s", spread_of(spent[kind]), rounds)
    ratio = np.array(spent["joint"]) / np.array(spent["source"])
    yield Row("clouds/cost/joint_ratio", float(ratio.mean()), "ratio", spread_of(ratio), rounds)
    for part in PARTS:
        shares = np.array(spent[part]) / np.array(spent["joint"])
        yield Row(f"clouds/cost/share_{part}", float(shares.mean()), "fraction", spread_of(shares), rounds)
    yield from _memory(plan, steps)


def _memory(plan: Plan, steps: int) -> Iterator[Row]:
    import sys
    import tempfile

    run_folder = data.generated_run(plan, plan.generated, plan.generated)
    for kind, way in (("source", "source_jitter"), ("joint", "sam_online")):
        with tempfile.TemporaryDirectory() as place:
            words = [
                *drawn_words(plan, way, run_folder / "dataset", None, 0),
                "--steps",
                str(2 * steps),
                "--out",
                f"{place}/model",
            ]
            yield Row(f"clouds/cost/{kind}_rss_gb", peak_of([sys.executable, "-m", "segtrain", *words]), "GB")


class Timed:
    """While it lasts, the seconds of the teacher, of components and points, and of SAM, by name."""

    def __enter__(self) -> dict[str, float]:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.places: list[tuple[Any, str, Callable[..., Any]]] = []
        for part, owner, name in (
            ("teacher", Teacher, "logits"),
            ("components", sam_labels, "large_components"),
            ("components", sam_labels, "prompts_of"),
            ("sam", SamDecoder, "decode"),
        ):
            self.places.append((owner, name, getattr(owner, name)))
            setattr(owner, name, self._counted(part, getattr(owner, name)))
        return self.seconds

    def __exit__(self, *error: object) -> None:
        for owner, name, function in self.places:
            setattr(owner, name, function)

    def _counted(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **named)
            finally:
                self.seconds[part] += time.perf_counter() - began

        return counted
