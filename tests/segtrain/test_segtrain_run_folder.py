"""Whose an output folder is: one training's, and one process's at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from doubles.killed_training import Killed, kill_at

from segtrain import lock
from segtrain.errors import ConfigError, ModelError, RunError
from segtrain.files import write_whole
from segtrain.methods.supervised.method import train
from segtrain.run_folder import check_owner, claimed
from segtrain.segmenter import load_model

SETTINGS = {"steps": 3, "ratio": (1, 2)}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_second_training_in_the_folder_is_refused_while_the_first_one_runs(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    code = (
        "import sys; from pathlib import Path; from segtrain.run_folder import claimed\n"
        "with claimed(Path(sys.argv[1]), {'steps': 3, 'ratio': [1, 2]}): print('in', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout and first.stdin
        assert first.stdout.readline() == "in\n"
        with pytest.raises(RunError, match="another process is training here: wait for it"), claimed(folder, SETTINGS):
            pass
        first.kill()
    with claimed(folder, SETTINGS):
        assert names(folder) == [".lock", "settings.json"]
    assert names(folder) == ["settings.json"], "what a killed process has left is gone"


def test_the_folder_of_other_settings_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    with claimed(tmp_path / "m", SETTINGS):
        pass
    before = (tmp_path / "m" / "settings.json").read_bytes()
    for refused in (
        lambda: check_owner(tmp_path / "m", {**SETTINGS, "ratio": (1, 3)}),
        lambda: claimed(tmp_path / "m", {**SETTINGS, "ratio": (1, 3)}).__enter__(),
    ):
        with pytest.raises(RunError, match=r"belongs to a training with ratio\[1\] = 2, not 3"):
            refused()
    check_owner(tmp_path / "m", SETTINGS)
    assert (tmp_path / "m" / "settings.json").read_bytes() == before


def test_checking_writes_nothing(tmp_path: Path) -> None:
    check_owner(tmp_path / "new", SETTINGS)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"steps": NaN}', '{"a": 1, "a": 2}'])
def test_settings_that_are_no_json_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(RunError, match=r"settings\.json") as caught:
        check_owner(tmp_path, SETTINGS)
    assert "\n" not in str(caught.value)


def test_a_training_that_cannot_begin_leaves_nothing_behind(settings, tmp_path: Path) -> None:
    """A misspelt encoder is found when the network is built; the folder is then still free for the right one."""
    with pytest.raises(ModelError, match="resnet99"):
        train(settings(encoder="resnet99", decoder_channels=""))
    assert not (tmp_path / "model").exists()
    assert train(settings(steps=1)) == tmp_path / "model"


def test_what_killed_writers_have_left_is_removed(tmp_path: Path) -> None:
    with claimed(tmp_path, SETTINGS):
        pass
    (tmp_path / ".checkpoint.pt.0123abcd.tmp").write_bytes(b"half")
    (tmp_path / ".notes.tmp").write_text("mine")
    with claimed(tmp_path, SETTINGS):
        assert names(tmp_path) == [".lock", ".notes.tmp", "settings.json"]


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second begins and ends while the first one is about to rename."""
    path = tmp_path / "scores.json"
    rename = Path.replace

    def meanwhile(temporary: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", rename)
        write_whole(path, b"second")
        return rename(temporary, target)

    monkeypatch.setattr(Path, "replace", meanwhile)
    write_whole(path, b"first")
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["scores.json"]


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written: Not a directory"):
        write_whole(tmp_path / "file" / "scores.json", b"")


def test_a_full_disk_under_the_curves_is_one_line(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("segtrain.board.SummaryWriter.add_scalar", full)
    with pytest.raises(RunError, match="tensorboard: cannot be written: No space left on device"):
        train(settings(steps=3))


def test_a_checkpoint_of_another_form_is_one_line(settings, tmp_path: Path) -> None:
    """As an earlier version wrote it: what AdamW keeps was a list there."""
    import torch

    config = settings(steps=2)
    folder = train(config)
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
    for content in ({"step": 1}, "text", {"step": 1, "network": {}, "optimiser": [], "method": {}, "drawn": []}):
        torch.save(content, folder / "checkpoint.pt")
        with pytest.raises(RunError, match=r"checkpoint.pt: damaged .* remove this file to train from the start"):
            train(config)
    assert json.loads((folder / "settings.json").read_text())["steps"] == 2


def test_more_steps_are_one_line_with_the_way_and_the_way_works(settings, tmp_path: Path) -> None:
    folder = train(settings(steps=2))
    with pytest.raises(RunError) as caught:
        train(settings(steps=4))
    assert str(caught.value) == (
        f"{folder}: holds a finished training of 2 steps, not 4; the learning rate follows from their number, so none "
        "can be added: train on from its model with --init-from and another --out"
    )
    longer = train(settings(steps=4, init_from=folder, out=tmp_path / "longer", learning_rate=1e-9))
    ours, theirs = (load_model(path, "cpu").network.state_dict() for path in (longer, folder))
    moved = max((ours[name] - theirs[name]).abs().max() for name in ours if name.endswith("conv.weight"))
    assert moved < 1e-6, "it began with those weights, not with random ones"
    with pytest.raises(RunError, match="belongs to a training with init_from"):
        train(settings(steps=4, out=tmp_path / "longer", learning_rate=1e-9))


def test_more_steps_of_an_unfinished_training_are_one_line(settings, tmp_path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 3)
        train(settings())
    with pytest.raises(
        RunError, match=r"an unfinished training of 6 steps, not 9; .* go on with --steps 6, then train"
    ):
        train(settings(steps=9))
    with pytest.raises(RunError, match="belongs to a training with steps = 6, not 9"):
        train(settings(steps=9, seed=3))


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"arch": "FPN", "decoder_channels": ""}, ModelError, 'its model_class is "Unet", here it is "FPN": give the'),
        ({"decoder_channels": "8,8,8,8,4"}, ModelError, r"its decoder_channels is \[8, 8, 8, 8, 8\], here"),
        ({"init_from": "nowhere"}, ConfigError, "init_from: nowhere/model.safetensors: no such file: name the folder"),
    ],
)
def test_a_model_of_another_network_is_no_start(settings, tiny_model: Path, tmp_path, changes, error, says) -> None:
    with pytest.raises(error, match=says):
        train(settings(**{"init_from": tiny_model, **changes}))
    assert not (tmp_path / "model").exists()


def test_a_model_of_other_classes_is_no_start(settings, tiny_model: Path, write_folder, pairs, tmp_path: Path) -> None:
    classes = ({"id": 0, "name": "ground"}, {"id": 5, "name": "other"})
    data = write_folder(tmp_path / "data", pairs(2), classes=classes)
    with pytest.raises(ModelError, match="its classes are ground, thing, those of the data are ground, other"):
        train(settings(init_from=tiny_model, data=[str(data)]))


def test_a_lock_that_its_holder_has_just_removed_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking, the one who held it ends: what is locked then is a file that nobody sees."""
    real, calls = lock.fcntl.flock, []

    def flock(file: object, how: int) -> None:
        if not calls:
            (tmp_path / ".lock").unlink()
        calls.append(how)
        real(file, how)

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with lock.only_process_in(tmp_path, "training"):
        assert len(calls) == 2 and (tmp_path / ".lock").is_file()
        with (
            pytest.raises(RunError, match="another process is training here"),
            lock.only_process_in(tmp_path, "training"),
        ):
            pass
    assert names(tmp_path) == []
