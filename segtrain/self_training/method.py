"""One training on labelled pictures and on the teacher's labels of unlabelled ones. A method brings what it makes of
those labels, and its presets."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION, LabelSpace
from segkit.printable import listed
from segtrain.data.batches import Batch
from segtrain.data.joint import JointBatch, JointBatches, Views, ViewSettings, share_by_repeat
from segtrain.data.mixture import open_sources
from segtrain.data.rare_classes import rare_classes
from segtrain.data.source import Source
from segtrain.data.unlabelled import open_unlabelled, open_with_masks
from segtrain.errors import ConfigError, DataError
from segtrain.evaluate import open_validation
from segtrain.loop import Training, reports, run
from segtrain.losses import cross_entropy
from segtrain.method import StandardMethod, has_own_loss, segmentation_loss
from segtrain.optimiser import Group
from segtrain.segmenter import Segmenter, build_segmenter, load_model
from segtrain.self_training.config import SelfTrainingConfig
from segtrain.self_training.coverage import Coverage
from segtrain.self_training.pictures import painted, photographs, side_by_side
from segtrain.self_training.pseudo_labels import (
    PseudoLabels,
    moved,
    of_students_view,
    pseudo_labels,
    weighted_cross_entropy,
)
from segtrain.self_training.teacher import Teacher

_log = logging.getLogger(__name__)
_ENCODER = Group(("encoder.*",), frozen=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """What a training reads, opened and checked."""

    labelled: Sequence[Source]
    unlabelled: Sequence[Source]
    space: LabelSpace
    data: JointBatches
    build: Callable[[torch.device], Segmenter]
    claims: Mapping[str, Any]

    @property
    def sources(self) -> list[Source]:
        return [*self.labelled, *self.unlabelled]


def opened(config: SelfTrainingConfig, masks: bool = False) -> Opened:
    """`masks` = what masks of the unlabelled pictures say is in the batches.

    Raises SegtrainError, in one line, at data or a base model that will not do.
    """
    labelled, space = open_sources(config)
    claims: dict[str, Any] = {}

    def build(device: torch.device) -> Segmenter:
        return build_segmenter(config, space, device)

    if config.base is not None:
        base = load_model(config.base, "cpu")
        space = base.label_space
        for source in labelled:
            source.label_space.require_within(space, str(source.path))
        claims["base_model"] = hashlib.sha256((config.base / "model.safetensors").read_bytes()).hexdigest()

        def build(device: torch.device) -> Segmenter:
            return Segmenter(base.network, base.spec, space, device, base.novel, base.statistics)

    if len(space.labels) < 2:
        raise DataError(
            f"label space {space.name!r}: has the one class {space.labels[0].name!r}: a teacher has nothing to choose "
            "from, give labels of two classes at least"
        )
    unlabelled = [
        (open_with_masks if masks else open_unlabelled)(path, space, config.crop_px) for path in config.unlabelled
    ]
    share = config.unlabelled_share
    if config.unlabelled_repeat is not None:
        share = share_by_repeat(labelled, unlabelled, config.unlabelled_repeat)
    _report_sizes(labelled[0], unlabelled)
    data = JointBatches(
        labelled,
        unlabelled,
        space,
        config,
        ViewSettings(config.student_view, config.cut_mix, config.class_mix),
        unlabelled_share=share,
        first_joint_step=config.first_joint_step,
        masks=masks,
        rare=rare_classes(labelled, space, config),
    )
    claims["sources"] = [source.identity for source in (*labelled, *unlabelled)]
    return Opened(labelled, unlabelled, space, data, build, claims)


def _report_memory(config: SelfTrainingConfig) -> None:
    """A line if the teacher is a mean over much of the training: it then labels worse than the student that it
    teaches. DACS' remembers a fortieth of it, 1,000 of 40,000 steps."""
    joint = config.steps - config.first_joint_step
    steps = config.teacher_every / (1 - config.teacher_decay)
    if config.teacher_ramp and steps > joint / 5:
        fit = max(0.9, 1 - 40 * config.teacher_every / joint)
        _log.warning(
            "the teacher is a mean over about the last %d steps, of %d that learn from unlabelled pictures, so it "
            "labels worse than its student: try --teacher-decay %.3g",
            *(min(steps, joint), joint, fit),
        )


