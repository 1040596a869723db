"""Which embeddings a renderer is given, and when text encoders are loaded and let go."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles.mini_family import write_family
from doubles.recorder import recipe_of, row_of

from synthgen import pipeline, stages
from synthgen.errors import InputError
from synthgen.models import TextEmbedding
from synthgen.prompts.store import EmbeddingWriter
from synthgen.recipe import read_recipe
from synthgen.records import PromptRecord
from synthgen.render import stage

# embeddings


def write_bank(path: Path, rows: Sequence[PromptRecord]) -> dict[str, TextEmbedding]:
    embeddings = {
        key: TextEmbedding(np.full((2, 3), number, np.float32), np.full(4, number, np.float32))
        for number, key in enumerate(["negative", *(row.key for row in rows)])
    }
    with EmbeddingWriter(path.parent) as writer:
        for key, embedding in embeddings.items():
            name = writer.add(key, embedding)
    (path.parent / name).rename(path)
    return embeddings


def test_a_bank_of_the_same_encoder_is_used(render: Callable[..., Any], tmp_path: Path) -> None:
    rows = [row_of(number, embedding_file="bank.safetensors") for number in range(3)]
    bank = write_bank(tmp_path / "bank.safetensors", rows)
    for job, row in zip(render(rows)[1].jobs, rows, strict=True):
        for given, kept in ((job.embedding, bank[row.key]), (job.negative_embedding, bank["negative"])):
            np.testing.assert_array_equal(given.tokens, kept.tokens)
            np.testing.assert_array_equal(given.pooled, kept.pooled)


@pytest.mark.parametrize(
    "embedder",
    [
        {"name": "sd3", "model": "another/model"},
        {"name": "sd3", "model": "some/model", "t5": False},
        {"name": "doubles.word_bag"},
    ],
)
def test_a_bank_of_another_encoder_is_not(render: Callable[..., Any], tmp_path: Path, embedder: dict[str, Any]) -> None:
    rows = [row_of(0, embedding_file="bank.safetensors")]
    write_bank(tmp_path / "bank.safetensors", rows)
    (job,) = render(rows, recipe_of(prompts={"embedder": embedder}))[1].jobs
    assert job.embedding is None and job.negative_embedding is None


def test_a_bank_that_lacks_a_prompt_gives_one_line(render: Callable[..., Any], tmp_path: Path) -> None:
    write_bank(tmp_path / "bank.safetensors", [row_of(0)])
    (tmp_path / "torn.safetensors").write_bytes((tmp_path / "bank.safetensors").read_bytes()[:40])
    for file in ("bank.safetensors", "torn.safetensors", "missing.safetensors"):
        with pytest.raises(InputError, match=rf"{file}: no embedding of p0+1 .*--redo prompts") as caught:
            render([row_of(1, embedding_file=file)])
        assert "\n" not in str(caught.value)


# text encoders


class Encoders:
    """Counts the text encoders that are built, what they encode, and how many of them live."""

    def __init__(self) -> None:
        self.built: list[weakref.ref[Any]] = []
        self.encoded: list[str] = []

    def build(self, real: Callable[..., Any], *args: Any) -> Any:
        encoder = real(*args)
        encode = encoder.encode

        def noted(prompts: Sequence[str]) -> list[TextEmbedding]:
            self.encoded.extend(prompts)
            return encode(prompts)

        encoder.encode = noted
        self.built.append(weakref.ref(encoder._pipeline.text_encoder))
        return encoder

    def living(self) -> int:
        return sum(found() is not None for found in self.built)


@pytest.fixture
def encoders(monkeypatch: pytest.MonkeyPatch) -> Encoders:
    from synthgen.models.text_encoders import sd3

    found, real = Encoders(), sd3.build
    monkeypatch.setattr(sd3, "build", lambda *args: found.build(real, *args))
    return found


@pytest.fixture
def denoisers(monkeypatch: pytest.MonkeyPatch, encoders: Encoders) -> list[int]:
    """The number of text encoders that lived when a denoiser was loaded, for each time that one was."""
    from diffusers import SD3Transformer2DModel

    found: list[int] = []
    real = SD3Transformer2DModel.from_pretrained.__func__

    def noted(cls: type, *args: Any, **inputs: Any) -> Any:
        found.append(encoders.living())
        return real(cls, *args, **inputs)

    monkeypatch.setattr(SD3Transformer2DModel, "from_pretrained", classmethod(noted))
    return found


def test_prompts_are_encoded_once_and_the_encoders_are_gone_before_the_denoiser_comes(
    tmp_path: Path, encoders: Encoders, denoisers: list[int]
) -> None:
    family = str(write_family(tmp_path / "family"))
    recipe = recipe_of(
        prompts={"embedder": {"name": "doubles.word_bag"}},  # so the bank's embeddings are not the renderer's
        render__renderer={"name": "sd3", "model": family, "steps": 1},
        render__images_per_prompt=2,
        execution__batch_size=3,
    )
    made = stage.build(recipe, tmp_path)
    (tmp_path / "work").mkdir()
    assert (encoders.built, denoisers) == ([], [])
    same = row_of(9, prompt=row_of(0).subject.prompt)
    first = list(made.process([row_of(0), row_of(1), same], tmp_path / "work", "u"))
    assert encoders.encoded == [row_of(0).subject.prompt, row_of(1).subject.prompt, "blur"]
    assert denoisers == [0] and encoders.living() == 0 and len(encoders.built) == 1
    again = list(made.process([row_of(1)], tmp_path / "work", "u"))  # as after a failure: a row of the unit alone
    assert again == [row for row in first if row.parent == row_of(1).key]
    assert len(encoders.built) == 1
    list(made.process([row_of(2), row_of(0)], tmp_path / "work", "v"))
    assert encoders.encoded[3:] == [row_of(2).subject.prompt], "what the unit before had is not encoded again"
    assert denoisers == [0] and encoders.living() == 0


def test_a_run_encodes_for_the_bank_and_never_for_the_renderer(
    tmp_path: Path, encoders: Encoders, denoisers: list[int]
) -> None:
    from doubles.world import write_recipe, write_world

    family = str(write_family(tmp_path / "family"))
    write_world(tmp_path / "world")
    settings = {"name": "sd3", "model": family}
    recipe = read_recipe(
        str(write_recipe(tmp_path / "world", tmp_path / "tiny.yaml")),
        [
            f"prompts.embedder={settings}",
            f"render.renderer={settings | {'steps': 1}}",
            "prompts.lambda_div=1.0",
            "prompts.per_class=2",
        ],
    )
    run = tmp_path / "run"
    for name in ("prompts", "render"):
        list(pipeline.run_stage(recipe, run, name))
    assert stages.stages(run)["render"].num_rows() > 0
    assert len(encoders.built) == 1, "one for the bank, none for the renderer"
    assert len(set(encoders.encoded)) == len(encoders.encoded), "each prompt once"
    assert denoisers == [0], "the bank's encoders were still there when the denoiser was loaded"
