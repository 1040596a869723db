"""One tree of errors under both packages."""

from __future__ import annotations

import segkit.errors
import segtrain.errors
import synthgen.errors


def test_both_packages_catch_what_the_ground_raises() -> None:
    for name in ("InputError", "LabelError", "DatasetError", "ModelError"):
        kind = getattr(segkit.errors, name)
        assert issubclass(kind, synthgen.errors.SynthgenError) and issubclass(kind, segtrain.errors.SegtrainError)
        assert getattr(synthgen.errors, name) is kind
    for name in ("InputError", "LabelError", "DatasetError"):
        assert issubclass(getattr(segkit.errors, name), segtrain.errors.DataError)


def test_a_near_word_is_suggested_and_a_far_one_is_not() -> None:
    assert segkit.errors.did_you_mean("clases", ["classes", "seed"]) == "; did you mean 'classes'?"
    assert segkit.errors.did_you_mean("xyz", ["classes", "seed"]) == ""
