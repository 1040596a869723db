"""`segtrain predict`: masks of pictures, tile by tile, as a labelled folder that is never overwritten."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from segkit.masks import read_mask
from segkit.pictures import read_image
from segtrain import tiles
from segtrain.cli import app
from segtrain.commands import arguments
from segtrain.data.folders import FolderSource
from segtrain.errors import ConfigError
from segtrain.lock import only_process_in
from segtrain.overlay import overlay
from segtrain.segmenter import build_segmenter, load_model, save_model
from segtrain.tiles import predict_by_tiles, tile_starts


def noise(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8: smooth colours, so that neighbouring pixels mostly share a class."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC))


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Three pictures, one in a subfolder, beside a text and a picture that is none."""
    folder = tmp_path / "album"
    (folder / "town").mkdir(parents=True)
    Image.fromarray(noise((50, 70))).save(folder / "a.png")
    Image.fromarray(noise((64, 96), 1)).save(folder / "b.jpg")
    Image.fromarray(noise((40, 40), 2)).save(folder / "town" / "a.png")
    (folder / "notes.txt").write_text("mine")
    (folder / ".hidden.png").write_text("mine")
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["predict", *(str(a) for a in arguments), "--device", "cpu"])


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_masks_are_those_of_the_model_and_lie_as_the_pictures_do(tiny_model: Path, album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("--model", tiny_model, album, "--out", out, "--overlays", "--confidence", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "format": "segtrain-predictions", "out": str(out), "made": 3, "there": 0, "refused": [], "left": 1,
    }  # fmt: skip
    names = ["a", "b", "town/a"]
    assert files(out / "labels") == files(out / "confidence") == [f"{name}.png" for name in names]
    assert files(out / "overlays") == [f"{name}.jpg" for name in names]
    model = load_model(tiny_model, "cpu")
    for name, picture in zip(names, ("a.png", "b.jpg", "town/a.png"), strict=True):
        image, mask = read_image(album / picture), read_mask(out / "labels" / f"{name}.png")
        assert np.array_equal(mask, model.predict([image])[0])
        (logits,) = model.predict_logits([image])
        shares = np.exp(logits - logits.max(axis=0))
        shares /= shares.sum(axis=0)
        confidence = np.asarray(Image.open(out / "confidence" / f"{name}.png"))
        assert np.array_equal(confidence, np.rint(255 * shares.max(axis=0)).astype(np.uint8))
        seen = np.asarray(Image.open(out / "overlays" / f"{name}.jpg")).astype(float)
        assert np.abs(seen - overlay(image, mask, model.label_space)).mean() < 8  # JPEG


def test_the_folder_is_a_labelled_folder(tiny_model: Path, album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("--model", tiny_model, album / "a.png", album / "b.jpg", "--out", out).exit_code == 0
    source = FolderSource(out, None)
    assert [source.name(row) for row in range(2)] == ["a.png", "b.jpg"]
    assert source.label_space == load_model(tiny_model, "cpu").label_space
    sample = source.read(1)
    assert np.array_equal(sample.image, read_image(album / "b.jpg"))
    assert set(np.unique(sample.mask)) <= {0, 5}


def test_of_a_labelled_folder_the_pictures_alone_are_predicted(tiny_model: Path, album: Path, tmp_path: Path) -> None:
    """As the other commands read it; its masks are no pictures, and the result is a labelled folder again."""
    folder, out = tmp_path / "held-out", tmp_path / "out"
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
        shutil.copy(album / "a.png", folder / part)
    shutil.copy(album / "b.jpg", folder / "images")
    result = run("--model", tiny_model, folder, "--out", out)
    assert result.exit_code == 0 and result.stdout == f"{out}: 2 masks made\n", result.output
    assert files(out / "labels") == ["a.png", "b.png"] and files(out / "images") == ["a.png", "b.jpg"]
    again = run("--model", tiny_model, out, "--out", tmp_path / "again")  # what predict wrote is one as well
    assert again.exit_code == 0 and files(tmp_path / "again" / "labels") == ["a.png", "b.png"], again.output


def test_a_linked_folder_is_not_followed_and_told(
    tiny_model: Path, album: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(album / "a.png", tmp_path / "elsewhere")
    (album / "linked").symlink_to(tmp_path / "elsewhere")
    result = run("--model", tiny_model, album, "--out", tmp_path / "out")
    assert result.exit_code == 0 and not (tmp_path / "out" / "labels" / "linked").exists()
    assert f"{album / 'linked'}: is a link to a folder, which is not followed" in caplog.text


@pytest.mark.parametrize("named", ["run", "run/dataset"])
def test_a_finished_dataset_is_refused_not_its_contact_sheet_predicted(
    tiny_model: Path, tmp_path: Path, named: str
) -> None:
    dataset = tmp_path / "run" / "dataset"
    dataset.mkdir(parents=True)
    Image.fromarray(noise((50, 70))).save(dataset / "contact_sheet.png")
    (dataset / "index.json").write_text("{}")
    (dataset / "train-000000.tar").write_bytes(b"")
    result = run("--model", tiny_model, tmp_path / named, "--out", tmp_path / "out")
    assert result.exit_code == 2 and not (tmp_path / "out").exists()
    assert f"{dataset}: is a finished dataset, whose pictures lie in shards: `synthgen export" in result.stderr


def test_what_is_there_is_left_alone_and_a_killed_call_goes_on(tiny_model: Path, album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("--model", tiny_model, album, "--out", out)
    assert run(*command).exit_code == 0
    whole = (out / "labels" / "b.png").read_bytes()
    (out / "labels" / "a.png").write_bytes(b"corrected by hand")
    (out / "labels" / "b.png").unlink()
    result = run(*command)
    assert (result.exit_code, result.stdout) == (
        0,
        f"{out}: 1 masks made, 2 were there and are left as they are, 1 other files passed over\n",
    )
    assert (out / "labels" / "a.png").read_bytes() == b"corrected by hand"
    assert (out / "labels" / "b.png").read_bytes() == whole
    for changes, says in (
        (["--tile", "32", "--overlap", "4"], "another tile"),
        (["--overlap", "4"], "another overlap"),
    ):
        result = run(*command, *changes)
        assert result.exit_code == 2 and f"{out}: holds masks of {says}: choose another folder" in result.stderr


def test_a_foreign_folder_is_refused_and_left_as_it_is(tiny_model: Path, album: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    result = run("--model", tiny_model, album, "--out", tmp_path / "out")
    assert result.exit_code == 2 and "holds files, but no predictions.json" in result.stderr
    assert files(tmp_path / "out") == ["thesis.txt"]


def test_bad_pictures_are_a_line_each_and_counted(
    tiny_model: Path, album: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (album / "broken.jpg").write_bytes((album / "b.jpg").read_bytes()[:300])
    (album / "b.png").write_bytes((album / "a.png").read_bytes())
    Image.fromarray(np.zeros((9, 9, 4), np.uint8)).save(album / "clear.png")
    out = tmp_path / "out"
    result = run("--model", tiny_model, album, "--out", out)
    assert result.exit_code == 1
    assert "3 masks made, 3 pictures refused" in result.stdout
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    for name, says in (
        ("broken.jpg", "cannot be read as an image"),
        ("clear.png", "has an alpha channel"),
        ("b.png", f"its mask would have the name of that of {album / 'b.jpg'}"),
    ):
        assert any(f"{album / name}: {says}" in line for line in lines)
    assert files(out / "labels") == ["a.png", "b.png", "town/a.png"]


def test_a_picture_too_small_for_the_network_is_a_line_and_the_others_are_predicted(
    settings, tiny_model: Path, tmp_path: Path
) -> None:
    pan = settings(arch="PAN", encoder="resnet18", decoder_channels="")
    (tmp_path / "pan").mkdir()
    save_model(build_segmenter(pan, load_model(tiny_model).label_space, torch.device("cpu")), tmp_path / "pan")
    (tmp_path / "in").mkdir()
    for side in (40, 128):
        Image.new("RGB", (side, side)).save(tmp_path / "in" / f"{side}.png")
    result = run(tmp_path / "in", "--model", tmp_path / "pan", "--out", tmp_path / "out", "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == 1 and (told["made"], len(told["refused"])) == (1, 1)
    assert "40.png: PAN with encoder resnet18: cannot take pictures of 64 x 64 px" in told["refused"][0]


@pytest.mark.parametrize("name", ["a.png", "a.bmp"])
@pytest.mark.parametrize("linked", [True, False])
def test_a_mask_of_an_earlier_call_is_not_taken_for_that_of_another_picture(
    tiny_model: Path, album: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, linked: bool
) -> None:
    """Frames of two films have the same names. A copy of the very picture, or its new place, is no other one."""
    out, other = tmp_path / "out", tmp_path / "other"
    assert run("--model", tiny_model, album, "--out", out).exit_code == 0
    if not linked:
        link = out / "images" / "a.png"
        data = link.read_bytes()
        link.unlink()
        link.write_bytes(data)
    other.mkdir()
    Image.fromarray(noise((50, 70), 7)).save(other / name)
    before = {path: (out / path).read_bytes() for path in files(out)}
    result = run("--model", tiny_model, other, "--out", out, "--confidence")
    assert result.exit_code == 1 and "0 masks made, 1 pictures refused" in result.stdout
    assert f"{other / name}: {out} has the mask of another picture of that name, " in caplog.text
    assert {path: (out / path).read_bytes() for path in files(out)} == before
    shutil.copytree(album, tmp_path / "copy")
    for again in ("copied", "moved"):
        if again == "moved":
            shutil.rmtree(album)
        result = run("--model", tiny_model, tmp_path / "copy", "--out", out)
        assert result.exit_code == 0 and "3 were there" in result.stdout, again
        assert np.array_equal(read_image(out / "images" / "a.png"), noise((50, 70))), "links follow the pictures"


def test_its_own_folder_inside_the_pictures_is_no_input(tiny_model: Path, album: Path) -> None:
    for made, there in ((3, 0), (0, 3)):
        result = run("--model", tiny_model, album, "--out", album / "masks", "--json")
        assert result.exit_code == 0, result.output
        assert (json.loads(result.stdout)["made"], json.loads(result.stdout)["there"]) == (made, there)


def test_the_folder_of_the_pictures_as_its_own_is_named_as_such(tiny_model: Path, album: Path) -> None:
    for given in (album, album / "town"):
        result = run("--model", tiny_model, given, "--out", album)
        assert result.exit_code == 2
        assert result.stderr.startswith(
            f"segtrain: {given}: lies in the folder of --out, whose own pictures are left out"
        )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{tmp}/none"], "{tmp}/none: no such file or folder"),
        (["{tmp}/album/town", "--tile", "64", "--overlap", "64"], "tile 64, overlap 64: "),
        (["{tmp}"], "{tmp}/no-model: no config.json, so no model"),
    ],
)
def test_a_users_mistake_is_one_line_and_leaves_nothing(
    album: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    result = run(
        "--model", tmp_path / "no-model", "--out", tmp_path / "out", *(a.format(tmp=tmp_path) for a in arguments)
    )
    assert result.exit_code == 2
    assert result.stderr.startswith(f"segtrain: {says.format(tmp=tmp_path)}") and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_tiles_cover_a_side_and_overlap_enough() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        tile = int(rng.integers(1, 60))
        overlap, length = int(rng.integers(0, tile)), int(rng.integers(1, 400))
        starts = (
            tile_starts(length, min(tile, length), overlap) if tile < length else tile_starts(length, length, overlap)
        )
        assert starts[0] == 0 and starts[-1] + min(tile, length) == length
        steps = np.diff(starts)
        assert (steps > 0).all() and (steps <= tile - overlap).all()


def test_logits_of_tiles_are_averaged(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole answer where one tile covers the picture, else the mean written out pixel by pixel."""
    model, image = load_model(tiny_model, "cpu"), noise((90, 75))
    for tile in (0, 90, 500):
        mask, _ = predict_by_tiles(model, image, tile, 10)
        assert np.array_equal(mask, model.predict([image])[0])
    sums, counts = np.zeros((2, 90, 75), np.float32), np.zeros((90, 75), np.float32)
    for top in (0, 25, 50):
        for left in (0, 17, 35):
            sums[:, top : top + 40, left : left + 40] += model.predict_logits(
                [image[top : top + 40, left : left + 40]]
            )[0]
            counts[top : top + 40, left : left + 40] += 1
    shares = np.exp(sums / counts)
    mask, confidence = predict_by_tiles(model, image, 40, 10)
    assert np.array_equal(mask, model.label_space.id_of_channel[shares.argmax(axis=0)])
    assert np.allclose(confidence, shares.max(axis=0) / shares.sum(axis=0), atol=1e-5)
    assert not np.array_equal(mask, model.predict([image])[0]), "these tiles are too small to give the whole answer"


def test_an_overlap_as_large_as_the_tile_never_ends(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="overlap 40: the overlap must be at least 0 and below the tile"):
        predict_by_tiles(load_model(tiny_model, "cpu"), noise((50, 50)), 40, 40)


def test_ctrl_c_is_one_line_and_the_same_command_goes_on(
    tiny_model: Path, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def once(*arguments: object) -> tuple[np.ndarray, np.ndarray]:
        if files(tmp_path / "out" / "labels"):
            raise KeyboardInterrupt
        return predict_by_tiles(*arguments)  # type: ignore[arg-type]

    command = ("--model", tiny_model, album, "--out", tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr("segtrain.predict.predict_by_tiles", once)
        result = run(*command)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "segtrain: stopped; the same command goes on where it stopped"
    assert "2 masks made, 1 were there" in run(*command).stdout


def test_a_second_prediction_in_the_folder_is_refused_while_the_first_one_runs(
    tiny_model: Path, album: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with only_process_in(out, "predicting"):
        result = run("--model", tiny_model, album, "--out", out)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert "another process is predicting here: wait for it, or choose another folder" in result.stderr
    assert run("--model", tiny_model, album, "--out", out).exit_code == 0
    assert not (out / ".lock").exists()


@pytest.mark.parametrize("tile", [(), ("--tile", 32, "--overlap", 4), ("--tile", 0)])
def test_eval_scores_the_very_masks_that_predict_writes(
    tiny_model: Path, tmp_path: Path, write_folder, tile: tuple[object, ...]
) -> None:
    """Some pictures are larger than a tile, some are not; a mask that is the prediction scores 1 everywhere."""
    pictures = [noise(size, seed) for seed, size in enumerate([(50, 70), (30, 31), (64, 96), (20, 40)])]
    blank = [np.zeros(picture.shape[:2], np.uint8) for picture in pictures]
    data = write_folder(tmp_path / "data", list(zip(pictures, blank, strict=True)))
    assert run("--model", tiny_model, data, "--out", tmp_path / "out", *tile).exit_code == 0
    for mask in (tmp_path / "out" / "labels").iterdir():
        shutil.copy(mask, data / "labels" / mask.name)
    words = ["eval", "--model", tiny_model, "--data", data, "--device", "cpu", "--json", "-", *tile]
    scored = CliRunner().invoke(app, [str(word) for word in words])
    assert scored.exit_code == 0, scored.output
    scores = json.loads(scored.stdout)
    assert (scores["pixel_accuracy"], scores["miou"], scores["num_images"]) == (1.0, 1.0, 4)
    if tile == ("--tile", 32, "--overlap", 4):
        whole = CliRunner().invoke(app, [str(word) for word in words[:-4]])
        assert json.loads(whole.stdout)["pixel_accuracy"] < 1, "small tiles answer otherwise"


def test_commands_and_functions_agree_on_the_tiles() -> None:
    assert (arguments.TILE_PX, arguments.OVERLAP_PX) == (tiles.TILE_PX, tiles.OVERLAP_PX)
