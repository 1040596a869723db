from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synthgen.backends import load
from synthgen.errors import InputError, LabelError
from synthgen.images import write_image
from synthgen.labels import read_label_space
from synthgen.models import ProposalRequest
from synthgen.settings import Execution

SPACE = read_label_space("cityscapes")


def labelled_folder(folder: Path, masks: list[np.ndarray]) -> Path:
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for number, mask in enumerate(masks):
        write_image(np.zeros((*mask.shape, 3), np.uint8), folder / "images" / f"{number}.png")
        write_image(mask, folder / "labels" / f"{number}.png")
    return folder


def street(*ids: int) -> np.ndarray:
    mask = np.zeros((20, 30), np.uint8)
    for row, class_id in enumerate(ids):
        mask[row] = class_id
    return mask


def test_each_map_gives_one_sentence_a_domain_that_names_what_it_shows(tmp_path: Path) -> None:
    folder = labelled_folder(tmp_path / "set", [street(13, 8), street(10)])
    source = load(
        "prompt_source", {"name": "layouts", "folder": str(folder), "domains": ["at night", "in fog"]}, Execution()
    )
    found = list(source.candidates(SPACE, (), 0))
    trees = SPACE.by_name("vegetation").spoken
    assert [c.prompt for c in found[:2]] == [
        f"a street with {trees} and car at night",
        f"a street with {trees} and car in fog",
    ]
    assert [Path(c.layout).name for c in found] == ["0.png", "0.png", "1.png", "1.png"]
    assert found[2].prompt == "a street with nothing else at night"  # sky and road go without saying
    assert not list(source.candidates(SPACE, (SPACE.by_name("car"),), 0))
    assert len({c.key for c in found}) == 4


def test_limit_chooses_by_seed_and_bad_input_is_one_line(tmp_path: Path) -> None:
    folder = labelled_folder(tmp_path / "set", [street(13) for _ in range(9)])
    chosen = [
        [
            c.layout
            for c in load(
                "prompt_source", {"name": "layouts", "folder": str(folder), "limit": 3}, Execution()
            ).candidates(SPACE, (), seed)
        ]
        for seed in (0, 0, 1)
    ]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(chosen[0]) == 3 * 5
    with pytest.raises(InputError, match="things"):
        load("prompt_source", {"name": "layouts", "folder": str(folder), "sentence": "a {place}"}, Execution())
    write_image(street(99), folder / "labels" / "0.png")
    with pytest.raises(LabelError, match="99"):
        list(load("prompt_source", {"name": "layouts", "folder": str(folder)}, Execution()).candidates(SPACE, (), 0))


def test_the_proposer_gives_the_map_as_the_renderer_resized_it() -> None:
    layout = np.random.default_rng(0).integers(0, 19, (31, 47)).astype(np.uint8)
    image = np.zeros((16, 64, 3), np.uint8)
    request = ProposalRequest(image, np.zeros((1, 1, 4), np.float32), (0,), "", layout)
    proposer = load("proposer", {"name": "layout"}, Execution())
    expected = np.asarray(Image.fromarray(layout).resize((64, 16), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(proposer.propose([request])[0], expected)
    with pytest.raises(InputError, match="label map"):
        proposer.propose([ProposalRequest(image, request.features, (0,), "")])
