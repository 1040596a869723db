"""The pages of docs/results that are written from rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import (
    cgaug,
    claims_cgaug,
    claims_clouds,
    claims_flexseg,
    claims_iccld,
    clouds,
    clouds_camvid,
    flexseg,
    iccld,
    pages,
    run,
)
from benchmarks.table import Line, results, times

ROOT = Path(__file__).parents[2]
CLAIMS = {"flexseg": claims_flexseg, "cgaug": claims_cgaug, "clouds": claims_clouds, "iccld": claims_iccld}


class Asked(Mapping[str, Line]):
    """A table of nothing that remembers which rows were looked for."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __contains__(self, name: object) -> bool:
        self.names.add(str(name))
        return False

    def __getitem__(self, name: str) -> Line:
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize("name", CLAIMS)
def test_a_page_is_what_its_command_writes(name: str) -> None:
    text = (ROOT / pages.place(name)).read_text(encoding="utf-8")
    assert text == CLAIMS[name].page(results(), times()), f"run `make claims-{name} TABLES_ONLY=1`"


@pytest.mark.parametrize("name", CLAIMS)
def test_a_page_asks_for_rows_that_there_are_and_for_each_benchmark(name: str) -> None:
    asked = Asked()
    claims: ModuleType = CLAIMS[name]
    claims.page(asked, {})
    listed = {row for rows in run.BENCHMARKS.values() for row in rows if row.startswith(f"{name}/")}
    assert asked.names <= listed
    for benchmark, rows in run.BENCHMARKS.items():
        own = {row for row in rows if row.startswith(f"{name}/")}
        assert not own or own & asked.names, f"no row of {benchmark} is on the page"


def test_pages_tell_every_training() -> None:
    assert set(claims_flexseg.WHO) == {"source", "jitter", *flexseg.PARTS, *flexseg.CEILINGS}
    assert set(claims_cgaug.WHO) == {"energy", "jitter", *cgaug.VARIANTS, "ceiling"}
    assert set(claims_clouds.WHO) == set(clouds.DRAWN) and set(claims_clouds.FEW) == set(clouds_camvid.WAYS)
    assert set(claims_iccld.WHO) == set(iccld.VARIANTS) and set(claims_iccld.GAINS) == set(iccld.GAINS)
    assert set(claims_iccld.PLACES) == set(iccld.PLACES)
