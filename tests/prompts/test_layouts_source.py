from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synthgen.backends import load, statement
from synthgen.errors import InputError, LabelError
from synthgen.images import write_image
from synthgen.labels import read_label_space
from synthgen.models import ProposalRequest
from synthgen.prompts.bank import Candidate
from synthgen.records import ids_digest
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
    assert [c.layout.path.name for c in found] == ["0.png", "0.png", "1.png", "1.png"]
    assert found[2].prompt == "a street with nothing else at night"  # sky and road go without saying
    assert not list(source.candidates(SPACE, (SPACE.by_name("car"),), 0))
    assert len({c.key for c in found}) == 4
    unnamed = {"name": "layouts", "folder": str(folder), "unnamed": ["Car", "a class of another space"]}
    prompts = [c.prompt for c in load("prompt_source", unnamed, Execution()).candidates(SPACE, (), 0)]
    assert not any("car" in prompt for prompt in prompts) and all("road" in prompt for prompt in prompts)


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


def with_pictures(folder: Path, pictures: Path, domains: tuple[str, ...] = ("at night",)) -> dict[str, object]:
    return {"name": "layouts", "folder": str(folder), "control_images": str(pictures), "domains": domains}


def test_a_picture_beside_each_map_stands_for_it_in_the_key(tmp_path: Path) -> None:
    folder = labelled_folder(tmp_path / "set", [street(13), street(10)])
    pictures = tmp_path / "depth"
    pictures.mkdir()
    for number, suffix in ((0, ".png"), (1, ".jpg"), (2, ".png")):  # the last is of no map
        Image.fromarray(np.full((5, 6, 3), 40 * number, np.uint8)).save(pictures / f"{number}{suffix}")
    (pictures / "readme.txt").write_text("no picture")

    def candidates() -> list[Candidate]:
        source = load("prompt_source", with_pictures(folder, pictures), Execution())
        return list(source.candidates(SPACE, (), 0))

    before = candidates()
    assert [c.control_image and c.control_image.name for c in before] == ["0.png", "1.jpg"]
    plain = list(load("prompt_source", {"name": "layouts", "folder": str(folder), "domains": ["at night"]}, Execution())
                 .candidates(SPACE, (), 0))  # fmt: skip
    assert not {c.key for c in before} & {c.key for c in plain}
    # another file of the same pixels is the same content, other pixels are not
    Image.fromarray(np.zeros((5, 6, 3), np.uint8)).save(pictures / "0.png", compress_level=1)
    assert candidates() == before
    Image.fromarray(np.full((5, 6, 3), 1, np.uint8)).save(pictures / "0.png")
    assert [a.key == b.key for a, b in zip(candidates(), before, strict=True)] == [False, True]


def test_the_pictures_count_for_the_fingerprint_of_a_run(tmp_path: Path) -> None:
    folder = labelled_folder(tmp_path / "set", [street(13)])
    pictures = tmp_path / "depth"
    pictures.mkdir()

    def fingerprint() -> dict[str, str]:
        given: dict[str, str] = statement("prompt_source", with_pictures(folder, pictures), "fingerprint", {})
        return given

    write_image(np.zeros((4, 4, 3), np.uint8), pictures / "0.png")
    before = fingerprint()
    assert set(before) == {"folder", "control_images"}
    write_image(np.ones((4, 5, 3), np.uint8), pictures / "0.png")
    after = fingerprint()
    assert after["folder"] == before["folder"] and after["control_images"] != before["control_images"]


