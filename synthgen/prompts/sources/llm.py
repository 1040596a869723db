"""Candidates from a language model that is told what became of its last ones (Syn4Seg: the agent of HDIG).

    loop: ask for `per_question` captions of the class, with some accepted captions and with refused ones beside the
    caption that each is too
          near to; the bank judges them; its verdicts go into the next question
    until the bank is full, its budget is spent, or acceptance saturates

The model is any server of the OpenAI chat protocol, or a transformers model in this process. A reply is data only
(synthgen/prompts/replies.py). Every reply is kept with the bank as `replies.jsonl`; `replies: <that file>` makes the
same bank again without asking anybody.

    source: {name: llm, base_url: "http://localhost:8000/v1", model: Qwen/Qwen2.5-7B-Instruct}
    source: {name: llm, base_url: "https://api.example.com/v1", model: large, key_variable: EXAMPLE_KEY}
    source: {name: llm, model: ./SmolLM2-135M-Instruct.gguf, reply: lines}
"""

from __future__ import annotations

import collections
import functools
import hashlib
import ipaddress
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, field_validator, model_validator

from synthgen.backends import Cost
from synthgen.errors import InputError, ModelError
from synthgen.labels import Label, LabelSpace
from synthgen.models.costs import bytes_of_a_weight
from synthgen.models.sizes import GB, parameters_in
from synthgen.models.weights import resolve
from synthgen.prompts.bank import Candidate, Entry
from synthgen.prompts.chat_http import Endpoint, NotChatError, ask
from synthgen.prompts.replies import Replies, captions_of, schema

_SHOWN = 12  # accepted captions in a question [ours: a small model's context]
_TOLD = 8  # refused ones


