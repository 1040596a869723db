"""Networks out of a folder or repository in diffusers' layout: whole, or refused in one line.

diffusers and transformers fill what a file lacks with random numbers and say so in a log alone. Images then come as if
nothing were wrong, others at each load.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from segkit.printable import excerpt
from synthgen.errors import ModelError, in_one_line
from synthgen.models.weights import HUB_ERRORS, hub_error, loading

SUFFIXES = (".safetensors", ".bin")
_HEADER_BYTES = 100 << 20


def pipeline_index(
    model: str,
    place: Path | str,
    revision: dict[str, str],
    families: Collection[str] = (),
    way_out: str = "",
    single_file: str = "",
) -> dict[str, Any]:
    """`model_index.json` of a pipeline whose class begins with one of `families`; () = any.

    Raises ModelError in one line for a single checkpoint file, for what has no such index, and for a pipeline of
    another family: `way_out` says what to do with that one, `single_file` with a file.
    """
    from diffusers import DiffusionPipeline

    if isinstance(place, Path) and place.is_file():
        raise ModelError(
            f"model {model!r}: is a single checkpoint file, and `model` names a folder or repository in diffusers' "
            f"layout; name that{single_file}"
        )
    with loading(model):
        index: dict[str, Any] = DiffusionPipeline.load_config(place, **revision)
    kind = str(index.get("_class_name"))
    if families and not kind.startswith(tuple(families)):
        raise ModelError(
            f"model {model!r}: its model_index.json says {excerpt(kind, 60)}, and this backend reads "
            f"{', '.join(families)}; {way_out}"
        )
    return index


def model_config(model: str, place: Path | str, revision: dict[str, str], kinds: Collection[str], way_out: str) -> Any:
    """transformers' configuration of a model whose `model_type` is one of `kinds`.

    Raises ModelError in one line if it cannot be had, and for a model of another kind: `way_out` says what to do.
    """
    from transformers import AutoConfig

    with loading(model):
        config = AutoConfig.from_pretrained(place, **revision)
    if config.model_type not in kinds:
        raise ModelError(
            f"model {model!r}: its config.json says {excerpt(config.model_type, 60)}, and this backend reads "
            f"{', '.join(kinds)}; {way_out}"
        )
    return config


def load_network(
    kind: Any,
    model: str,
    place: Path | str,
    subfolder: str,
    dtype: Any,
    revision: dict[str, str],
    *,
    variant: str = "",
    way_out: str = "",
    **more: Any,
) -> Any:
    """A network of class `kind` (diffusers' or transformers') in evaluation mode, on the CPU.

    `variant` is that of the file names (`model.fp16.safetensors`); without it, plain files are taken, or, where there
    are none, those of the only variant. Raises ModelError in one line if the weights cannot be had, or lack any tensor
    of the network; `way_out` is added to it.
    """

    def load(variant: str) -> Any:
        options = {**revision, **more, **({"variant": variant} if variant else {})}
        if subfolder:
            options["subfolder"] = subfolder
        network, report = kind.from_pretrained(place, dtype=dtype, output_loading_info=True, **options)
        _require_whole(network, model, subfolder, report)
        return network.eval()

    try:
        with loading(model):
            if not variant:
                try:
                    return load("")
                except OSError:
                    variant = _only_variant(place, subfolder, revision)
                    if not variant:
                        raise
            return load(variant)
    except ModelError as error:
        raise ModelError(f"{error}{way_out}") from error


def load_single_file(
    kind: Any, file: str, model: str, place: Path | str, subfolder: str, dtype: Any, revision: dict[str, str]
) -> Any:
    """A network from one .safetensors file in the layout of its authors or of ComfyUI, shaped by the configuration in
    `place`.

    Raises ModelError in one line for a file that is not there, is of another format, or does not hold the network.
    """
    path = Path(file).expanduser()
    where = f"render.renderer.denoiser_file {file!r}"
    if not path.is_file():
        raise ModelError(f"{where}: no such file; give the path of a .safetensors file")
    if path.suffix != ".safetensors":
        raise ModelError(f"{where}: only .safetensors files are read; take the file of that format (bf16 or fp16)")
    scaled = next((name for name in _tensor_names(path) if name.endswith(("scale_weight", "scaled_fp8"))), "")
    if scaled:
        raise ModelError(
            f"{where}: stores weights of 8 bits with scales of their own ({excerpt(scaled, 60)}), which only ComfyUI "
            "reads; take the bf16 or fp16 file, and execution.quantise=fp8 to save memory"
        )
    at = {"config_revision": revision["revision"]} if revision else {}
    try:
        network = kind.from_single_file(str(path), config=str(place), subfolder=subfolder, dtype=dtype, **at)
    except (*HUB_ERRORS, LookupError) as error:
        raise ModelError(
            f"{where}: does not hold the denoiser of {model!r} ({in_one_line(error, 160)}); name the model that the "
            "file belongs to"
        ) from error
    _require_whole(network, file, subfolder, {})
    return network.eval()


def _require_whole(network: Any, model: str, subfolder: str, report: dict[str, Any]) -> None:
    """diffusers leaves what is missing without storage, transformers names it in its report."""
    missing = sorted(str(name) for name in report.get("missing_keys", ()))
    missing = missing or sorted(name for name, weight in network.named_parameters() if weight.is_meta)
    if missing:
        raise ModelError(
            f"model {model!r}: the weights{f' of {subfolder}' if subfolder else ''} lack {len(missing)} of its tensors "
            f"(the first: {excerpt(missing[0], 80)}), which would be random numbers; copy the folder again, or take "
            "the weights of this very network"
        )


def _only_variant(place: Path | str, subfolder: str, revision: dict[str, str]) -> str:
    """`fp16` of `model.fp16.safetensors` and of `model.fp16-00001-of-00002.safetensors`; "" if there are no files, or
    several variants."""
    found = set()
    for name in _names(place, revision):
        folder, _, file = name.rpartition("/")
        if folder == subfolder and file.endswith(SUFFIXES):
            found.add(file.split(".")[1].partition("-")[0] if file.count(".") > 1 else "")
    return found.pop() if len(found) == 1 else ""


def _names(place: Path | str, revision: dict[str, str]) -> Sequence[str]:
    """Of the files of a folder or repository; none where nobody can say."""
    if isinstance(place, Path):
        return [path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()]
    from huggingface_hub import HfApi, HTTPError

    ask: Callable[..., list[str]] = HfApi().list_repo_files
    try:
        return ask(place, **revision)
    except (HTTPError, *HUB_ERRORS):
        return []


def _tensor_names(path: Path) -> Sequence[str]:
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), _HEADER_BYTES)))
        return list(header)
    except (OSError, ValueError) as error:
        raise hub_error(str(path), error) from error
