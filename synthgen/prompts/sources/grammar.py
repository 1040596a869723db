"""Candidates from a grammar: sentence templates with slots, filled with values from lists.

A grammar is `prompts/<vocabulary>/grammar.yaml`:

    name: farm
    groups:                        # names for sets of classes; a class belongs to a group by its name or by a synonym
      animals: [cow, sheep]
    class_words:                   # wordings of `{class}`; default: the class's spoken word alone
      cow: [cow, dairy cow]
    plurals: {dairy cow: dairy cattle}          # only where the rule for English plurals is wrong
    templates:
      - "a photo of {a} {colour} {class} {place.where} {time}"
      - {text: "{classes} {place.where}", classes: [animals]}
    slots:
      colour: [brown, {value: red, classes: [cow]}]
      place:
        - {value: grass, forms: {where: [on grass, on a meadow]}}
      time:
        - {value: day, text: ""}
        - {value: night, text: [at night, after dark]}
    forbid:                        # attributes that do not go together
      - {place: [grass], time: night}

`{slot}` is the value's text, `{slot.form}` one of its forms; a list means synonyms, one of which is drawn. `{a}`
becomes a or an, `{A}` A or An. A slot that has no value for a class is left out of the sentence. A value gives the
attribute slot=value unless it says `attributes: {...}`.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from segkit.documents import read_yaml
from segkit.labels import Label, LabelSpace
from segkit.spelling import same_name
from synthgen.backends import Cost
from synthgen.errors import InputError, RecipeError
from synthgen.prompts.bank import Candidate
from synthgen.prompts.sentence_pattern import sentence_pattern
from synthgen.prompts.words import article, plural
from synthgen.shipped import shipped_folder

_FIELD = re.compile(r"\{([^{}]*)\}")
_OWN_FIELDS = ("a", "A", "class", "classes")


class Options(BaseModel, extra="forbid"):
    """Which grammar."""

    vocabulary: str = Field("objects", description="a shipped grammar (folder of prompts/), or a path to a YAML file")


def build(options: Options, execution: Any) -> Grammar:
    """Read the grammar. Raises RecipeError if there is none of that name and InputError if it is malformed."""
    path = _path(options.vocabulary)
    return Grammar(_read(path), str(path))


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost:
    """Sentences are filled in."""
    return Cost()


def gives_attributes(options: Options) -> bool:
    """Sentences with the same attributes say the same."""
    return True


def template_of(options: Options, prompt: str) -> str:
    """The template that gives this sentence; "" if none does: the grammar may have changed since.

    Raises as `build` does.
    """
    vocabulary = read_vocabulary(options)

    def wordings(slot: str, form: str) -> set[str]:
        return {word for value in vocabulary.slots[slot] for word in value.wordings(form)}

    texts = (template.text for template in vocabulary.templates)
    return next((text for text in texts if sentence_pattern(text, wordings).fullmatch(prompt)), "")


def fingerprint(options: Options) -> dict[str, str]:
    """Content hash of the grammar file."""
    return {"vocabulary": hashlib.sha256(_path(options.vocabulary).read_bytes()).hexdigest()}


def read_vocabulary(options: Options) -> Vocabulary:
    """The grammar file itself. Raises as `build` does."""
    return _read(_path(options.vocabulary))


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class Value(_Part):
    """One entry of a slot."""

    value: str = Field(min_length=1, pattern=r"^[^=]+$")
    text: tuple[str, ...] = ()  # default: the value itself
    forms: dict[str, tuple[str, ...]] = {}
    classes: tuple[str, ...] = ()  # groups or classes; empty = all
    attributes: dict[str, str] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, raw: Any) -> Any:
        if isinstance(raw, str):
            return {"value": raw}
        if isinstance(raw, dict):
            forms = raw.get("forms", {})
            listed = {k: _listed(v) for k, v in forms.items()} if isinstance(forms, dict) else forms
            return {**raw, "text": _listed(raw.get("text", raw.get("value"))), "forms": listed}
        return raw

    def wordings(self, form: str) -> tuple[str, ...]:
        return self.forms[form] if form else self.text or (self.value,)


class Template(_Part):
    """One sentence."""

    text: str
    classes: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, raw: Any) -> Any:
        return {"text": raw} if isinstance(raw, str) else raw

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """(slot, form) of each field that is a slot, in order."""
        names = [name for name in _FIELD.findall(self.text) if name not in _OWN_FIELDS]
        return tuple((slot, form) for slot, _, form in (name.partition(".") for name in names))


class Vocabulary(_Part):
    """A grammar file."""

    name: str
    groups: dict[str, tuple[str, ...]] = {}
    class_words: dict[str, tuple[str, ...]] = {}
    plurals: dict[str, str] = {}
    templates: tuple[Template, ...] = Field(min_length=1)
    slots: dict[str, tuple[Value, ...]] = {}
    forbid: tuple[dict[str, tuple[str, ...]], ...] = ()

    @field_validator("forbid", mode="before")
    @classmethod
    def _lists(cls, raw: Any) -> Any:
        if not isinstance(raw, list) or not all(isinstance(rule, dict) for rule in raw):
            return raw
        return [{name: _listed(values) for name, values in rule.items()} for rule in raw]

    @model_validator(mode="after")
    def _whole(self) -> Vocabulary:
        for template in self.templates:
            if "{class}" not in template.text and "{classes}" not in template.text:
                raise ValueError(f"template {template.text!r} has neither {{class}} nor {{classes}}")
            for slot, form in template.fields:
                if slot not in self.slots:
                    raise ValueError(
                        f"template {template.text!r} asks for slot {slot!r}; there are: {', '.join(self.slots)}"
                    )
                missing = [value.value for value in self.slots[slot] if form and form not in value.forms]
                if missing:
                    raise ValueError(
                        f"template {template.text!r} asks for form {slot}.{form}, which {missing[0]!r} does not have"
                    )
        return self


class Grammar:
    """A prompt source over one grammar file."""

    def __init__(self, vocabulary: Vocabulary, where: str) -> None:
        self._vocabulary = vocabulary
        self._where = where

    def candidates(self, space: LabelSpace, wanted: Sequence[Label], seed: int) -> Iterator[Candidate]:
        """Every sentence of the grammar once, in random order:

        class after class, the templates of a class in equal shares.

        Raises InputError if no template is for a wanted class.
        """
        for label in wanted:
            yield from self._of_class(label, seed)

    def attribute_values(self, label: Label) -> dict[str, tuple[str, ...]]:
        """attribute -> every value that a sentence about the class can have, sorted."""
        found: dict[str, set[str]] = {}
        for template in self._templates(label):
            for slot, _ in template.fields:
                for value in self._values(slot, label):
                    for name, word in _attributes(slot, value).items():
                        found.setdefault(name, set()).add(word)
        return {name: tuple(sorted(words)) for name, words in sorted(found.items())}

    def _of_class(self, label: Label, seed: int) -> Iterator[Candidate]:
        rng = np.random.default_rng(_entropy(str(seed), label.name))
        live = [self._sentences(template, label, rng) for template in self._templates(label)]
        seen: set[str] = set()
        while live:
            chosen = int(rng.integers(len(live)))
            candidate = next(live[chosen], None)
            if candidate is None:
                del live[chosen]
            elif candidate.prompt not in seen:
                seen.add(candidate.prompt)
                yield candidate

    def _templates(self, label: Label) -> list[Template]:
        found = [template for template in self._vocabulary.templates if self._is_for(label, template.classes)]
        if not found:
            raise InputError(
                f"{self._where}: no template is for class {label.name!r}; add one, or leave the class out of "
                "labels.classes"
            )
        return found

    def _values(self, slot: str, label: Label) -> list[Value]:
        return [value for value in self._vocabulary.slots[slot] if self._is_for(label, value.classes)]

    def _is_for(self, label: Label, restriction: tuple[str, ...]) -> bool:
        if not restriction:
            return True
        names = {same_name(member) for entry in restriction for member in self._vocabulary.groups.get(entry, (entry,))}
        return not names.isdisjoint(map(same_name, (label.name, *label.synonyms)))

    def _sentences(self, template: Template, label: Label, rng: np.random.Generator) -> Iterator[Candidate]:
        slots = {slot: values for slot, _ in template.fields if (values := self._values(slot, label))}
        sizes = [len(values) for values in slots.values()]
        # Python integers: the number of combinations may pass 64 bits.
        total = functools.reduce(lambda a, b: a * b, sizes, 1)
        for index in _shuffled(total, str(rng.integers(2**62))):
            chosen: dict[str, Value] = {}
            for slot, values in slots.items():
                index, digit = divmod(index, len(values))
                chosen[slot] = values[digit]
            attributes = {
                name: word for slot, value in chosen.items() for name, word in _attributes(slot, value).items()
            }
            if any(
                all(attributes.get(name) in words for name, words in rule.items()) for rule in self._vocabulary.forbid
            ):
                continue
            prompt = self._say(template, label, chosen, rng)
            yield Candidate(
                prompt, label.name, label.id, tuple(sorted(f"{name}={word}" for name, word in attributes.items()))
            )

    def _say(self, template: Template, label: Label, chosen: dict[str, Value], rng: np.random.Generator) -> str:
        word = _draw(self._vocabulary.class_words.get(label.name, (label.spoken,)), rng)

        def fill(match: re.Match[str]) -> str:
            name = match[1]
            if name == "class":
                return word
            if name == "classes":
                return self._vocabulary.plurals.get(word) or plural(word)
            if name in ("a", "A"):
                return match[0]  # depends on the word that follows in the end
            slot, _, form = name.partition(".")
            return _draw(chosen[slot].wordings(form), rng) if slot in chosen else ""

        text = " ".join(_FIELD.sub(fill, template.text).split())
        text = re.sub(r"\s+([,.;])", r"\1", text)
        return re.sub(
            r"\{([aA])\} (?=(\S+))",
            lambda m: (article(m[2]) if m[1] == "a" else article(m[2]).capitalize()) + " ",
            text,
        )


def _attributes(slot: str, value: Value) -> dict[str, str]:
    return {slot: value.value} if value.attributes is None else value.attributes


def _draw(wordings: tuple[str, ...], rng: np.random.Generator) -> str:
    return wordings[0] if len(wordings) == 1 else wordings[int(rng.integers(len(wordings)))]


def _entropy(*parts: str) -> int:
    return int.from_bytes(hashlib.blake2b("\x1f".join(parts).encode(), digest_size=16).digest(), "big")


def _shuffled(total: int, key: str) -> Iterator[int]:
    """The numbers 0..total-1 in a random order that follows from `key`, without holding them: a Feistel network over
    the next even number of bits, of which results outside the range are sent through again."""
    half = max(1, ((total - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    for number in range(total):
        while True:
            left, right = number >> half, number & mask
            for turn in range(4):
                left, right = right, left ^ (_entropy(key, str(turn), str(right)) & mask)
            number = left << half | right
            if number < total:
                break
        yield number


def _path(vocabulary: str) -> Path:
    if "/" in vocabulary or vocabulary.endswith((".yaml", ".yml")):
        path = Path(vocabulary)
        if path.is_file():
            return path
        raise RecipeError(f"prompts.source.vocabulary {vocabulary!r}: no such file")
    path = shipped_folder("prompts") / vocabulary / "grammar.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.parent.name for p in shipped_folder("prompts").glob("*/grammar.yaml")))
        raise RecipeError(
            f"prompts.source.vocabulary {vocabulary!r} is not shipped; there are: {known} (a path has a `/` or "
            "ends in .yaml)"
        )
    return path


def _read(path: Path) -> Vocabulary:
    try:
        return Vocabulary.model_validate(read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: {key + ': ' if key else ''}{first['msg']}") from error
