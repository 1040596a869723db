"""`segtrain flex-seg`: GAP, UBE and HAS around one training on a labelled source and generated pairs."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from segkit.labels import OUT_OF_DISTRIBUTION, LabelSpace
from segtrain import bands
from segtrain.data.batches import Batch, Draft, drafted_batches
from segtrain.data.mixture import Mixture, open_sources
from segtrain.data.rare_classes import rare_classes, warn_of_void_image
from segtrain.data.source import Source
from segtrain.errors import ConfigError
from segtrain.evaluate import open_validation
from segtrain.loop import Training, reports, run
from segtrain.losses import mean_over, pixel_losses
from segtrain.method import StandardMethod
from segtrain.methods.flex_seg.config import Config
from segtrain.methods.flex_seg.feature_distance import FrozenEncoder, feature_distance, thing_cells
from segtrain.methods.flex_seg.gap import Projector, PrototypeBank, boundary_cells, choose_tokens
from segtrain.methods.flex_seg.has import Hardness
from segtrain.methods.flex_seg.ube import emphasised, entropy
from segtrain.segmenter import Segmenter, build_segmenter

_log = logging.getLogger(__name__)
_MAX_WARNINGS = 5


def train(config: Config) -> Path:
    """Train, or go on where a killed training stopped; returns the model's folder. Raises SegtrainError."""
    sources, space = open_sources(config)
    things = [channel for channel, label in enumerate(space.labels) if label.name in config.fd_classes]
    if config.fd and not things:
        raise ConfigError(
            f"fd_classes: none of them is a class of {space.name!r} ({', '.join(c.name for c in space.labels)}): name "
            "some, or leave out --fd"
        )
    data = Mixture(sources, space, config, rare=rare_classes(sources, space, config))
    method = FlexSeg(data, config, sources, space, things)
    training = Training(
        config,
        reports(sources, data.planned_counts),
        space,
        build=method.build,
        validation=open_validation(config.validation, space) if config.validation else None,
        claims={"sources": [source.identity for source in sources]},
        training_only=("projector",) if config.gap else (),
    )
    return run(training, method)


@dataclasses.dataclass(slots=True)
class _Seen:
    """What `loss` leaves for `after_step`."""

    tokens: torch.Tensor | None = None
    cells: torch.Tensor | None = None
    image_losses: torch.Tensor | None = None
    labelled: torch.Tensor | None = None


