"""Which ControlNet a name stands for, what it is fed, and what is refused before a weight is loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
from doubles.hub import hub
from doubles.mini_family import SINGLE_STREAM, write_controlnet, write_family
from doubles.processes import environment

from segkit.errors import ModelError, UserError
from synthgen.labels import Label, LabelSpace, read_label_space
from synthgen.models.control import Control, Kind, Scale
from synthgen.models.control_fit import require_fit
from synthgen.models.controlnets import (
    ControlNet,
    control_of,
    find_controlnet,
    published_controlnets,
    transformer_config,
)
from synthgen.models.model_facts import FACTS, ModelFacts, write_model_facts
from synthgen.models.renderers import sd3
from synthgen.models.sizes import controlnet_of
from synthgen.settings import Execution

TWO = LabelSpace("two", (Label(0, "a", (1, 2, 3)), Label(5, "b", (200, 0, 0))))


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_family(tmp_path_factory.mktemp("family"))


def net_of(name: str = "somebody/net", facts: ModelFacts | None = None, **config: Any) -> ControlNet:
    """A ControlNet that goes with BASE, but for `config`."""
    own = {"joint_attention_dim": 4096, "extra_conditioning_channels": 0, "num_layers": 12}
    return ControlNet(name, name, {}, facts or ModelFacts(), BASE | own | config)


BASE: dict[str, Any] = {
    "num_attention_heads": 24,
    "attention_head_dim": 64,
    "in_channels": 16,
    "patch_size": 2,
    "pooled_projection_dim": 2048,
    "joint_attention_dim": 4096,
    "num_layers": 24,
}


def render_options(family: Path, net: Path | str, **options: Any) -> sd3.Options:
    return sd3.Options(**{"model": str(family), "controlnet": str(net), "steps": 1, **options})


def build(family: Path, net: Path | str, **options: Any) -> sd3.Sd3Renderer:
    return sd3.build(render_options(family, net, **options), Execution(device="cpu"))


# the list


def test_every_published_net_is_an_entry_with_a_source() -> None:
    for name, entry in published_controlnets().items():
        assert entry.control in typing.get_args(Kind) and entry.scale in typing.get_args(Scale)
        assert entry.source and entry.base and name.count("/") in (1, 2)
        assert not entry.label_space or read_label_space(entry.label_space)
        assert (entry.control == "palette") == bool(entry.label_space)


@pytest.mark.parametrize(
    ("name", "control"),
    [
        ("stabilityai/stable-diffusion-3.5-large-controlnet-canny", Control("edges", scale="half_levels")),
        ("stabilityai/stable-diffusion-3.5-large-controlnet-depth", Control("depth")),
        ("stabilityai/stable-diffusion-3.5-large-controlnet-blur", Control("image")),
        ("hf-hub:tensorart/SD3.5M-Controlnet-Canny", Control("edges")),
        ("tensorart/SD3.5M-Controlnet-Depth", Control("depth")),
        ("InstantX/SD3-Controlnet-Canny", Control("edges")),
        ("InstantX/SD3-Controlnet-Depth", Control("depth")),
        ("InstantX/SD3-Controlnet-Pose", Control("image")),
        ("InstantX/SD3-Controlnet-Tile", Control("image")),
    ],
)
def test_published_nets_are_fed_as_their_cards_say(name: str, control: Control) -> None:
    assert control_of(net_of(name), "auto", "") == control


@pytest.mark.parametrize("name", ["mini/streets-day", "mini/streets-day/controlnet"])
def test_the_shipped_net_says_itself_what_it_is_fed(name: str) -> None:
    control = control_of(find_controlnet(name), "auto", "")
    assert (control.kind, control.scale) == ("palette", "signed")
    assert control.labels is not None
    streets = [(label.id, label.name, label.colour) for label in read_label_space("streets").labels]
    assert [(label.id, label.name, label.colour) for label in control.labels.labels] == streets


def test_their_sizes_are_known_where_the_list_has_them(family: Path, tmp_path: Path) -> None:
    canny = controlnet_of("stabilityai/stable-diffusion-3.5-large-controlnet-canny")
    assert canny is not None and (canny.parameters, canny.download_gb) == (2157e6, 8.65)
    assert controlnet_of("nobody/net") is controlnet_of("InstantX/SD3-Controlnet-Pose") is None
    write_controlnet(tmp_path / "model" / "controlnet", family)
    (tmp_path / "model" / "lora").mkdir()
    whole, inner = (controlnet_of(str(tmp_path / "model" / part)) for part in ("", "controlnet"))
    assert whole == inner and whole is not None and whole.parameters > 1000


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("alimama-creative/SD3-Controlnet-Inpainting", "it fills a hole in a photograph"),
        (
            "stabilityai/stable-diffusion-3.5-controlnets",
            "name stabilityai/stable-diffusion-3.5-large-controlnet-canny",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_without_asking_the_hub(name: str, says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        find_controlnet(name)
    assert repr(name) in str(caught.value) and "\n" not in str(caught.value)


def test_the_document_has_the_whole_list() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "CONTROLNETS.md").read_text()
    rows = {row.split("`")[1]: row for row in text.splitlines() if row.startswith("| `") and "/" in row.split("`")[1]}
    assert set(rows) == {name for name in published_controlnets() if not name.startswith("mini/")}
    for name, row in rows.items():
        entry = published_controlnets()[name]
        assert ("refused" in row) == bool(entry.refused)
        if entry.refused:
            continue
        assert f"`{entry.control}`" in row and ("255 x / 2 + 0.5" in row) == (entry.scale == "half_levels")
        advised = {key: value for key, value in entry.advised.model_dump().items() if value}
        assert row.split("|")[4].strip() == ", ".join(f"`{key}` {value:g}" for key, value in advised.items())


# what it is fed


def test_classes_without_colours_are_fed_as_channels_alone() -> None:
    bare = LabelSpace("bare", (Label(0, "a"), Label(5, "b")))
    one_black = LabelSpace("one", (Label(0, "a"), Label(5, "b", (0, 0, 1))))
    trained = net_of(facts=ModelFacts(control=Control("onehot", bare)))
    assert control_of(trained, "auto", "") == Control("onehot", bare)
    with pytest.raises(UserError, match=r"'bare': 'a' and 'b' are both black.*give each class a `colour`"):
        control_of(trained, "palette", "")
    fed = net_of(facts=ModelFacts(control=Control("palette", one_black)))
    assert control_of(fed, "auto", "") == Control("palette", one_black)


def test_a_folder_says_it_the_recipe_has_the_last_word() -> None:
    cityscapes = read_label_space("cityscapes")
    trained = net_of(facts=ModelFacts(control=Control("onehot", TWO)))
    assert control_of(trained, "auto", "") == control_of(trained, "onehot", "") == Control("onehot", TWO)
    assert control_of(trained, "palette", "") == Control("palette", TWO)
    assert control_of(trained, "auto", "cityscapes") == Control("onehot", cityscapes)
    assert control_of(trained, "depth", "") == Control("depth")
    unmarked = net_of()
    assert control_of(unmarked, "auto", "cityscapes") == Control("palette", cityscapes)
    assert control_of(unmarked, "onehot", "cityscapes") == Control("onehot", cityscapes)
    assert control_of(unmarked, "edges", "") == Control("edges")
    canny = net_of("stabilityai/stable-diffusion-3.5-large-controlnet-canny")
    assert control_of(canny, "edges", "").scale == "half_levels"


@pytest.mark.parametrize(
    ("net", "kind", "palette", "says"),
    [
        (net_of(), "auto", "", r"nothing says what it must be fed .* set render\.renderer\.control to palette, onehot"),
        (net_of(), "palette", "", r"set render\.renderer\.control_palette to the label space"),
        (net_of(), "onehot", "", r"control_palette .*render\.renderer\.control=onehot needs"),
        (net_of(), "edges", "voc", r"is fed edges, which has no palette: leave render\.renderer\.control_palette out"),
        (net_of("InstantX/SD3-Controlnet-Pose"), "auto", "voc", "is fed image, which has no palette"),
        (net_of(), "auto", "vocc", "label space 'vocc': no file"),
    ],
)
def test_what_nobody_says_and_contradictions_are_one_line(net: ControlNet, kind: str, palette: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        control_of(net, kind, palette)
    assert "\n" not in str(caught.value)


# whether it fits


def test_nets_that_fit() -> None:
    require_fit(net_of(), Control("edges"), BASE, "base")
    require_fit(net_of(num_layers=24), Control("depth"), BASE, "base")
    require_fit(net_of(joint_attention_dim=None), Control("image"), BASE, "base")
    require_fit(net_of(extra_conditioning_channels=3), Control("onehot", TWO), BASE, "base")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_attention_heads": 38}, r"width .* is 2432, the denoiser's is 1536"),
        ({"attention_head_dim": 32}, r"width .* is 768, the denoiser's is 1536"),
        ({"joint_attention_dim": 2048}, "joint_attention_dim is 2048, the denoiser's is 4096"),
        ({"pooled_projection_dim": 512}, "pooled_projection_dim is 512, the denoiser's is 2048"),
        ({"in_channels": 4}, "in_channels is 4, the denoiser's is 16"),
        ({"patch_size": 4}, "patch_size is 4, the denoiser's is 2"),
        ({"num_layers": 38}, "it has 38 layers, the denoiser has 24"),
    ],
)
def test_widths_of_another_denoiser_are_one_line(changes: dict[str, Any], says: str) -> None:
    net = net_of("tensorart/SD3.5M-Controlnet-Canny", **changes)
    with pytest.raises(ModelError, match=says) as caught:
        require_fit(net, Control("edges"), BASE, "some/base")
    text = str(caught.value)
    assert (
        "'some/base'" in text and "trained for (stabilityai/stable-diffusion-3.5-medium)" in text and "\n" not in text
    )


LARGE, MEDIUM, SD3 = (
    f"stabilityai/stable-diffusion-{name}" for name in ("3.5-large", "3.5-medium", "3-medium-diffusers")
)
EIGHT_B = {"num_attention_heads": 38, "num_layers": 19, "joint_attention_dim": None, "use_pos_embed": False}


@pytest.mark.parametrize(
    ("name", "config", "base"),
    [
        ("stabilityai/stable-diffusion-3.5-large-controlnet-canny", EIGHT_B, LARGE),
        ("tensorart/SD3.5M-Controlnet-Depth", {"num_layers": 23}, MEDIUM),
        ("InstantX/SD3-Controlnet-Canny", {"num_layers": 6}, SD3),
        ("InstantX/SD3-Controlnet-Tile", {"num_layers": 12}, SD3),
    ],
)
def test_published_nets_go_with_their_own_model_alone(name: str, config: dict[str, Any], base: str) -> None:
    """SD3-Medium and SD3.5-Medium have the same widths: there the list must know."""
    large = {"num_attention_heads": 38, "num_layers": 38}
    for model, widths in ((LARGE, large), (MEDIUM, {}), (SD3, {})):
        net, denoiser = net_of(name, **config), BASE | widths
        if model == base:
            require_fit(net, control_of(net, "auto", ""), denoiser, model)
            require_fit(net, control_of(net, "auto", ""), denoiser, "my/finetuned-model")
            continue
        with pytest.raises(ModelError, match=f"does not go with '{model}'.*{base}") as caught:
            require_fit(net, control_of(net, "auto", ""), denoiser, model)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("extra", "control", "says"),
    [
        (1, Control("edges"), "wants 1 channels .*, edges brings 0: such a mask, as for inpainting"),
        (20, Control("palette", TWO), r"wants 20 channels .*, palette brings 0: set render\.renderer\.control=onehot"),
        (20, Control("onehot", TWO), r"onehot brings 3 \(2 classes of 'two' and no class\): set .*control_palette"),
        (0, Control("onehot", TWO), "wants 0 channels"),
    ],
)
def test_channels_that_nobody_brings_are_one_line(extra: int, control: Control, says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        require_fit(net_of(extra_conditioning_channels=extra), control, BASE, "base")
    assert "\n" not in str(caught.value)


def test_the_renderer_refuses_before_a_weight_is_loaded(family: Path, tmp_path: Path) -> None:
    """The weights of these folders are damaged: nobody may look at them."""
    wide = write_controlnet(tmp_path / "wide", family, num_attention_heads=4)
    mask = write_controlnet(tmp_path / "mask", family, extra_conditioning_channels=1)
    unmarked = write_controlnet(tmp_path / "unmarked", family)
    deep = write_controlnet(tmp_path / "deep", family, num_layers=3)
    for folder in (wide, mask, unmarked, deep):
        (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    other = tmp_path / "other"
    shutil.copytree(unmarked, other)
    (other / "config.json").write_text('{"_class_name": "ControlNetModel"}')
    for folder, says in (
        (wide, r"width .* is 96, the denoiser's is 48"),
        (mask, "wants 1 channels beside the latents"),
        (unmarked, "nothing says what it must be fed"),
        (deep, "it has 3 layers, the denoiser has 2"),
        (other, "says ControlNetModel, and this renderer needs an SD3ControlNetModel"),
        (tmp_path, "cannot be loaded|lacks a file"),
    ):
        options = {} if folder is unmarked else {"control": "edges"}
        with pytest.raises(ModelError, match=says) as caught:
            build(family, folder, **options)
        assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"not a label space|label_space"):
        (unmarked / FACTS).write_text('{"control": "onehot"}')
        build(family, unmarked)


def test_defaults_of_the_classes_are_filled_in(family: Path, tmp_path: Path) -> None:
    """Published configurations leave keys out; what the class takes for them is what counts."""
    place = write_controlnet(tmp_path / "net", family)
    config = json.loads((place / "config.json").read_text())
    del config["extra_conditioning_channels"], config["force_zeros_for_pooled_projection"]
    (place / "config.json").write_text(json.dumps(config))
    net = find_controlnet(str(place))
    assert net.config["extra_conditioning_channels"] == 0 and net.config["force_zeros_for_pooled_projection"] is True
    require_fit(net, Control("edges"), transformer_config(family, {}, "family"), "family")


def test_the_smaller_grid_of_positions_bounds_the_size(family: Path, tmp_path: Path) -> None:
    from synthgen.models import RenderJob

    few = write_controlnet(tmp_path / "few", family, pos_embed_max_size=4)
    none = write_controlnet(tmp_path / "none", family, **SINGLE_STREAM)
    job = RenderJob("k", "a car", "", 1, 64, 64, None, None, None, None)
    with pytest.raises(ModelError, match="has positions for 32 px a side at the most"):
        build(family, few, control="edges").render([job])
    with pytest.raises(ModelError, match="needs a label map"):  # 64 px are no trouble where the denoiser's are used
        build(family, none, control="edges").render([job])


# on the Hub

RENDER = """
import hashlib, sys
import numpy as np
from synthgen.errors import ModelError
from synthgen.models import RenderJob
from synthgen.models.renderers import sd3
from synthgen.settings import Execution
for net in sys.argv[2:]:
    name, _, revision = net.partition("@")
    options = sd3.Options(model=sys.argv[1], controlnet=name, controlnet_revision=revision, steps=1)
    try:
        model = sd3.build(options, Execution(device="cpu"))
        layout = np.repeat(np.array([0, 5, 5, 0], np.uint8), 8)[:, None].repeat(32, 1)
        [made] = model.render([RenderJob("k", "a car", "", 1, 32, 32, None, None, None, layout)])
        print("made", hashlib.sha256(made.image.tobytes()).hexdigest())
    except ModelError as error:
        print("error", error)
