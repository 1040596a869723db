"""POP's prototypes: pushed apart while they are learnt, taken over by the novel stage, begun from the shots."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from segkit.networks.folder import STRIDE_PX
from segkit.networks.pop import PopNetwork
from segtrain.data.sample import Sample
from segtrain.segmenter import Segmenter


def mean_cosine(network: PopNetwork) -> torch.Tensor:
    """Mean absolute cosine of each learnt prototype to the other ones, each pair once; 0 if there is only one.

    POP's orthogonality loss: |cos(s_i, s_j)|. Once there are novel classes the base prototypes are fixed, so pairs of
    two base prototypes are left out.
    """
    directions = network.directions()
    cosines = directions @ directions.T
    pairs = torch.ones_like(cosines, dtype=torch.bool).triu(1)
    if network.num_novel:
        pairs[:, : network.num_base] = False
    return cosines[pairs].abs().mean() if pairs.any() else cosines.new_zeros(())


def take_over(network: PopNetwork, base: PopNetwork) -> None:
    """Give the network what the base stage has learnt; its novel classifier starts as a copy of the base one."""
    learnt = base.state_dict()
    learnt |= {
        name.replace("classifier", "novel_classifier", 1): value
        for name, value in learnt.items()
        if name.startswith("classifier.")
    }
    network.load_state_dict({**network.state_dict(), **learnt})


@torch.inference_mode()
def start_from_support(segmenter: Segmenter, shots: Sequence[Sample]) -> None:
    """Set each novel prototype to the class's mean feature over the shots, less its parts along the base prototypes.

    A cell of the feature map counts by the share of it that the class covers. A class that no cell shows keeps its
    random vector.
    """
    network, space = segmenter.network, segmenter.label_space
    assert isinstance(network, PopNetwork)
    network.eval()
    first = 1 + network.num_base
    sums = torch.zeros_like(network.novel_prototypes)
    for shot in shots:
        height, width = shot.mask.shape
        pad = (0, -width % STRIDE_PX, 0, -height % STRIDE_PX)
        pixels = torch.from_numpy(np.array(shot.image)).permute(2, 0, 1)[None].float()
        channels = torch.from_numpy(space.to_channels(shot.mask, shot.where).astype(np.int64))
        covered = (channels == torch.arange(first, len(space.labels))[:, None, None])[None].float().to(segmenter.device)
        features = network.features(segmenter.normalised(functional.pad(pixels, pad, mode="replicate"))).float()
        weights = functional.adaptive_avg_pool2d(functional.pad(covered, pad), (features.shape[2], features.shape[3]))
        sums += torch.einsum("bdhw,bkhw->kd", features, weights)
    base = network.directions()[: network.num_base]
    orthogonal = sums - sums @ base.T @ base
    shown = orthogonal.norm(dim=1) > 0
    network.novel_prototypes[shown] = functional.normalize(orthogonal[shown], dim=1)