def test_a_map_without_its_picture_is_one_line(tmp_path: Path) -> None:
    folder = labelled_folder(tmp_path / "set", [street(13), street(10), street(8)])
    pictures = tmp_path / "depth"
    with pytest.raises(InputError, match=r"no such folder; prompts\.source\.control_images is a folder of pictures"):
        load("prompt_source", with_pictures(folder, pictures), Execution())
    pictures.mkdir()
    write_image(np.zeros((4, 4, 3), np.uint8), pictures / "1.png")
    with pytest.raises(InputError, match=r"0\.png \(and 1 more\): has no picture .*depth/0\.\*; add it") as caught:
        load("prompt_source", with_pictures(folder, pictures), Execution())
    assert "\n" not in str(caught.value)
    for number in (0, 2):
        (pictures / f"{number}.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"depth/0\.png"):
        list(load("prompt_source", with_pictures(folder, pictures), Execution()).candidates(SPACE, (), 0))


def candidates_of(size: tuple[int, int] | None = None, seed: int = 0, **options: object) -> list[Candidate]:
    source = load("prompt_source", {"name": "layouts", **options}, Execution())
    if size:
        source.expect_size(*size)
    return list(source.candidates(SPACE, (), seed))


def test_windows_are_keyed_by_their_ids_and_named_by_what_they_show(tmp_path: Path) -> None:
    folder = labelled_folder(tmp_path / "set", [street(13, 8), street(10, 11)])
    options: dict[str, object] = {"folder": str(folder), "windows": {"count": 12, "min_share": 0.01},
                                  "domains": ["at night", "in fog"]}  # fmt: skip
    found = candidates_of((10, 10), **options)
    assert len(found) == 24 == statement("prompt_source", {"name": "layouts", **options}, "num_given", None)
    for candidate in found:
        assert candidate.layout is not None
        ids = candidate.layout.ids(SPACE)
        assert ids.shape == (10, 10) and candidate.content == ids_digest(ids)
        assert ("car" in candidate.prompt) == ((ids == 13).mean() >= 0.01)
    # the same maps under other names in another folder: the same keys in the same order
    moved = labelled_folder(tmp_path / "moved", [street(10, 11), street(13, 8)])
    assert [c.key for c in candidates_of((10, 10), **options | {"folder": str(moved)})] == [c.key for c in found]
    assert statement("prompt_source", {"name": "layouts", **options}, "takes_size", False)
    plain = {"name": "layouts", "folder": str(folder)}
    assert not statement("prompt_source", plain, "takes_size", False)
    assert statement("prompt_source", plain | {"pairs": True}, "takes_size", False), "originals are stored in that size"


def test_words_and_domains_are_drawn_by_seed_and_map_alone(tmp_path: Path) -> None:
    folder = labelled_folder(tmp_path / "set", [street(*range(n, n + 3)) for n in range(12)])
    options: dict[str, object] = {
        "folder": str(folder), "domains_per_map": 2, "words": {"style": ["a painting of", "a photo of"]},
        "sentence": "{style} {things} {domain}", "plain_share": 0.5, "plain_sentence": "{style} {things}",
    }  # fmt: skip
    found = candidates_of(**options)
    assert len(found) == 24 == statement("prompt_source", {"name": "layouts", **options}, "num_given", None)
    assert found == candidates_of(**options) != candidates_of(seed=1, **options)
    assert {c.prompt.split(" of ")[0] for c in found} == {"a painting", "a photo"}
    plain = [c for c in found if not any(about.startswith("domain=") for about in c.attributes)]
    assert 4 < len(plain) < 20
    for candidate in found:
        said = dict(about.split("=") for about in candidate.attributes)
        assert candidate.prompt.startswith(said["style"]) and candidate.prompt.endswith(said.get("domain", ""))
        assert (said.get("domain") is None) == (not any(word in candidate.prompt for word in ("night", "day", " in ")))
    # another map beside them changes nothing of theirs
    alone = labelled_folder(tmp_path / "alone", [street(0, 1, 2)])
    assert candidates_of(**options | {"folder": str(alone)})[0].key == found[0].key


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"words": {"style": []}}, r"words\.style: has no word"),
        ({"plain_sentence": "a {place}"}, r"plain_sentence .*\{things\}, \{domain\} only"),
        ({"windows": {"count": 3}, "control_images": "x"}, "of whole maps"),
    ],
)
def test_options_that_cannot_be_met_are_one_line(tmp_path: Path, options: dict[str, object], message: str) -> None:
    folder = labelled_folder(tmp_path / "set", [street(13)])
    with pytest.raises(InputError, match=message) as caught:
        load("prompt_source", {"name": "layouts", "folder": str(folder), **options}, Execution())
    assert "\n" not in str(caught.value)


def test_pairs_bring_the_picture_into_the_key(tmp_path: Path) -> None:
    folder = labelled_folder(tmp_path / "set", [street(13)])
    options: dict[str, object] = {"folder": str(folder), "pairs": True, "domains": ["by day"]}
    (before,) = candidates_of(**options)
    assert before.has_original and before.key != candidates_of(**options | {"pairs": False})[0].key
    write_image(np.full((20, 30, 3), 9, np.uint8), folder / "images" / "0.png")
    (after,) = candidates_of(**options)
    assert after.key != before.key
    write_image(np.zeros((20, 31, 3), np.uint8), folder / "images" / "0.png")
    with pytest.raises(InputError, match=r"0\.png"):
        candidates_of(**options)
