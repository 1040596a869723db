"""Which label space a recipe names."""

from __future__ import annotations

from pathlib import Path

import pytest

from segkit.errors import LabelError
from synthgen.labels import read_label_space
from synthgen.shipped import shipped_folder


def test_missing_label_space_names_the_shipped_ones(tmp_path: Path) -> None:
    for name in ("objcts", str(tmp_path / "none.yaml")):
        with pytest.raises(LabelError, match=r"label space '.*': no file .*; shipped ones: .*objects"):
            read_label_space(name)


def test_a_folder_is_no_label_space(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="is a folder, must be a regular file"):
        read_label_space(f"{tmp_path}/")


def test_every_shipped_label_space_can_be_read() -> None:
    names = [path.parent.name for path in shipped_folder("prompts").glob("*/labels.yaml")]
    assert {"objects", "cityscapes", "voc"} <= set(names)
    for name in names:
        assert read_label_space(name).foreground
