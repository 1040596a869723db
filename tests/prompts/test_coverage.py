from __future__ import annotations

import numpy as np
import pytest

from synthgen.prompts.bank import Candidate, Entry
from synthgen.prompts.coverage import (
    Coverage,
    Tally,
    calibrate,
    calibration_text,
    coverage_json,
    coverage_of,
    coverage_text,
)


def entry(prompt: str, *attributes: str, refusal: str = "", similarity: float = -1.0) -> Entry:
    candidate = Candidate(prompt, "car", 7, attributes)
    return Entry(candidate, 0, refusal, "", similarity, candidate if similarity > -1 else None, None)


@pytest.fixture
def coverage() -> Coverage:
    car = Tally()
    car.add(entry("a", "place=sea", "time=day"))
    car.add(entry("b", "place=sea", "time=night", similarity=0.5))
    car.add(entry("c", "place=road", "time=day", refusal="near_duplicate", similarity=0.9))
    car.add(entry("d", "place=sea", "time=day", similarity=0.25))
    empty = Tally()
    return Coverage(
        "grammar",
        "word_bag",
        0.85,
        (
            car.coverage("car", 7, "quota", {"place": ["sea", "road", "snow"]}),
            empty.coverage("person", 15, "exhausted", {"coat": ["red"]}),
        ),
    )


def test_counts(coverage: Coverage) -> None:
    car, person = coverage.classes
    assert (car.accepted, car.tried, car.pass_rate) == (3, 4, 0.75)
    assert car.mean_similarity == 0.375, "the first prompt has no neighbour and does not count"
    assert car.refused == {"near_duplicate": 1}
    assert car.used == {"place": {"sea": 3}, "time": {"day": 2, "night": 1}}
    assert car.missing == {"place": ["road", "snow"]}, "seen on a refused one, or only possible"
    assert (person.accepted, person.pass_rate, person.mean_similarity) == (0, 0.0, -1.0)
    assert person.missing == {"coat": ["red"]}


def test_json_there_and_back(coverage: Coverage) -> None:
    assert coverage_of(coverage_json(coverage)) == coverage


def test_text_shows_counts_gaps_and_what_cannot_be(coverage: Coverage) -> None:
    lines = [line.split() for line in coverage_text(coverage).splitlines()]
    assert ["car", "3", "4", "75%", "quota", "0.375", "place=road,", "place=snow"] in lines
    assert ["person", "0", "0", "-", "exhausted", "-", "coat=red"] in lines
    place = lines.index(["place", "road", "sea", "snow"])
    assert lines[place + 1 : place + 3] == [["car", "0", "3", "0"], ["person", ".", ".", "."]]


def test_calibration_counts_what_each_threshold_lets_pass() -> None:
    # Directions 0, 20, 40, 60, 80 degrees: neighbours have cosine 0.94, the next but one 0.77, then 0.5.
    angles = np.deg2rad(np.arange(5) * 20)
    vectors = {"car": np.stack([np.cos(angles), np.sin(angles)], axis=1), "cat": np.repeat(np.eye(2)[:1], 5, axis=0)}
    found = calibrate(vectors, "toy", grid=(0.99, 0.4, 0.8, 0.6))
    assert [(rate.lambda_div, rate.by_class["car"], rate.by_class["cat"], rate.accepted) for rate in found.rates] == [
        (0.4, 0.4, 0.2, 3),
        (0.6, 0.4, 0.2, 3),
        (0.8, 0.6, 0.2, 4),
        (0.99, 1.0, 0.2, 6),
    ]
    assert found.rates[-1].rate == 0.6
    assert found.suggested == 0.99
    assert calibration_text(found).splitlines()[-1].split() == ["0.99", "60%", "20%", "100%", "<-", "suggested"]