class FlexSeg(StandardMethod):
    """L = boundary-weighted cross-entropy + gap_weight * L_GAP (+ fd_weight * feature distance)."""

    def __init__(
        self, data: Mixture, config: Config, sources: Sequence[Source], space: LabelSpace, things: Sequence[int]
    ) -> None:
        """`things` are the channels of the feature distance."""
        super().__init__(data, config)
        self._mixture, self._settings, self._sources = data, config, sources
        self._space, self._things = space, things
        self._bank: PrototypeBank | None = None
        self._frozen: FrozenEncoder | None = None
        self._hardness: Hardness | None = None
        if config.has:
            sizes = [sum(source.group_sizes) for source in sources]
            self._hardness = Hardness(sizes, [source.identity for source in sources], config)
        self._seen = _Seen()
        self._void: set[tuple[int, int]] = set()

    def build(self, device: torch.device) -> Segmenter:
        """The network, with the projector of GAP as a submodule; a function of the config's seed."""
        config = self._settings
        segmenter = build_segmenter(config, self._space, device)
        width_in = segmenter.decoder_width
        if config.fd:
            # with init_from the encoder begins elsewhere, and is to stay near ImageNet's all the same
            at_first = config.model_copy(update={"init_from": None})
            pretrained = build_segmenter(at_first, self._space, device) if config.init_from else segmenter
            self._frozen = FrozenEncoder(pretrained.network)
        if config.gap:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                segmenter.network.projector = Projector(width_in, config.gap_width).to(device)
            rings = len(config.band_px or config.band_fractions)
            self._bank = PrototypeBank(len(self._space.labels), rings, config.gap_width, config.gap_momentum, device)
        return segmenter

    def batches(self, first_step: int) -> Iterator[Batch]:
        if self._hardness is None:
            return super().batches(first_step)
        return drafted_batches(self._mixture.reading, self._drafts(first_step), self._settings.num_workers)

    def _drafts(self, first_step: int) -> Iterator[list[Draft]]:
        """Of each step: those of the mixture, or some that are drawn by hardness."""
        assert self._hardness is not None
        config = self._settings
        for step in range(first_step, config.steps):
            if not self._hardness.is_hard(step, config.steps, config.seed):
                yield self._mixture.drafts(step)
            elif config.has_within == "class":
                drafts = enumerate(self._mixture.drafts(step))
                yield [dataclasses.replace(draft, row=self._hard_row(step, slot, draft)) for slot, draft in drafts]
            else:
                images = enumerate(self._hardness.draw(step, config.batch_size, config.seed))
                yield [Draft(source, row, self._mixture.crop_key(step, slot)) for slot, (source, row) in images]

    def _hard_row(self, step: int, slot: int, draft: Draft) -> int:
        assert self._hardness is not None
        channel = draft.wanted.channel if draft.wanted else -1
        rows = self._mixture.rows_like(draft)
        return self._hardness.draw_within(step, slot, draft.source, channel, rows, self._settings.seed)

    def loss(self, segmenter: Segmenter, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        config = self._settings
        targets = batch.targets.to(segmenter.device)
        made = segmenter.parts(batch.images)
        losses, labelled = pixel_losses(made.logits, targets)
        on_grid, ring, in_band = self._boundaries(targets, made.decoded)
        boundary = mean_over(emphasised(losses, made.logits, in_band, config), labelled)
        plain = losses.detach()
        values = {"boundary": boundary, "cross_entropy": mean_over(plain, labelled)}
        per_image = labelled.flatten(1).sum(dim=1)
        self._seen = _Seen(
            image_losses=plain.flatten(1).sum(dim=1) / per_image.clamp(min=1),
            labelled=per_image > 0,
        )
        total = boundary
        if self._bank is not None:
            values["gap"] = self._gap(segmenter, made.decoded, on_grid, ring, step)
            total = total + config.gap_weight * values["gap"]
        if self._frozen is not None:
            last = made.encoded[-1]
            of_things = thing_cells(
                targets, (last.shape[-2], last.shape[-1]), self._things, len(self._space.labels), config.fd_majority
            )
            frozen = self._frozen.last_map(segmenter.normalised(batch.images))
            values["feature_distance"] = feature_distance(last, frozen, of_things)
            total = total + config.fd_weight * values["feature_distance"]
        if self._is_logged(step):
            values |= premise(made.logits, targets, in_band, labelled)
        return {"loss": total, **values}

    def _boundaries(
        self, targets: torch.Tensor, decoded: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The targets and their rings on the grid of the features (B, h, w), and B at full resolution (B, H, W)."""
        config = self._settings
        height = targets.shape[-2]
        stride = config.gap_stride or height // decoded.shape[-2]
        widths = bands.widths_px(height, config.band_fractions, stride, config.band_px)
        on_grid = bands.at_stride(targets, stride)
        boundary = bands.boundaries(on_grid, widths)
        in_band = boundary[-1] if stride == 1 else bands.band(targets, bands.full_width_px(widths, stride))
        return on_grid, bands.rings(boundary), in_band

    def _gap(
        self, segmenter: Segmenter, decoded: torch.Tensor, on_grid: torch.Tensor, ring: torch.Tensor, step: int
    ) -> torch.Tensor:
        """L_GAP of the batch; keeps its tokens for the bank. No gradient while the bank is filled."""
        config, bank = self._settings, self._bank
        assert bank is not None
        cells = boundary_cells(on_grid, ring, bank.num_rings)
        with torch.set_grad_enabled(step >= config.gap_warm_start):
            size = cells.shape[-2:]
            if decoded.shape[-2:] != size:
                shrinks = decoded.shape[-1] > size[-1]
                decoded = functional.interpolate(decoded.float(), size=size, mode="bilinear", antialias=shrinks)
            places, self._seen.cells = choose_tokens(cells, config.gap_tokens, len(bank.counts))
            pixels = decoded.permute(0, 2, 3, 1).flatten(0, 2).index_select(0, places)
            tokens = segmenter.network.get_submodule("projector")(pixels)
            self._seen.tokens = tokens.detach()
            if step < config.gap_warm_start:
                return on_grid.new_zeros((), dtype=torch.float32)
            weights = bank.weights(config.gap_rarity, config.gap_weight_min, config.gap_weight_max)
            return bank.loss(tokens, self._seen.cells, weights, config.gap_temperature)

    def after_step(self, segmenter: Segmenter, batch: Batch, losses: dict[str, torch.Tensor], step: int) -> None:
        seen, done = self._seen, step + 1
        if self._bank is not None and seen.tokens is not None and seen.cells is not None:
            self._bank.update(seen.tokens, seen.cells)
            if done == min(max(1, self._settings.gap_warm_start), self._settings.steps):
                self._report_empty_cells(done)
        if self._hardness is not None and seen.image_losses is not None and seen.labelled is not None:
            self._hardness.see(batch.sources, batch.rows, seen.image_losses, seen.labelled)
            self._hardness.fold(done)
        self._warn_of_void(batch)
        self._seen = _Seen()

    def state(self) -> dict[str, torch.Tensor]:
        """`bank.*` and `hardness.*`."""
        parts = {"bank": self._bank, "hardness": self._hardness}
        return {f"{name}.{key}": value for name, part in parts.items() if part for key, value in part.state().items()}

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        for name, part in (("bank", self._bank), ("hardness", self._hardness)):
            if part is not None:
                prefix = f"{name}."
                part.load_state({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})

    def _is_logged(self, step: int) -> bool:
        return (step + 1) % self._settings.log_every == 0 or step + 1 == self._settings.steps

    def _report_empty_cells(self, done: int) -> None:
        assert self._bank is not None
        names = [self._space.labels[channel].name for channel in self._bank.empty_classes()]
        if names:
            _log.warning("no boundary of %s in %d steps: no prototype of it yet", ", ".join(names), done)

    def _warn_of_void(self, batch: Batch) -> None:
        """One line for each of the first images that have no labelled pixel at all: nothing can be learnt from them."""
        void = np.flatnonzero((batch.targets >= OUT_OF_DISTRIBUTION).flatten(1).all(dim=1).numpy())
        for number in void:
            place = int(batch.sources[number]), int(batch.rows[number])
            if place in self._void or len(self._void) >= _MAX_WARNINGS:
                continue
            source = self._sources[place[0]]
            if (source.read_mask(place[1]) >= OUT_OF_DISTRIBUTION).all():
                self._void.add(place)
                warn_of_void_image(source, place[1])


def premise(
    logits: torch.Tensor, targets: torch.Tensor, in_band: torch.Tensor, labelled: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The paper's premise, to be logged: mean entropy and error in the band and outside it, of labelled pixels."""
    entropies = entropy(logits)
    wrong = (logits.argmax(dim=1) != targets.long()).float()
    places = {"boundary": in_band & labelled, "interior": ~in_band & labelled}
    return {
        f"{what}_{where}": (values.detach() * mask).sum() / mask.sum().clamp(min=1)
        for what, values in (("entropy", entropies), ("error", wrong))
        for where, mask in places.items()
    }
