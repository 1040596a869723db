"""`segtrain export`: the file gives the model's logits at sizes that it was not made with, and says what they mean."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

import segtrain.export
from segtrain.cli import app
from segtrain.segmenter import Segmenter, build_segmenter, load_model, save_model


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *(str(a) for a in arguments)])


def picture(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (*size, 3), dtype=np.uint8)


def require_same(model: Segmenter, answer, facts: dict[str, str]) -> None:
    """At sizes that neither the export nor its check has seen; `answer` takes (1, 3, H, W) uint8."""
    for size in ((33, 130), (160, 64), (1, 1)):
        image = picture(size)
        (expected,) = model.predict_logits([image])
        assert np.abs(answer(image.transpose(2, 0, 1)[None].copy())[0] - expected).max() < 1e-4
    assert json.loads(facts["label_space"]) == model.label_space.to_json()
    assert "uint8 RGB" in facts["input"] and "float32" in facts["output"]


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
def test_torchscript_gives_the_models_logits_and_its_classes(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "model.pt"
    result = run("--model", tiny_model, "--to", "torchscript", "--out", out)
    assert result.exit_code == 0, result.output
    assert f"{out}: torchscript, " in result.stdout
    assert "on random pictures of 64 x 96 and 90 x 75 px its logits differ from the model's by at most" in result.stdout
    facts: dict[str, str] = {"label_space": "", "input": "", "output": ""}
    loaded = torch.jit.load(out, _extra_files=facts)
    texts = {name: value.decode() if isinstance(value, bytes) else value for name, value in facts.items()}
    require_same(load_model(tiny_model, "cpu"), lambda image: loaded(torch.from_numpy(image)).detach().numpy(), texts)


def test_onnx_gives_the_models_logits_and_its_classes(tiny_model: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    out = tmp_path / "model.onnx"
    result = run("--model", tiny_model, "--to", "onnx", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["difference"] < 1e-4 < told["scale"] and told["num_bytes"] == out.stat().st_size
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    require_same(load_model(tiny_model, "cpu"), lambda image: session.run(None, {"image": image})[0], facts)


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
def test_a_network_that_takes_no_small_pictures_is_checked_on_larger_ones(
    settings, tiny_model: Path, tmp_path: Path
) -> None:
    config, space = settings(arch="PAN", encoder="resnet18", decoder_channels=""), load_model(tiny_model).label_space
    (tmp_path / "pan").mkdir()
    save_model(build_segmenter(config, space, torch.device("cpu")), tmp_path / "pan")
    result = run("--model", tmp_path / "pan", "--to", "torchscript", "--out", tmp_path / "pan.pt")
    assert result.exit_code == 0, result.output
    assert "on random pictures of 128 x 192 and 180 x 150 px" in result.stdout and (tmp_path / "pan.pt").is_file()


def test_an_export_that_gives_other_logits_is_not_written(tiny_model: Path, tmp_path: Path, monkeypatch) -> None:
    honest = segtrain.export.KINDS["torchscript"]
    wrong = segtrain.export._Kind(honest.encode, lambda data: lambda image: 1.01 * honest.open(data)(image))
    monkeypatch.setitem(segtrain.export.KINDS, "torchscript", wrong)
    result = run("--model", tiny_model, "--to", "torchscript", "--out", tmp_path / "m.pt")
    assert result.exit_code == 2 and "gives other logits, by up to " in result.stderr
    assert result.stderr.count("\n") == 1 and not (tmp_path / "m.pt").exists()


def test_a_network_that_cannot_be_exported_is_one_line(tiny_model: Path, tmp_path: Path, monkeypatch) -> None:
    """It branches on its pixels in a way that tracing refuses."""

    class Stubborn(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            raise NotImplementedError("aten::stubborn\nis not known")

    real = load_model(tiny_model, "cpu")
    real.network = Stubborn()
    monkeypatch.setattr("segtrain.export.load_model", lambda folder, device: real)
    result = run("--model", tiny_model, "--to", "torchscript", "--out", tmp_path / "m.pt")
    assert result.exit_code == 2 and result.stderr == (
        f"segtrain: {tiny_model}: network 'smp' (Unet) cannot be exported to torchscript: aten::stubborn is not known\n"
    )
    assert not (tmp_path / "m.pt").exists()


def test_what_is_there_and_what_is_no_format_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_text("mine")
    for to, out, says in (
        ("torchscript", "m.pt", "is there already"),
        ("tflite", "m.tf", "there are: onnx, torchscript"),
    ):
        result = run("--model", tiny_model, "--to", to, "--out", tmp_path / out)
        assert result.exit_code == 2 and says in result.stderr and result.stderr.count("\n") == 1
    assert (tmp_path / "m.pt").read_text() == "mine" and not (tmp_path / "m.tf").exists()