def _report_sizes(labelled: Source, unlabelled: Sequence[Source]) -> None:
    """A line if the first pictures are of other sizes: crops of one side then show other shares of a scene."""
    ours = labelled.read(0).image.shape[:2]
    for source in unlabelled:
        theirs = source.read(0).image.shape[:2]
        if theirs != ours:
            _log.warning(
                "%s: pictures of %d x %d px, the labelled ones of %s have %d x %d: a crop shows another share of a "
                "scene; resize one of them if things are of another size in it",
                *(source.path, theirs[1], theirs[0], labelled.path, ours[1], ours[0]),
            )


class SelfTraining(StandardMethod):
    """L = (B L_labelled + w U L_unlabelled) / (B + U): mean cross-entropy of B labelled crops, and that of U unlabelled
    ones under the teacher's labels. `targets` and `unlabelled_loss` are for methods to change."""

    def __init__(self, opened: Opened, config: SelfTrainingConfig) -> None:
        super().__init__(opened.data, config)
        self._opened, self._settings = opened, config
        self._student: Segmenter | None = None
        self._teacher: Teacher | None = None
        self._coverage = Coverage(opened.space)
        self._sheet: np.ndarray | None = None
        self.facts: dict[str, Any] = {}
        """For the model's config.json; filled with the last step."""

    def build(self, device: torch.device) -> Segmenter:
        """The student; the teacher follows in the first joint step, a copy of what the student is by then."""
        self._student = self._opened.build(device)
        return self._student

    @property
    def teacher(self) -> Teacher:
        """Made at the first call; to be called after the optimiser has marked what is frozen."""
        assert self._student is not None, "build comes first"
        if self._teacher is None:
            self._teacher = Teacher(self._student, self._settings)
        return self._teacher

    def groups(self, network: nn.Module, step: int) -> Sequence[Group]:
        groups = super().groups(network, step)
        if not self._settings.freeze_encoder or _ENCODER in groups:
            return groups
        return _ENCODER, *groups

    def loss(self, segmenter: Segmenter, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        assert isinstance(batch, JointBatch)
        targets = batch.targets.to(segmenter.device)
        if batch.views is None:
            loss = segmentation_loss(segmenter, batch.images, targets)
            return {"loss": loss, "labelled": loss.detach()}
        views = moved(batch.views, segmenter.device)
        plain = self.targets(batch, views, step)
        labels = of_students_view(plain, views)
        number, others = len(targets), len(views.student)
        if has_own_loss(segmenter.network):
            learnt = labels.channels.masked_fill(labels.weights == 0, IGNORE)
            labelled = segmentation_loss(segmenter, batch.images, targets) if number else learnt.new_zeros(()).float()
            unlabelled = segmentation_loss(segmenter, views.student, learnt) * _mean_weight(labels)
        else:
            logits = segmenter.logits(torch.cat([batch.images.to(segmenter.device), views.student]))
            labelled = cross_entropy(logits[:number], targets)
            unlabelled = self.unlabelled_loss(logits[number:], labels)
        weight = self._settings.unlabelled_weight
        within = views.inside.sum().clamp(min=1)
        return {
            "loss": (number * labelled + weight * others * unlabelled) / (number + others),
            "labelled": labelled.detach(),
            "unlabelled": unlabelled.detach(),
            "coverage": (plain.channels < OUT_OF_DISTRIBUTION).sum() / within,
            "weight": (plain.weights * views.inside).sum() / within,
        }

    def targets(self, batch: JointBatch, views: Views, step: int) -> PseudoLabels:
        """The labels of the unlabelled crops, before anything was pasted into them."""
        teacher = pseudo_labels(self.answers(views), views.inside, self._settings)
        labels = self.heard(teacher, views)
        self._coverage.see(teacher.channels, labels.channels, labels.weights)
        if self.is_pictured(step):
            self.picture(views, {"teacher": painted(teacher.channels, self._opened.space)}, labels)
        return labels

    def heard(self, teacher: PseudoLabels, views: Views) -> PseudoLabels:
        """What of the teacher's labels is learnt: all of it."""
        return teacher

    def answers(self, views: Views) -> torch.Tensor:
        """The teacher's logits (U, C, H, W) of the plain views."""
        assert self._student is not None
        return self.teacher.logits(views.teacher, self._student.bfloat16)

    def unlabelled_loss(self, logits: torch.Tensor, labels: PseudoLabels) -> torch.Tensor:
        """Of the student's logits (U, C, H, W) of its own views."""
        return weighted_cross_entropy(logits, labels)

    def after_step(self, segmenter: Segmenter, batch: Batch, losses: dict[str, torch.Tensor], step: int) -> None:
        if step >= self._settings.first_joint_step and self.teacher_learns:
            self.teacher.update(segmenter.network, step + 1 - self._settings.first_joint_step)
        if step + 1 == self._settings.steps:
            self.facts["pseudo_labels"] = self._coverage.to_json()
            if self._coverage.missing():
                _log.warning(
                    "no pseudo-label of %s in the whole training, though the teacher sees it: the rules of area, "
                    "agreement or confidence take it away",
                    listed(self._coverage.missing()),
                )

    @property
    def teacher_learns(self) -> bool:
        """Whether it takes in the student after a step."""
        return True

    def state(self) -> dict[str, torch.Tensor]:
        """`teacher.*`, as soon as there is one, and `coverage.*`."""
        parts: dict[str, Teacher | Coverage | None] = {"teacher": self._teacher, "coverage": self._coverage}
        return {f"{name}.{key}": value for name, part in parts.items() if part for key, value in part.state().items()}

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        own = {name: _below(name, tensors) for name in ("teacher", "coverage")}
        if own["teacher"]:
            self.teacher.load_state(own["teacher"])
        self._coverage.load_state(own["coverage"])
        self.facts["pseudo_labels"] = self._coverage.to_json()

    def is_pictured(self, step: int) -> bool:
        every = self._settings.pictures_every
        return bool(every) and (step + 1) % every == 0

    def picture(self, views: Views, columns: Mapping[str, np.ndarray], target: PseudoLabels) -> None:
        """Keep a picture of the crops, of `columns` (n, h, w, 3), and of what comes of it for the student."""
        space, final = self._opened.space, of_students_view(target, views)
        self._sheet = side_by_side(
            {
                "picture": photographs(views.teacher),
                **columns,
                "student sees": photographs(views.student),
                "target": painted(final.channels, space),
                "weight": np.repeat((final.weights * 255).byte().cpu().numpy()[..., None], 3, axis=-1),
            },
            self._settings.pictures_count,
        )

    def pictures(self, step: int) -> Mapping[str, np.ndarray]:
        sheet, self._sheet = self._sheet, None
        return {} if sheet is None else {"self_training": sheet}


def _mean_weight(labels: PseudoLabels) -> torch.Tensor:
    """Of the pixels that are learnt: a mask has one loss, in which a pixel cannot have a weight of its own."""
    learnt = (labels.channels < OUT_OF_DISTRIBUTION) & (labels.weights > 0)
    return (labels.weights * learnt).sum() / learnt.sum().clamp(min=1)


def _below(part: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.removeprefix(f"{part}."): value for key, value in tensors.items() if key.startswith(f"{part}.")}


def train_with(method: SelfTraining, opened: Opened, config: SelfTrainingConfig, **claims: Any) -> Path:
    """Train it, or go on where a killed training stopped; returns the model's folder. Raises SegtrainError.

    `claims` is what else tells this training from another one in the same folder.
    """
    fewest = opened.data.fewest_labelled(config.labelled_alone_steps)
    if not fewest:
        raise ConfigError(
            f"batch_size {config.batch_size}: some steps have no labelled crop, and unlabelled ones are not learnt "
            "from: raise --batch-size, or lower --unlabelled-share or --unlabelled-repeat"
        )
    if method.teacher_learns:
        _report_memory(config)
    training = Training(
        config,
        reports(opened.sources, opened.data.planned_counts),
        opened.space,
        build=method.build,
        validation=open_validation(config.validation, opened.space) if config.validation else None,
        claims={**opened.claims, **claims},
        facts=method.facts,
        fewest_crops=min(2, fewest),
    )
    return run(training, method)
