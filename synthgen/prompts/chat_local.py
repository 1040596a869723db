"""The same question to a language model in this process:

a transformers folder, a Hub id, or a GGUF file through transformers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from synthgen.errors import ModelError, in_one_line
from synthgen.models.devices import torch_device, torch_dtype
from synthgen.models.provenance import pinned_revision
from synthgen.models.weights import loading, resolve


class LocalChat:
    """Answers in float32 on a CPU, so that a seed gives the same text again on the same machine."""

    def __init__(self, model: str, execution: Any) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        place = resolve(model)
        options = pinned_revision(model)
        if isinstance(place, Path) and place.suffix == ".gguf":
            options = {"gguf_file": place.name}
            place = place.parent
        self._device = torch_device(execution)
        try:
            with loading(model), _quietly():
                self._tokenizer = AutoTokenizer.from_pretrained(place, **options)
                self._model = AutoModelForCausalLM.from_pretrained(
                    place, dtype=torch_dtype(execution, self._device), **options
                )
        except ImportError as error:  # transformers asks for gguf only when it is needed
            raise ModelError(
                f"model {model!r}: {in_one_line(error, 160)}; install what it names (`pip install gguf`)"
            ) from error
        if self._tokenizer.chat_template is None:
            raise ModelError(f"model {model!r}: has no chat template; use an instruction-tuned model")
        self._model.to(self._device).eval()

    def ask(self, messages: list[dict[str, str]], seed: int, temperature: float, max_tokens: int) -> str:
        """What the model says to the messages, at most `max_tokens` tokens."""
        import torch

        inputs = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self._device)
        sampling = (
            {"do_sample": True, "temperature": temperature, "top_p": 0.95} if temperature else {"do_sample": False}
        )
        pad = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else self._tokenizer.eos_token_id
        with (
            torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []),
            torch.inference_mode(),
        ):
            torch.manual_seed(seed)
            tokens = self._model.generate(**inputs, max_new_tokens=max_tokens, pad_token_id=pad, **sampling)
        return str(self._tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """transformers draws progress bars while it unpacks a GGUF file."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()
