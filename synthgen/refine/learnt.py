"""What a proposer learns of a run (proposer `support_segmenter`): once, and kept in the stage's folder.

The weights follow from the support set and the recipe, and with `refine.rounds` from the run's own images: those of the
first keys, whoever asks. The first worker trains, the others wait; what it has written holds for all of them, for a
resumed run and for another machine, whatever their own arithmetic would give. A folder without a claim keeps nothing.

A round (self-training, as Syn4Seg's network learns from the set that it has labelled): the images are labelled, and the
proposer is trained anew on the support set and on them, half and half, each pixel with its confidence as its weight.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from synthgen import claims, leases, storage
from synthgen.errors import ModelError, RunError, StorageError
from synthgen.files import scratch_beside, write_first
from synthgen.models import Labelled, Learns
from synthgen.runner import StageRun

log = logging.getLogger(__name__)

_SETTLE_S = 0.2  # in which workers that begin at the same time see each other
_SIGN_OF_LIFE_S = 5.0

Label = Callable[[], Iterable[Labelled]]  # the run's own images, labelled with what the proposer has learnt so far


def learn_once(proposer: Learns, stage: StageRun, rounds: int, label: Label) -> None:
    """Leave `proposer` with the weights of this run: those that are kept, or else train it, and keep them.

    Raises RunError for a damaged file of weights, StorageError if it cannot be written.
    """
    if not stage.is_claimed():
        _learn(proposer, rounds, label, lambda: None)
        return
    name = f"learnt-{claims.fingerprint(stage.claim()['settings'])}"
    kept = stage.folder / f".{name}.safetensors"
    if _take(proposer, kept):
        return
    scratch = _lease(stage.folder, name, kept)
    if scratch is None:  # another worker has just finished
        _take(proposer, kept)
        return
    try:
        learnt = _learn(proposer, rounds, label, _signs_of_life(scratch))
        if not (write_first(learnt, kept) and storage.publish_first(kept)):
            _take(proposer, kept)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _learn(proposer: Learns, rounds: int, label: Label, alive: Callable[[], None]) -> bytes:
    def watch(step: int) -> None:
        alive()

    support = proposer.support
    learnt = proposer.learn([support], watch)
    for number in range(rounds):
        own = []
        for one in label():
            own.append(one)
            alive()
        if not own:
            log.warning("refine.rounds: no image of the run has a mask to learn from: the support set alone is learnt")
            break
        log.info("refine.rounds: round %d of %d, %d images", number + 1, rounds, len(own))
        learnt = proposer.learn([support, own], watch)
    return learnt


def _take(proposer: Learns, kept: Path) -> bool:
    storage.refresh(kept)
    if not kept.is_file():
        return False
    try:
        proposer.take(kept.read_bytes())
    except (ModelError, OSError) as error:
        raise RunError(f"{kept}: is damaged ({error}); remove it and run the same command again") from error
    return True


def _lease(folder: Path, name: str, kept: Path) -> Path | None:
    """The scratch that tells others that this process trains; None if another one has finished meanwhile.

    Two that begin at once see each other's scratch, and the one whose name comes first goes on.
    """
    scratch = scratch_beside(folder / name)
    while leases.wait_for_others(folder, [name], lambda _: kept.is_file()):
        given_up = set(folder.glob(f".{name}.*"))  # of dead workers
        try:
            scratch.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"{scratch}: cannot be made ({error.strerror or error}); free the space or mend the permissions, then "
                "run the same command again"
            ) from error
        time.sleep(_SETTLE_S)
        others = [path for path in folder.glob(f".{name}.*") if path.is_dir() and path not in {scratch, *given_up}]
        if all(scratch.name < path.name for path in others):
            return scratch
        shutil.rmtree(scratch, ignore_errors=True)
    return None


def _signs_of_life(scratch: Path) -> Callable[[], None]:
    """A function that lets a file of the scratch grow every few seconds, so that no other machine takes it for dead."""
    last = time.monotonic()

    def alive() -> None:
        nonlocal last
        if time.monotonic() - last > _SIGN_OF_LIFE_S:
            last = time.monotonic()
            # what is learnt goes on: a full disk is told where the weights are written, and may be free by then
            with contextlib.suppress(OSError), (scratch / "alive").open("ab") as file:
                file.write(b".")

    return alive
