"""Sets that label nothing: refused in one line before a step is taken or a picture is scored."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from segkit.labels import Label, LabelSpace
from segtrain.cli import app
from segtrain.data.formats import open_dataset
from segtrain.data.labelled import require_labels, require_readable
from segtrain.data.mixture import open_sources
from segtrain.errors import DataError
from segtrain.methods.supervised.method import train

SPACE = LabelSpace("toy", (Label(0, "ground"), Label(5, "thing")), 0)
PICTURE = np.zeros((16, 16, 3), np.uint8)
TINY = ["--encoder", "tu-test_efficientnet", "--decoder-channels", "8,8,8,8,8", "--crop", "32", "--batch-size", "2"]


def mask_of(*ids: int) -> np.ndarray:
    return np.resize(np.array(ids, np.uint8), (16, 16))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments), "--device", "cpu"])


@pytest.mark.parametrize(
    ("masks", "space", "says"),
    [
        ([mask_of(255)] * 2, SPACE, "every pixel of the masks is 255, which means unlabelled"),
        ([mask_of(0, 255), mask_of(0)], SPACE, "only 0 and 255, and 255 means unlabelled: store the object's id"),
        ([mask_of(0, 255)], LabelSpace("bare", SPACE.labels), "only 0 and 255, and 255 means unlabelled"),
        ([mask_of(0)], SPACE, "only 0, which is the background"),
        ([mask_of(254), mask_of(254)], SPACE, "every pixel of the masks is 254"),
        ([mask_of(254, 255)], SPACE, "every pixel of the masks is 255"),
    ],
)
def test_masks_that_label_nothing_are_told(
    tmp_path: Path, write_folder, masks: list[np.ndarray], space: LabelSpace, says: str
) -> None:
    source = open_dataset(write_folder(tmp_path / "set", [(PICTURE, mask) for mask in masks], False), "", space)
    with pytest.raises(DataError, match=f"set: no pixel of the {len(masks)} images shows a class.*{says}"):
        require_labels([source], space)


def test_one_labelled_mask_of_any_source_is_enough(tmp_path: Path, write_folder) -> None:
    empty = open_dataset(write_folder(tmp_path / "a", [(PICTURE, mask_of(0, 255))], False), "", SPACE)
    whole = open_dataset(
        write_folder(tmp_path / "b", [(PICTURE, mask_of(0)), (PICTURE, mask_of(255, 5))], False), "", SPACE
    )
    require_labels([empty, whole], SPACE)
    negatives = open_dataset(write_folder(tmp_path / "c", [(PICTURE, mask_of(0))], False), "", SPACE)
    require_labels([negatives], SPACE, background_counts=True)
    with pytest.raises(DataError, match="a: no pixel"):
        require_labels([empty], SPACE, background_counts=True)


@pytest.mark.parametrize(("ids", "says"), [((255,), "every pixel of the masks is 255"), ((0, 255), "only 0 and 255")])
def test_training_scoring_and_validating_on_nothing_are_one_line(
    tmp_path: Path, write_folder, pairs, ids: tuple[int, ...], says: str
) -> None:
    nothing = write_folder(tmp_path / "nothing", [(PICTURE, mask_of(*ids))] * 2)
    some = write_folder(tmp_path / "some", pairs(2))
    model = tmp_path / "model"
    for arguments in (
        ["train", "--data", nothing, "--out", model, "--steps", 1, *TINY],
        ["train", "--data", some, "--validate", nothing, "--out", model, "--steps", 1, *TINY],
    ):
        result = run(*arguments)
        assert result.exit_code == 2 and says in result.stderr and result.stderr.count("\n") == 1, result.output
        assert not model.exists(), "nothing is left behind"
    assert run("train", "--data", some, "--out", model, "--steps", 1, *TINY).exit_code == 0
    for more in ([], ["--by-domain", "--domain", "night"]):
        result = run("eval", "--model", model, "--data", nothing, *more)
        assert result.exit_code == 2 and says in result.stderr and "0.00" not in result.output, result.output


def test_pictures_without_any_object_have_no_mean(tmp_path: Path, write_folder, pairs) -> None:
    some = write_folder(tmp_path / "some", pairs(2))
    negatives = write_folder(tmp_path / "negatives", [(PICTURE, mask_of(0))] * 2)
    model = tmp_path / "model"
    assert run("train", "--data", some, "--out", model, "--steps", 1, *TINY).exit_code == 0
    result = run(
        "eval", "--model", model, "--data", negatives, "--data", some, "--by-domain", "--domain", "a", "--domain", "b"
    )
    assert result.exit_code == 0, result.output
    assert [line.split()[:2] for line in result.stdout.splitlines() if line.startswith("a  ")] == [["a", "-"]]
    alone = run("eval", "--model", model, "--data", negatives)
    assert alone.exit_code == 0, alone.output
    for name in ("mIoU -", "foreground mIoU -", "boundary F -"):
        assert any(line.startswith(name) for line in alone.stdout.splitlines()), alone.stdout


@pytest.mark.parametrize(
    ("file", "size", "mode", "says"),
    [
        ("images/f0004.png", (32, 32), "RGBA", "images/f0004.png: has an alpha channel"),
        ("images/f0004.png", (32, 32), "I;16", "images/f0004.png: has more than 8 bits a channel"),
        ("images/f0004.png", (40, 32), "RGB", r"labels/f0004.png: is 32 x 32 px \(H x W\), its image 32 x 40"),
        ("labels/f0004.png", (32, 32), "RGBA", "labels/f0004.png: a mask must hold one class id a pixel"),
    ],
)
def test_a_picture_of_no_use_is_told_before_the_first_step_and_not_when_its_turn_comes(
    tmp_path: Path, write_folder, pairs, settings, file: str, size: tuple[int, int], mode: str, says: str
) -> None:
    """Mended, it is other data: what had been learnt by then could not go on."""
    good = write_folder(tmp_path / "good", pairs(2))
    bad = write_folder(tmp_path / "bad", pairs(5))
    require_readable([open_dataset(good, "train", None)])
    Image.new(mode, size).save(bad / file)
    for folders in ([good, bad], [good]):
        with pytest.raises(DataError, match=says):
            train(settings(data=list(map(str, folders)), validation=str(bad), batch_size=2))
        assert not (tmp_path / "model").exists()


def test_a_source_among_others_that_labels_nothing_is_told(
    tmp_path: Path, write_folder, pairs, settings, caplog: pytest.LogCaptureFixture
) -> None:
    good = write_folder(tmp_path / "good", pairs(2))
    void = write_folder(tmp_path / "void", [(image, np.full_like(mask, 255)) for image, mask in pairs(3)])
    seldom = [(image, mask if number == 2 else mask * 0 + 254) for number, (image, mask) in enumerate(pairs(3))]
    some = write_folder(tmp_path / "some", seldom)
    open_sources(settings(data=list(map(str, (good, some, void)))))
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{void}: none of 3 masks that were looked at has a labelled pixel")


def test_a_later_data_with_more_classes_is_told_what_to_do(tmp_path: Path, write_folder, pairs, settings) -> None:
    good, more = (write_folder(tmp_path / name, pairs(1)) for name in ("good", "more"))
    text = (more / "labels.yaml").read_text()
    (more / "labels.yaml").write_text(text.replace("labels:\n", "labels:\n- {id: 7, name: tree}\n"))
    says = f"more: class 'tree' .id 7. .*; the classes are those of the first --data, {good}: name first what has them"
    with pytest.raises(DataError, match=says):
        open_sources(settings(data=[str(good), str(more)]))
    assert len(open_sources(settings(data=[str(more), str(good)]))[1].labels) == 3


def test_the_originals_of_pairs_are_looked_at_too(tmp_path: Path, write_folder, pairs) -> None:
    folder = write_folder(tmp_path / "pairs", pairs(2))
    for part in ("images", "labels"):
        shutil.copytree(folder / part, folder / f"orig_{part}")
    require_readable([open_dataset(folder, "train", None)])
    Image.new("LA", (32, 32)).save(folder / "orig_images" / "f0001.png")
    with pytest.raises(DataError, match=r"orig_images/f0001\.png: has an alpha channel"):
        require_readable([open_dataset(folder, "train", None)])
