"""Where the weights of a model lie: a mini of the package, a local file or folder, or a repository of the Hub.

mini/sam                                the mini family that ships with the package (synthgen/minis/weights/sam)
./my_model, /data/sam_vit_h_4b8939.pth  something local: used if it exists, refused if it does not
stabilityai/stable-diffusion-3.5-large  anything else is an id of the Hub; `hf-hub:` in front says so explicitly
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

from segkit.sam_checkpoints import where_to_get
from synthgen.errors import ModelError, in_one_line
from synthgen.models.downloads import telling_downloads

HUB_PREFIX = "hf-hub:"
MINI_PREFIX = "mini/"
HUB_ERRORS = (OSError, RuntimeError, ValueError)
"""What the loaders of diffusers, transformers, open_clip and huggingface_hub raise for weights that they cannot get."""

_MINIS = Path(__file__).resolve().parent.parent / "minis" / "weights"
_WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
_TRAINING = {"sam": "sam", "clip": "clip", "vae": "vae", "objects": "denoiser", "streets": "prior"}
_TRAINED_BY = {name: f"python -m synthgen.minis.train {model}" for name, model in _TRAINING.items()}
_TRAINED_BY["streets-day"] = "synthgen adapt streets-mini"
_ON_THE_HUB = {"sam_vit_h": "huge", "sam_vit_l": "large", "sam_vit_b": "base"}


def resolve(model: str) -> Path | str:
    """The local file or folder of a model, or its Hub id (`owner/name`) as a string.

    Raises ModelError if a mini has not been trained yet or a path does not exist.
    """
    if model.startswith(MINI_PREFIX):
        name = model.removeprefix(MINI_PREFIX)
        folder = _MINIS / name
        if not folder.is_dir():
            there = ", ".join(f"mini/{path.name}" for path in sorted(_MINIS.glob("*")) if path.is_dir()) or "none"
            command = _TRAINED_BY.get(name.split("/")[0], "python -m synthgen.minis.train --help")
            raise ModelError(f"{model}: no such weights in {folder} (there: {there}); train them with `{command}`")
        return folder
    if model.startswith(HUB_PREFIX):
        return model.removeprefix(HUB_PREFIX)
    path = Path(model).expanduser()
    if model and path.exists():
        return path
    if (
        not model
        or model.startswith(("/", "./", "../", "~"))
        or model.count("/") > 1
        or path.suffix in _WEIGHT_SUFFIXES
    ):
        way_out = _where_published(path.name) or "give a local path that exists, mini/<name>, or a Hub id (owner/name)"
        raise ModelError(f"{model!r}: no such file or folder; {way_out}")
    return model


def _where_published(name: str) -> str:
    """Where an official checkpoint of SAM can be had, by its name; empty for any other."""
    link, size = where_to_get(name), _ON_THE_HUB.get(name[: len("sam_vit_h")])
    hub = f"refine.mask_decoder={{name: sam_transformers, model: facebook/sam-vit-{size}}}"
    return f"{link}; or {hub} fetches the same network from the Hub" if link else ""


@contextlib.contextmanager
def loading(model: str) -> Iterator[None]:
    """What a loader raises inside becomes the one line of `hub_error`, and a download tells how it goes on."""
    with warnings.catch_warnings(), _telling(model):
        # diffusers 0.42 hands the Hub's client an option that it no longer has: nothing that a user could mend
        warnings.filterwarnings("ignore", message=".*local_dir_use_symlinks")
        try:
            yield
        except HUB_ERRORS as error:
            raise hub_error(model, error) from error


def _telling(model: str) -> contextlib.AbstractContextManager[None]:
    try:
        place = resolve(model)
    except ModelError:  # told by whoever resolves it
        place = Path()
    if isinstance(place, Path):
        return contextlib.nullcontext()
    return telling_downloads("/".join(place.split("/")[:2]))


def hub_error(model: str, error: BaseException, revision: str = "") -> ModelError:
    """One line for weights that could not be had: gated, offline, missing, or not of the kind that was asked for.

    The classes of the whole chain of causes decide, and the status where the Hub has answered: the loaders wrap the
    Hub's errors in their own, and its texts say "private or gated" of every repository that it does not have.
    """
    from huggingface_hub import errors as hub

    chain = _chain(error)

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    answered = (link.response for link in chain if isinstance(link, hub.HfHubHTTPError))
    status = next((response.status_code for response in answered if response is not None), 0)
    local = "or give a local folder instead of the id"
    if has(hub.GatedRepoError):
        why = f"is gated; accept its licence on its Hub page, set HF_TOKEN, {local}"
    elif has(hub.RepositoryNotFoundError, hub.HFValidationError):
        why = f"is not on the Hub under this id (a private one needs HF_TOKEN); check the spelling, {local}"
    elif has(hub.RevisionNotFoundError):
        why = f"has no revision {revision or 'main'!r} on the Hub; check the option `revision`"
    elif has(hub.RemoteEntryNotFoundError):
        why = f"lacks a file that this backend needs ({in_one_line(error, 160)}); use a model of the right kind"
    elif not status and has(hub.LocalEntryNotFoundError, ConnectionError, TimeoutError, hub.HTTPError):
        why = f"is not in the local cache and the Hub cannot be reached; go online once, {local}"
    elif status in (401, 403):
        why = f"may not be read with this account (status {status}); set HF_TOKEN, {local}"
    elif status >= 500:
        why = f"cannot be had: the Hub answers with status {status}; try again later, {local}"
    else:
        why = f"cannot be loaded ({in_one_line(error, 160)}); check that it is of the kind that this backend reads"
    return ModelError(f"model {model!r} {why}")


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    return chain
