"""Several ranks, or a Ray cluster, on one object store: the byte-identical dataset of a local run, packed into the
store by whichever rank has its shard."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.processes import environment
from doubles.runs import digest
from doubles.stores import stored

Tiny = Callable[..., Path]
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray: the package is not installed; pip install 'synthgen-seg[ray]'"
)


def free_port() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return str(taken.getsockname()[1])


def launched(ranks: int, *arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """`accelerate launch -m synthgen ...`; --multi_gpu is what makes it start ranks, on a machine without GPUs too.

    Every rank has a temporary folder of its own, as ranks of several machines have.
    """
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(ranks),
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", free_port(),
        "-m", "doubles.ranked", *map(str, arguments),
    ]  # fmt: skip
    return subprocess.run(
        command, env=environment(RANK_FOLDERS=str(folder)), capture_output=True, text=True, timeout=900, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_of_accelerate_pack_the_same_dataset_into_a_store(
    tiny: Tiny, undisturbed: Path, bucket: str, tmp_path: Path, ranks: int, cli: Callable[..., Any]
) -> None:
    done = launched(ranks, "run", tiny(), "--runs", f"{bucket}/runs", folder=tmp_path / "ranks")
    assert done.returncode == 0, done.stderr
    run = f"{bucket}/runs/tiny"
    assert stored(f"{run}/dataset") == digest(undisturbed / "dataset")
    assert len(list((tmp_path / "ranks").iterdir())) == ranks, "every rank had its own copy"
    status = cli("status", run, "--json")
    assert {at["done"] == at["units"] for at in json.loads(status.output).values()} == {True}, status.output
    verified = cli("verify", f"{run}/dataset")
    assert verified.exit_code == 0 and "whole" in verified.output, verified.output


@pytest.mark.slow
def test_what_two_ranks_have_stored_is_gone_on_with_by_four(
    tiny: Tiny, undisturbed: Path, bucket: str, tmp_path: Path, calls: Callable[[], list[str]]
) -> None:
    """Two ranks do `render`; nothing is left of them but the store."""
    recipe, runs = tiny(), f"{bucket}/runs"
    for verb in ("prompts", "render"):
        done = launched(2, verb, recipe, "--runs", runs, folder=tmp_path / verb)
        assert done.returncode == 0, done.stderr
    calls()
    done = launched(4, "run", recipe, "--runs", runs, folder=tmp_path / "ranks")
    assert done.returncode == 0, done.stderr
    assert not [call for call in calls() if call.startswith("render")], "finished units are not made again"
    assert stored(f"{runs}/tiny/dataset") == digest(undisturbed / "dataset")


@needs_ray
@pytest.mark.slow
def test_ray_packs_the_same_dataset_into_a_store(
    tiny: Tiny, undisturbed: Path, bucket: str, process: Callable[..., Any]
) -> None:
    by_ray = ("--set", "execution.engine=ray", "--set", "execution.ray.workers=2")
    done = process("-m", "synthgen", "run", tiny(), "--runs", f"{bucket}/runs", *by_ray)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert stored(f"{bucket}/runs/tiny/dataset") == digest(undisturbed / "dataset")