"""


def test_a_repository_with_the_files_of_adapt_is_used_as_the_folder_is(family: Path, tmp_path: Path) -> None:
    trained, unmarked = tmp_path / "trained", tmp_path / "unmarked"
    write_controlnet(trained / "controlnet", family)
    write_model_facts(ModelFacts(0, Control("palette", TWO)), trained)
    shutil.copytree(trained / "controlnet", unmarked)
    with hub() as standin:
        repository = standin.add("somebody/trained", trained)
        standin.add("somebody/unmarked", unmarked)
        later = shutil.copytree(trained, tmp_path / "later")
        write_controlnet(later / "controlnet", family, num_layers=2)
        commit = repository.refs["main"]
        repository.move(later)
        nets = [str(trained), str(later), f"somebody/trained@{commit}", "somebody/trained", "somebody/unmarked"]
        done = subprocess.run(
            [sys.executable, "-c", RENDER, str(family), *nets],
            env=environment(HF_ENDPOINT=standin.url, HF_HOME=str(tmp_path / "home"), TQDM_DISABLE="1", HF_TOKEN=""),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    local, local_later, pinned, moved, refused = [
        line for line in done.stdout.splitlines() if line.startswith(("made", "error"))
    ]
    assert local.startswith("made") and pinned == local
    assert moved == local_later != local
    assert "'somebody/unmarked': nothing says what it must be fed" in refused
