"""English nouns: articles, plurals, and the wordings in which a sentence may name a class."""

from __future__ import annotations

import functools
import re

_AN = re.compile(r"(?:[aeiou]|hour|honest|heir)", re.IGNORECASE)
_NOT_AN = re.compile(r"(?:one\b|once|uni(?:[cfqtv]|on)|use|usual|utili|ubi|eu)", re.IGNORECASE)
_LINKS = frozenset(("at", "by", "for", "from", "in", "of", "on", "to", "with"))  # a cup of tea: cups of tea

_WHOLE = {  # noun -> its plurals, the usual one first
    "aircraft": ("aircraft",),
    "alga": ("algae",),
    "antenna": ("antennas", "antennae"),
    "aquarium": ("aquariums", "aquaria"),
    "atlas": ("atlases",),
    "axis": ("axes",),
    "bison": ("bison",),
    "buffalo": ("buffaloes", "buffalo"),
    "bus": ("buses", "busses"),
    "cactus": ("cacti",),
    "canvas": ("canvases",),
    "cargo": ("cargoes",),
    "cattle": ("cattle",),
    "chateau": ("chateaux",),
    "deer": ("deer",),
    "die": ("dice",),
    "domino": ("dominoes",),
    "dwarf": ("dwarfs", "dwarves"),
    "echo": ("echoes",),
    "fungus": ("fungi",),
    "furniture": ("furniture",),
    "gas": ("gases", "gasses"),
    "hero": ("heroes",),
    "hippopotamus": ("hippopotamuses", "hippopotami"),
    "kiwi": ("kiwis",),
    "larva": ("larvae",),
    "lens": ("lenses",),
    "loch": ("lochs",),
    "louse": ("lice",),
    "mango": ("mangoes",),
    "matrix": ("matrices",),
    "moose": ("moose",),
    "mosquito": ("mosquitoes",),
    "nucleus": ("nuclei",),
    "oasis": ("oases",),
    "octopus": ("octopuses", "octopi"),
    "offspring": ("offspring",),
    "ox": ("oxen",),
    "passer-by": ("passers-by",),
    "passerby": ("passersby",),
    "plateau": ("plateaus", "plateaux"),
    "potato": ("potatoes",),
    "quiz": ("quizzes",),
    "salmon": ("salmon",),
    "series": ("series",),
    "sheep": ("sheep",),
    "shrimp": ("shrimp",),
    "ski": ("skis",),
    "species": ("species",),
    "specimen": ("specimens",),
    "squid": ("squid",),
    "stadium": ("stadiums", "stadia"),
    "stomach": ("stomachs",),
    "swine": ("swine",),
    "taxi": ("taxis",),
    "tomato": ("tomatoes",),
    "tornado": ("tornadoes",),
    "torpedo": ("torpedoes",),
    "trout": ("trout",),
    "vegetation": ("vegetation",),
    "volcano": ("volcanoes",),
    "wharf": ("wharves",),
    "wildlife": ("wildlife",),
}
_ENDINGS = {  # also of compounds: policeman, bookshelf, goldfish
    "calf": "calves",
    "child": "children",
    "craft": "craft",
    "elf": "elves",
    "fish": "fish",
    "foot": "feet",
    "goose": "geese",
    "half": "halves",
    "hoof": "hooves",
    "knife": "knives",
    "leaf": "leaves",
    "life": "lives",
    "loaf": "loaves",
    "man": "men",
    "mouse": "mice",
    "person": "people",
    "scarf": "scarves",
    "thief": "thieves",
    "tooth": "teeth",
    "wife": "wives",
    "wolf": "wolves",
}
_REGULAR = re.compile(r".*(?:hu|ro|ger|sha|talis|cai|cay|otto|nor)man|mongoose|craft")  # in spite of their ending
# a class of that name is not meant by the word without its s
_NO_SINGULAR = frozenset(
    ("arms", "briefs", "customs", "glasses", "goods", "greens", "means", "news", "rapids", "scales", "shorts", "woods")
)


def article(word: str) -> str:
    """`an` before a vowel sound, else `a`: an hour, a one-way street, an orange car."""
    return "an" if _AN.match(word) and not _NOT_AN.match(word) else "a"


def plural(words: str) -> str:
    """Plural of a noun or compound: dining tables, people, cups of tea, bookshelves; of what does not end with a Latin
    letter, that itself."""
    before, noun, after = _parts(words)
    return before + _plurals(noun)[0] + after


@functools.lru_cache(maxsize=1024)
def wordings(words: str) -> frozenset[str]:
    """The noun or compound itself, in every plural that people write, and in the singular if it is a plural."""
    before, noun, after = _parts(words)
    return frozenset((words, *(before + form + after for form in (*_plurals(noun), *_singulars(noun)))))


def _parts(words: str) -> tuple[str, str, str]:
    """What stands before the noun that changes, the noun, what follows it."""
    if words.lower() in _WHOLE:
        return "", words, ""
    pieces = re.split(r"([\s_-]+)", words)
    links = [n for n in range(2, len(pieces) - 2, 2) if pieces[n].lower() in _LINKS]
    at = links[0] - 2 if links else len(pieces) - 1
    return "".join(pieces[:at]), pieces[at], "".join(pieces[at + 1 :])


def _plurals(noun: str) -> list[str]:
    """The usual one first; a plural is its own."""
    low = noun.lower()
    if not low[-1:].isalpha() or not low[-1:].isascii() or low in _NO_SINGULAR or _singulars(noun):
        return [noun]
    ending = "" if _REGULAR.fullmatch(low) else next((end for end in _ENDINGS if low.endswith(end)), "")
    irregular = _WHOLE.get(low) or ([low[: -len(ending)] + _ENDINGS[ending]] if ending else [])
    return [
        noun + form[len(low) :] if form.startswith(low) else noun[:1] + form[1:] for form in (*irregular, _regular(low))
    ]


def _regular(low: str) -> str:
    if low.endswith(("s", "x", "z", "ch", "sh")):
        return low + "es"
    return low[:-1] + "ies" if re.search("[^aeiou]y$", low) else low + "s"


def _singulars(noun: str) -> list[str]:
    """What the noun may be the plural of, as far as its letters tell."""
    low = noun.lower()
    if low in _WHOLE or low in _NO_SINGULAR:
        return []
    found = [word for word, forms in _WHOLE.items() if low in forms]
    found += [low[: -len(form)] + end for end, form in _ENDINGS.items() if form != end and low.endswith(form)]
    if len(low) > 3 and low.endswith("s") and not low.endswith(("ss", "us", "is")):
        shorter = 2 if low.endswith(("ches", "shes", "sses", "xes")) else 1
        found.append(low[:-3] + "y" if low.endswith("ies") else low[:-shorter])
    return found
