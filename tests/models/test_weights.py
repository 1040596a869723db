from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

from synthgen.errors import ModelError
from synthgen.models import weights
from synthgen.models.devices import torch_device, torch_dtype
from synthgen.settings import Execution


def test_local_paths_hub_ids_and_minis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_MINIS", tmp_path)
    (tmp_path / "sam").mkdir()
    assert weights.resolve("mini/sam") == tmp_path / "sam"
    assert weights.resolve(str(tmp_path / "sam")) == tmp_path / "sam"
    assert weights.resolve("openai/clip-vit-base-patch32") == "openai/clip-vit-base-patch32"
    assert weights.resolve("hf-hub:laion/CLIP-ViT-B-32") == "laion/CLIP-ViT-B-32"
    with pytest.raises(ModelError, match=r"mini/clip: .*there: mini/sam.*python -m synthgen\.minis\.train clip"):
        weights.resolve("mini/clip")


@pytest.mark.parametrize("model", ["/no/such/folder", "./nothing", "sam_vit_h_4b8939.pth", "a/b/c", ""])
def test_a_path_that_does_not_exist_is_not_taken_for_a_hub_id(model: str) -> None:
    with pytest.raises(ModelError, match="no such file or folder"):
        weights.resolve(model)


@pytest.mark.parametrize(
    ("name", "begins"),
    [("sam_vit_h_4b8939.pth", "a7bf3b02"), ("sam_vit_l_0b3195.pth", "3adcc431"), ("sam_vit_b_01ec64.pth", "ec2df627")],
)
def test_an_official_checkpoint_that_is_not_there_is_told_with_its_link_and_checksum(name: str, begins: str) -> None:
    link = (
        rf"get it from https://dl\.fbaipublicfiles\.com/segment_anything/{name} \(SHA-256 {begins}[0-9a-f]{{56}}\); or"
    )
    for model in (name, f"./weights/{name}"):
        with pytest.raises(ModelError, match=link):
            weights.resolve(model)
    with pytest.raises(ModelError, match="give a local path that exists"):
        weights.resolve("my_sam_vit_h.pth")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OfflineModeIsEnabled("the repository 40301... may be private or gated"), "not in the local cache"),
        (LocalEntryNotFoundError("no 404 here"), "not in the local cache"),
        (HFValidationError("a b c"), "not on the Hub under this id"),
        (ValueError("size mismatch\nfor x: 1 vs 2"), "cannot be loaded.*size mismatch for x"),
    ],
)
def test_the_reason_is_found_behind_the_loaders_own_error(error: Exception, says: str) -> None:
    wrapped = RuntimeError("Failed initial config/weights load")
    wrapped.__cause__ = error
    for link in (error, wrapped):
        line = str(weights.hub_error("owner/name", link))
        assert "owner/name" in line
        assert "\n" not in line
    with pytest.raises(ModelError, match=says):
        raise weights.hub_error("owner/name", error)


def test_devices_and_types() -> None:
    cpu = torch_device(Execution(device="cpu"))
    assert cpu.type == "cpu"
    assert str(torch_dtype(Execution(), cpu)) == "torch.float32"
    assert str(torch_dtype(Execution(dtype="bfloat16"), cpu)) == "torch.bfloat16"
    with pytest.raises(ModelError, match="not a device"):
        torch_device(Execution(device="toaster"))
    with pytest.raises(ModelError, match="no such GPU here"):
        torch_device(Execution(device="cuda:99"))
