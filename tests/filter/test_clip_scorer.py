from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synthgen.backends import check_options, load
from synthgen.errors import ModelError
from synthgen.minis.train import clip
from synthgen.models import ImageScorer, TellsCut
from synthgen.settings import Execution


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> ImageScorer:
    folder = tmp_path_factory.mktemp("clip")
    clip.save(clip.build(0), clip.write_vocabulary(folder), folder)
    built: ImageScorer = load(
        "image_scorer", {"name": "open_clip", "model": str(folder)}, Execution(device="cpu", num_threads=1)
    )
    return built


def test_rows_have_length_one_and_depend_on_their_own_item_only(scorer: ImageScorer) -> None:
    images = [np.random.default_rng(n).integers(0, 256, (40 + n, 64, 3), dtype=np.uint8) for n in range(3)]
    texts = ["a photo of a cat", "a red bus on the road at night", "snow"]
    for embed, items in ((scorer.embed_images, images), (scorer.embed_texts, texts)):
        together = embed(items)
        assert together.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(together, np.concatenate([embed([item]) for item in items]))
        np.testing.assert_array_equal(together[::-1], embed(items[::-1]))
        assert embed([]).shape == (0, together.shape[1])
    assert scorer.embed_images(images).shape == scorer.embed_texts(texts).shape
    assert np.ptp(scorer.embed_texts(texts), axis=0).max() > 1e-3


def test_a_text_that_is_too_long_is_cut_and_not_refused(scorer: ImageScorer) -> None:
    assert np.isfinite(scorer.embed_texts(["a photo of a cat " * 40])).all()


def test_what_is_cut_is_known(scorer: ImageScorer) -> None:
    assert isinstance(scorer, TellsCut)
    limit = scorer._tokenizer.context_length  # type: ignore[attr-defined]
    words = next(n for n in range(1, 200) if scorer.cuts(" ".join(["cat"] * n)))
    assert words + 2 == limit + 1, "one word is one token, and two mark the ends"
    for count in (0, 1, words - 1, words, words + 1, 5 * words):
        text = " ".join(["cat"] * count)
        same = np.array_equal(scorer.embed_texts([text]), scorer.embed_texts([text + " bus"]))
        assert scorer.cuts(text) == (count >= words) and (not same or count + 1 >= words)


def test_missing_weights_are_named_in_one_line(tmp_path: Path) -> None:
    options = check_options("image_scorer", {"name": "open_clip", "model": str(tmp_path)})
    with pytest.raises(ModelError, match=r"open_clip_config\.json") as raised:
        load("image_scorer", {"name": "open_clip", "model": options.model}, Execution(device="cpu"))
    assert "\n" not in str(raised.value)
