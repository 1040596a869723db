"""`segtrain clouds`: warm-up on labelled pictures, then self-training with labels that SAM redraws (CLOUDS, CVPR 2024).

The joint step in order: the teacher answers on the plain view; components of its answer over an area; points or boxes
of them to SAM on the plain view; of three masks that of the highest predicted IoU; overlaps out; union by class; the
student learns that on its own view by the same loss as the labelled crops; the teacher takes the student in.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION
from segkit.networks.sam import SamDecoder, read_sam
from segkit.sam_checkpoints import where_to_get
from segtrain.data.joint import JointBatch, Views
from segtrain.errors import ModelError
from segtrain.methods.clouds.config import Config
from segtrain.methods.clouds.negatives import none_of_the_present, present_in
from segtrain.methods.clouds.offline import Labels, OncePerPicture
from segtrain.methods.clouds.pictures import columns
from segtrain.methods.clouds.sam_labels import Redrawn, Rules, redraw
from segtrain.segmenter import Segmenter
from segtrain.self_training.method import Opened, SelfTraining, opened, train_with
from segtrain.self_training.pictures import painted
from segtrain.self_training.pseudo_labels import (
    PseudoLabels,
    confidence_weights,
    pseudo_labels,
    weighted_cross_entropy,
)

_log = logging.getLogger(__name__)
_POINTS = 41  # tag that keeps the random streams of one seed apart


def train(config: Config) -> Path:
    """Train, or go on where a killed training stopped, in either phase; returns the model's folder.

    Raises SegtrainError.
    """
    digest = sam_digest(config.sam) if config.sam else None
    data = opened(config)
    method = Clouds(data, config)
    _report_retention(config)
    return train_with(method, data, config, sam=digest)


def sam_digest(path: Path) -> str:
    """A checksum of SAM's weights. Raises ModelError if there are none."""
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():
        way_out = where_to_get(path) or "give an official checkpoint (sam_vit_h_4b8939.pth)"
        raise ModelError(
            f"sam {path}: no weights of SAM there: {way_out}, a folder with config.json and model.safetensors, or "
            "leave out --sam"
        )
    with file.open("rb") as opened_file:
        return hashlib.file_digest(opened_file, "sha256").hexdigest()


def _report_retention(config: Config) -> None:
    updates = (config.steps - config.first_joint_step) // config.teacher_every
    if config.sam_when == "online" and not config.teacher_ramp:
        _log.info(
            "%d updates of the teacher, which keeps %.0f %% of the warm-up at the end",
            updates,
            100 * config.teacher_decay**updates,
        )


class Clouds(SelfTraining):
    """The teacher's answer, redrawn by SAM."""

    def __init__(self, opened: Opened, config: Config) -> None:
        super().__init__(opened, config)
        self._config_of_sam, self._data_of_views = config, opened.data
        self._rules = Rules(config.sam_prompts, config.points, config.min_area, config.min_agreement, config.uncovered)
        self._decoder: SamDecoder | None = None
        self._present: torch.Tensor | None = None  # (U, C) classes with a mask in the crops of this step, for negatives
        self._once = OncePerPicture(self._of_whole_picture)

    def build(self, device: torch.device) -> Segmenter:
        config = self._config_of_sam
        if config.sam is not None:
            dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
            self._decoder = SamDecoder(read_sam(config.sam, config.sam_kind), device, dtype, multimask=True)
        return super().build(device)

    def targets(self, batch: JointBatch, views: Views, step: int) -> PseudoLabels:
        config = self._config_of_sam
        if self._decoder is None:
            return super().targets(batch, views, step)
        if config.sam_when == "offline":
            return self._from_whole_pictures(batch, views, step)
        labels = pseudo_labels(self.answers(views), views.inside, self._settings)
        answers = self._redrawn(views, labels.channels.byte().cpu().numpy(), step)
        channels = torch.from_numpy(np.stack([answer.channels for answer in answers])).long().to(labels.channels.device)
        return self._seen(views, labels.channels, PseudoLabels(channels, labels.weights), step, columns(answers))

    def _redrawn(self, views: Views, channels: np.ndarray, step: int) -> list[Redrawn]:
        assert self._decoder is not None
        images = views.teacher.cpu().permute(0, 2, 3, 1).numpy()
        keys = [(self._settings.seed, _POINTS, step, place) for place in range(len(images))]
        return [
            redraw(image, of_teacher, self._decoder, self._rules, np.random.default_rng(key))
            for image, of_teacher, key in zip(images, channels, keys, strict=True)
        ]

    def _from_whole_pictures(self, batch: JointBatch, views: Views, step: int) -> PseudoLabels:
        """Crops of the labels that each picture has once and for all."""
        crops = []
        for draft in batch.drafts:
            maps = self._once(draft.source, draft.row)
            drawn = self._data_of_views.geometry(draft, maps[0].shape)
            crops.append([drawn.map(one, outside) for one, outside in zip(maps, (IGNORE, IGNORE, 0), strict=True)])
        redrawn, teacher, sure = (torch.stack(of_kind).to(views.inside.device) for of_kind in zip(*crops, strict=True))
        labels, probability = redrawn.long(), sure.float() / 255
        config = self._settings
        weights = confidence_weights(probability, views.inside.bool(), config.confidence, config.threshold)
        return self._seen(views, teacher.long(), PseudoLabels(labels, weights), step, {})

    def _of_whole_picture(self, source: int, row: int) -> Labels:
        """Channels that SAM has redrawn, the teacher's own, and its sureness, 0..255 for 0..1."""
        assert self._decoder is not None
        image = self._data_of_views.picture(source, row)
        channels, probability = self.teacher.predict(image)
        rng = np.random.default_rng((self._settings.seed, _POINTS, source, row))
        redrawn = redraw(image, channels, self._decoder, self._rules, rng)
        return redrawn.channels, channels, np.floor(probability * 255).astype(np.uint8)

    def _seen(
        self,
        views: Views,
        teacher: torch.Tensor,
        labels: PseudoLabels,
        step: int,
        more: Mapping[str, np.ndarray],
    ) -> PseudoLabels:
        """Count what became of the teacher's answer, and draw it if it is time."""
        if self._rules.uncovered == "negative":
            self._present = present_in(labels.channels, len(self._opened.space.labels))
        self._coverage.see(teacher, labels.channels, labels.weights)
        if self.is_pictured(step):
            space = self._opened.space
            self.picture(views, {"teacher": painted(teacher, space), **more}, labels)
        return labels

    def unlabelled_loss(self, logits: torch.Tensor, labels: PseudoLabels) -> torch.Tensor:
        if self._rules.uncovered != "negative":
            return super().unlabelled_loss(logits, labels)
        positive = weighted_cross_entropy(logits, labels)
        assert self._present is not None, "targets come first"
        negative, number = none_of_the_present(logits, labels.channels, labels.weights, self._present)
        labelled = (labels.channels < OUT_OF_DISTRIBUTION).sum()
        return (positive * labelled + negative) / (labelled + number).clamp(min=1)

    @property
    def teacher_learns(self) -> bool:
        """Not offline: the labels stay as the warm-up made them, and so does who made them."""
        return self._config_of_sam.sam_when == "online"