class Options(BaseModel, extra="forbid"):
    """Which model, and when it has said enough."""

    model: str = Field(
        min_length=1,
        description="name that the server knows; without base_url a transformers folder, a Hub id or a .gguf file",
    )
    base_url: str = Field(
        "", description="of an OpenAI-compatible server, up to and with /v1; empty = load the model in this process"
    )
    key_variable: str = Field("", description="environment variable that holds the server's key; empty = none is sent")
    scene: str = Field(
        "a photograph",
        max_length=200,
        description="what the captions describe: a dashcam picture, an aerial photograph [ours]",
    )
    per_question: int = Field(16, ge=1, le=32, description="captions that one question asks for [ours]")
    temperature: float = Field(0.9, ge=0, le=2, description="of sampling [ours]")
    max_tokens: int = Field(1200, ge=16, le=16384, description="of a reply [ours: 16 captions of 30 tokens, twice]")
    reply: Literal["json_schema", "json_object", "lines"] = Field(
        "json_schema",
        description="what the server is asked to hold the reply to; lines = one caption a line, for small models "
        "[ours]",
    )
    saturation_window: int = Field(96, ge=1, description="stop when of so many candidates in a row ... [guess]")
    saturation_rate: float = Field(
        0.05, ge=0, le=1, description="... at most this share was accepted; 0 = only when none was [guess]"
    )
    max_bad_replies: int = Field(5, ge=1, description="stop after so many replies in a row without a caption [ours]")
    timeout_s: float = Field(120, gt=0, description="of one try, to the last byte [ours]")
    retries: int = Field(4, ge=0, le=20, description="tries after a failed one [ours]")
    backoff_s: float = Field(1.0, ge=0, description="wait before the first retry; doubles each time [ours]")
    replies: str = Field("", description="replies.jsonl of an earlier run, to be used instead of asking")

    @field_validator("base_url")
    @classmethod
    def _web_address(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        try:
            parts = urlsplit(value)
            parts.port  # noqa: B018  # raises ValueError if it is none
        except ValueError as error:
            raise ValueError(f"is no address: {error}") from error
        if parts.username or parts.password:
            raise ValueError("must hold no user and password: set an environment variable and name it in key_variable")
        if value and not parts.hostname:
            raise ValueError("names no host")
        return value

    @model_validator(mode="after")
    def _key_stays_safe(self) -> Options:
        if not self.key_variable:
            return self
        if not self.base_url:
            raise ValueError("key_variable names a key, and base_url no server to send it to: leave one out")
        where = urlsplit(self.base_url)
        if where.scheme == "http" and not _is_loopback(where.hostname or ""):
            raise ValueError(
                f"key_variable: {self.key_variable} would be sent to {where.hostname} unencrypted: use https://, or a "
                "server on this machine"
            )
        if self.key_variable == "HF_TOKEN" or self.key_variable.startswith("AWS_"):
            raise ValueError(
                f"key_variable: {self.key_variable} is the key of another service: put the server's own key into a "
                "variable of its own"
            )
        return self


def build(options: Options, execution: Any) -> LanguageModel:
    """Read the stored replies. The model is asked, or loaded, only for what they lack.

    Raises InputError for a damaged file of replies.
    """
    return LanguageModel(options, execution)


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost | None:
    """Of the tokens that are written for one caption; nothing here if a server writes them."""
    if options.base_url or options.replies:
        return Cost()
    place = resolve(options.model)
    if not isinstance(place, Path) or not place.is_dir():
        return None
    parameters = parameters_in(place)
    tokens = options.max_tokens / options.per_question
    return Cost(parameters, 2 * parameters * tokens, bytes_of_a_weight(execution, parameters) * parameters / GB)


def weights(options: Options) -> list[tuple[str, str]]:
    """Those that are loaded in this process; a server's are not known, stored replies need none."""
    return [] if options.base_url or options.replies else [(options.model, "")]


def fingerprint(options: Options) -> dict[str, str]:
    """Content hash of the stored replies."""
    if not options.replies:
        return {}
    try:
        return {"replies": hashlib.sha256(Path(options.replies).read_bytes()).hexdigest()}
    except OSError as error:
        raise InputError(f"prompts.source.replies {options.replies!r}: cannot be read ({error.strerror})") from error


def sends(options: Options) -> list[tuple[str, str]]:
    """The server, and the environment variable whose content it gets ("" = none)."""
    if not options.base_url or options.replies:
        return []
    return [(urlsplit(options.base_url).netloc, options.key_variable)]


def key_of(options: Options) -> str:
    """The server's key; "" if none is wanted. Raises ModelError, which does not show it."""
    if not options.key_variable:
        return ""
    key = os.environ.get(options.key_variable, "").strip()
    if not key:
        raise ModelError(
            f"prompts.source.key_variable: the environment has no {options.key_variable}; set it to the key of "
            f"{options.base_url}"
        )
    if not all("!" <= character <= "~" for character in key):
        raise ModelError(
            f"prompts.source.key_variable: {options.key_variable} holds a blank, a line break or a character beyond "
            "ASCII, so it is no key: copy it again, in one line and without quotes"
        )
    return key


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class LanguageModel:
    """A prompt source over one model."""

    def __init__(self, options: Options, execution: Any) -> None:
        self._options = options
        self._execution = execution
        self.replies = Replies()
        if options.replies:
            self.replies.read(Path(options.replies))

    def candidates(self, space: LabelSpace, wanted: Sequence[Label], seed: int) -> Iterator[Candidate]:
        """A conversation about one class. Nothing where no class is wanted; more than one class raises ValueError."""
        if not wanted:
            return iter(())
        (label,) = wanted
        return Conversation(label, self._options, self._ask, seed)

    def _ask(self, messages: list[dict[str, str]], seed: int) -> str:
        """Raises ModelError if there is no answer."""
        options = self._options
        asked = {
            "model": options.model,
            "messages": messages,
            "seed": seed,
            "temperature": options.temperature,
            "max_tokens": options.max_tokens,
        }
        if options.base_url and options.reply == "json_object":
            asked["response_format"] = {"type": "json_object"}
        elif options.base_url and options.reply == "json_schema":
            form = {"name": "captions", "strict": True, "schema": schema(options.per_question)}
            asked["response_format"] = {"type": "json_schema", "json_schema": form}
        known = self.replies.get(asked)
        if known is not None:
            return known
        if options.base_url:
            try:
                reply = ask(self._endpoint, asked)
            except NotChatError as error:
                # no captions in it, so it counts as a bad reply, when it is read again too; any line would be one
                reply = "" if options.reply == "lines" else f"({error})"
        else:
            reply = self._local.ask(messages, seed, options.temperature, options.max_tokens)
        self.replies.add(asked, reply)
        return reply

    @functools.cached_property
    def _endpoint(self) -> Endpoint:
        options = self._options
        return Endpoint(options.base_url, key_of(options), options.timeout_s, options.retries, options.backoff_s)

    @functools.cached_property
    def _local(self) -> Any:
        from synthgen.prompts.chat_local import LocalChat

        return LocalChat(self._options.model, self._execution)


class Conversation:
    """Rounds of candidates about one class; an Agent (synthgen/prompts/bank.py)."""

    def __init__(
        self, label: Label, options: Options, ask: Callable[[list[dict[str, str]], int], str], seed: int
    ) -> None:
        self.stopped = ""  # saturated, or bad_replies
        self.bad_replies = 0  # over the whole conversation
        self.asked = 0
        self._label = label
        self._options = options
        self._ask = ask
        self._seed = (
            int.from_bytes(hashlib.blake2b(f"{seed}\x1f{label.name}".encode(), digest_size=3).digest(), "big") << 7
        )
        self._accepted: list[str] = []
        self._refused: list[Entry] = []
        self._last: collections.deque[bool] = collections.deque(maxlen=options.saturation_window)
        self._waiting: list[str] = []

    def __iter__(self) -> Conversation:
        return self

    def __next__(self) -> Candidate:
        """For those who only want candidates and have no verdicts (calibration)."""
        found = self.next_round(1)
        if not found:
            raise StopIteration
        self._accepted.append(found[0].prompt)  # so that it does not say the same again
        return found[0]

    def next_round(self, limit: int) -> list[Candidate]:
        """Raises InputError if no reply at all had a caption, and ModelError if the model cannot be reached."""
        bad_in_a_row = 0
        while not self._waiting and not self.stopped:
            reply = self._ask(self._messages(), self._seed + self.asked)
            self.asked += 1
            self._waiting = captions_of(reply, self._options.per_question, self._options.reply == "lines")
            if self._waiting:
                break
            self.bad_replies += 1
            bad_in_a_row += 1
            if bad_in_a_row == self._options.max_bad_replies:
                if self.bad_replies == self.asked:
                    raise InputError(
                        f"prompts.source llm: {self._options.model!r} gave {bad_in_a_row} replies and no caption "
                        f"of {self._label.name!r} "
                        f"(the last: {reply[:80]!r}); try prompts.source.reply: lines, more max_tokens or another model"
                    )
                self.stopped = "bad_replies"
        few, self._waiting = self._waiting[:limit], self._waiting[limit:]
        return [Candidate(caption, self._label.name, self._label.id, ()) for caption in few]

    def hear(self, entries: Sequence[Entry]) -> None:
        """Remember the verdicts for the next question; stop if few enough of the last ones were accepted."""
        for entry in entries:
            self._last.append(not entry.refusal)
            if entry.refusal:
                self._refused.append(entry)
            else:
                self._accepted.append(entry.candidate.prompt)
        if len(self._last) == self._last.maxlen and sum(self._last) <= self._options.saturation_rate * len(self._last):
            self.stopped = "saturated"
            self._waiting = []

    def _messages(self) -> list[dict[str, str]]:
        count = self._options.per_question
        if self._options.reply == "lines":
            form = f"Write {count} captions, one a line, and nothing else."
        else:
            form = f'Answer with JSON alone: {{"captions": [{count} texts]}}.'
        words = ", ".join(dict.fromkeys((self._label.spoken, *self._label.synonyms, self._label.name)))
        system = (
            "You write captions for a text-to-image model. A caption is one plain English sentence of 6 to "
            f"25 words. {form}"
        )
        parts = [
            f"Write {count} captions of {self._options.scene} that shows: {self._label.spoken}.",
            f"Each caption must contain one of these words: {words}.",
            "Vary place, time of day, weather, season, viewpoint, colour, number, action and what else is seen. "
            "No two may be alike.",
        ]
        if self._accepted:
            parts.append(f"Taken already, write none like these: {_as_data(self._accepted[-_SHOWN:])}")
        if self._refused:
            told = [
                {"caption": entry.candidate.prompt, "refused": _reason(entry, words)}
                for entry in self._refused[-_TOLD:]
            ]
            parts.append(f"Refused before, with the reason: {_as_data(told)}")
        return [{"role": "system", "content": system}, {"role": "user", "content": "\n".join(parts)}]


def _reason(entry: Entry, words: str) -> str:
    if entry.refusal == "near_duplicate":
        return f"too near to: {entry.detail}"
    if entry.refusal == "class_missing":
        return f"has none of the words: {words}"
    if entry.refusal == "class_cut":
        return f"too long: one of these words must stand near its beginning: {words}"
    if entry.refusal == "off_class":
        return "is not about the subject"
    return "was given before"


def _as_data(value: object) -> str:
    """Captions go into a question quoted, so that one which reads like an instruction stays a quotation."""
    return json.dumps(value, ensure_ascii=False)
