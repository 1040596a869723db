"""`python -m doubles.killed STAGE MOMENT COMMAND...`:

the command line, in a process that is killed (SIGKILL) at one moment of one stage:

claim       before stage.json is there
working     in the second unit (or the only one), after its first row
committing  in the same unit, when everything but the rename is done
index       (stage pack) when the dataset has everything but its index
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from synthgen import cli, files, runner
from synthgen.pack import finish


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(stage_name: str, moment: str, command: list[str]) -> None:
    """Arrange the death and run the command."""
    claim, run_unit, sync, write_chunks = files._write, runner.run_unit, runner._sync, finish.write_chunks
    place: dict[str, Any] = {"stage": "", "units": 0}

    def write(content: str | bytes, path: Path, way_out: str) -> None:
        if moment == "claim" and path.parent.name == stage_name and runner.CLAIM in path.name:
            die()
        claim(content, path, way_out)

    def counted(
        stage: runner.StageRun, unit: runner.Unit, processor: runner.Stage, rows: Sequence[Any]
    ) -> tuple[int, int]:
        place["last"] = stage.name == stage_name and (unit == stage.units()[1 if len(stage.units()) > 1 else 0])
        return run_unit(stage, unit, Mortal(processor) if place["last"] and moment == "working" else processor, rows)

    class Mortal:
        def __init__(self, processor: runner.Stage) -> None:
            self.processor = processor

        def process(self, rows: Sequence[Any], folder: Path, unit: str) -> Iterator[Any]:
            for row in self.processor.process(rows, folder, unit):
                yield row
                die()

    def sync_unit(folder: Path) -> None:
        sync(folder)
        if moment == "committing" and place.get("last"):
            die()

    def write_dataset(chunks: Iterable[bytes], path: Path) -> None:
        if moment == "index" and path.name == "index.json":
            die()
        write_chunks(chunks, path)

    files._write, runner.run_unit, runner._sync, finish.write_chunks = (
        write,
        counted,
        sync_unit,
        write_dataset,
    )
    cli.app(command)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
