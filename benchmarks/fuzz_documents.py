"""Cases for the readers of JSON and YAML: recipe, label space, event log, index, COCO, chat server, model folder."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from benchmarks.drawn_dataset import drawn_dataset
from segkit.index import read_index
from segkit.labels import read_label_space
from synthgen.engines.events import read_events
from synthgen.prompts.chat_http import Endpoint, _content, ask
from synthgen.prompts.replies import captions_of
from synthgen.recipe import read_recipe
from synthgen.shipped import shipped_folder
from synthgen.sources.folder import read_label
from synthgen.sources.listing import list_source

Rng = np.random.Generator
_KEY = "sk-fuzz-0123456789"
_HOSTILE: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 10**30, 1.5, 1e308, "", "x" * 100_000, "\x1b[2J", "../../../etc/passwd", "\0", "\ud800",
    [], {}, [[]], [None], {"": None}, "NaN", float("nan"), float("inf"), [1] * 5000,
)  # fmt: skip
_WRONG_JSON = ("[" * 100_000, '{"a": 1, "a": 2}', "9" * 5000, "NaN", "[1e999]", "", "{", "\xff", '"\\ud800"x')


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """The content of a file; `wrong` = it must be refused."""

    data: bytes
    wrong: bool = False


def damaged(data: bytes, rng: Rng) -> bytes:
    """The bytes with one damage of disks, copies and editors."""
    at, length = int(rng.integers(len(data) + 1)), int(rng.integers(1, 30))
    how = int(rng.integers(6))
    if how == 0:
        place = min(at, len(data) - 1)
        return data[:place] + bytes([data[place] ^ 1 << int(rng.integers(8))]) + data[place + 1 :]
    parts = (data[:at], data[:at] + rng.bytes(length) + data[at:], data[:at] + data[at + length :])
    more = (data[:at] + data[max(0, at - length) : at] * 3 + data[at:], data[:at] + b"\0" * length + data[at:])
    return (*parts, *more)[how - 1]


def changed(document: Any, rng: Rng) -> Any:
    """The document with one value at a random place replaced by a hostile one, or removed."""
    document = copy.deepcopy(document)
    places = list(_places(document))
    holder, key = places[int(rng.integers(len(places)))]
    if rng.random() < 0.15:
        del holder[key]
    else:
        holder[key] = copy.deepcopy(_HOSTILE[int(rng.integers(len(_HOSTILE)))])
    return document


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from _places(node[key])


def _texts(document: Any, write: Callable[[Any], str], wrong: tuple[str, ...]) -> Callable[[Rng], Iterator[Text]]:
    """A third damaged bytes, a third hostile values, a third known to be wrong."""

    def cases(rng: Rng) -> Iterator[Text]:
        whole = write(document).encode()
        number = 0
        while True:
            yield Text(damaged(whole, rng))
            yield Text(write(changed(document, rng)).encode(errors="surrogatepass"))
            yield Text(
                wrong[number % len(wrong)].encode("latin-1" if "\xff" in wrong[number % len(wrong)] else "utf-8"), True
            )
            number += 1

    return cases


def _is_wrong(case: Text, value: Any) -> bool:
    return case.wrong


def _yaml(document: Any) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _bomb(key: str) -> str:
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
    return f"a0: &a0 [x]\n{levels}{key}: *a9\n"


def recipe(scratch: Path) -> tuple[Any, Any, Any]:
    """`read_recipe` of the default recipe in YAML."""
    source = (shipped_folder("pipelines") / "syn4seg-mini.yaml").read_text(encoding="utf-8")
    wrong = (
        _bomb("seed"), source + "\nname: again\n", source + "\nsed: 1\n", source + "\nextra: !!python/name:os.system\n",
        source.replace("seed:", "sead:", 1) if "seed:" in source else "seed: x\n" + source, "seed: " + "9" * 5000,
        "- a\n", "[" * 50_000, "a: " + "{b: " * 200, "\xff\xfe", "? [1, 2]\n: 3\n", "name: 2026-02-30\nseed: 1:30\n",
    )  # fmt: skip
    path = scratch / "recipe.yaml"

    def read(case: Text) -> Any:
        path.write_bytes(case.data)
        return read_recipe(str(path))

    return _texts(yaml.safe_load(source), _yaml, wrong), read, _is_wrong


def label_space(scratch: Path) -> tuple[Any, Any, Any]:
    """`read_label_space` of a small one in YAML."""
    labels = [{"id": n, "name": f"class {n}", "colour": [n, 0, 9], "synonyms": [f"word {n}"]} for n in range(4)]
    document = {"name": "fuzz", "background": 0, "labels": labels}
    one = "name: x\nlabels:\n- {id: 0, name: a}\n"
    wrong = (
        _bomb("labels"), one + "- {id: 0, name: b}\n", one + "- {id: 1, name: a}\n", one + "- {id: 1, name: no}\n",
        one + "- {id: 010, name: b}\n", one + "- {id: 1, name: ~}\n", one + "- {id: 255, name: b}\n",
        one + "- {id: -1, name: b}\n", one + "- {id: 1, id: 2, name: b}\n", one + "- {id: true, name: b}\n",
        one + "background: 9\n", one + '- {id: 1, name: "a\\nb"}\n', one + '- {id: 1, name: " "}\n', "name: x\n",
        one + "- {id: 1, name: b, colour: [1, 2]}\n", one + "- {id: 1, name: b, colour: [1, 2, 256]}\n", "", "[]",
        one + "- {id: 1.0, name: b}\n", "name: x\nlabels: {a: 1}\n", one + "- 5\n", "[" * 50_000,
    )  # fmt: skip
    path = scratch / "labels.yaml"

    def read(case: Text) -> Any:
        path.write_bytes(case.data)
        return read_label_space(path)

    return _texts(document, _yaml, wrong), read, _is_wrong


def event_log(scratch: Path) -> tuple[Any, Any, Any]:
    """`read_events` of a log with one bad line: the sound lines around it must all come, with numbers for numbers."""
    (scratch / "events").mkdir()
    path = scratch / "events" / "host.1.jsonl"
    sound = [{"event": "unit", "stage": "pack", "unit": f"{n:05d}", "gpu_gb": 1.5} for n in range(3)]

    def cases(rng: Rng) -> Iterator[Text]:
        while True:
            yield Text(damaged(json.dumps(sound[1]).encode(), rng).replace(b"\n", b" "))
            yield Text(json.dumps(changed(sound[1], rng)).encode())
            yield Text(_WRONG_JSON[int(rng.integers(len(_WRONG_JSON)))].encode("latin-1"))

    def read(case: Text) -> Any:
        lines = [json.dumps(sound[0]).encode(), case.data, json.dumps(sound[2]).encode()]
        path.write_bytes(b"\n".join(lines) + b"\n")
        return list(read_events(scratch))

    def is_silent(case: Text, events: list[dict[str, Any]]) -> bool:
        kept = all(event in events for event in (sound[0], sound[2]))
        typed = all(
            type(event.get("gpu_gb", 0.0)) in (int, float) and isinstance(event["event"], str) for event in events
        )
        return not kept or not typed or len(events) > 3

    return cases, read, is_silent


def index(scratch: Path) -> tuple[Any, Any, Any]:
    """`read_index` of a dataset's index.json."""
    folder = drawn_dataset(scratch / "run", count=4, size_px=32)
    path = folder / "index.json"
    whole = path.read_text(encoding="utf-8")
    document = json.loads(whole)
    number = f'"num_samples": {document["num_samples"]}'
    if number not in whole:
        number = number.replace(" ", "")
    values = ("-1", "1.5", '"4"', "null", "true", "9" * 5000, "NaN")
    gone = ("shards", "samples", "classes", "splits")
    shard = {**document["shards"][0], "file": "../x.tar"}
    wrong = (
        *_WRONG_JSON,
        whole + "x",
        whole.replace(number, f'{number}, "num_samples": 1', 1),
        *(whole.replace(number, f'"num_samples": {value}', 1) for value in values),
        *(json.dumps({key: value for key, value in document.items() if key != one}) for one in gone),
        json.dumps({**document, "version": 99}),
        json.dumps({**document, "shards": [shard]}),
    )

    def read(case: Text) -> Any:
        path.write_bytes(case.data)
        return read_index(folder).label_space()

    return _texts(document, json.dumps, wrong), read, _is_wrong


def coco(scratch: Path) -> tuple[Any, Any, Any]:
    """An export with two pictures, listed and every mask drawn."""
    (scratch / "images").mkdir()
    (scratch / "annotations").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (16, 12)).save(scratch / "images" / name)
    box = [[2, 2, 9, 2, 9, 8, 2, 8]]
    one = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "iscrowd": 0,
        "area": 42,
        "bbox": [2, 2, 7, 6],
        "segmentation": box,
    }
    runs = {"size": [12, 16], "counts": [10, 20, 162]}
    document = {
        "images": [{"id": n, "file_name": name, "height": 12, "width": 16} for n, name in ((1, "a.png"), (2, "b.png"))],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [one, {**one, "id": 2, "category_id": 2, "segmentation": runs}, {**one, "id": 3, "image_id": 2}],
    }

    def with_shape(segmentation: Any) -> str:
        return json.dumps({**document, "annotations": [{**one, "segmentation": segmentation}]})

    wrong = (
        *_WRONG_JSON, with_shape([[1, 1, 5, 1, 5]]), with_shape([[1, 1, float("nan"), 1, 5, 5]]), with_shape("x"),
        with_shape({"size": [12, 15], "counts": [180]}), with_shape({"size": [12, 16], "counts": [1, 2]}),
        with_shape({"size": [12, 16], "counts": "~~~"}), with_shape({"size": [12, 16], "counts": [-1, 193]}),
        json.dumps({**document, "annotations": [{**one, "category_id": 7}]}),
        json.dumps({**document, "annotations": [{**one, "image_id": 9}]}),
        json.dumps({**document, "images": document["images"] * 2}),
        json.dumps({**document, "images": [{**document["images"][0], "file_name": "../../etc/passwd"}]}),
        json.dumps({**document, "images": [{**document["images"][0], "height": 10**9, "width": 10**9}]}),
        json.dumps({**document, "categories": [{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]}),
    )  # fmt: skip
    path = scratch / "annotations" / "instances_default.json"
    space_path = scratch / "labels.yaml"
    space_path.write_text(
        "name: x\nbackground: 0\nlabels: [{id: 0, name: g}, {id: 1, name: cat}, {id: 2, name: dog}]\n"
    )
    space = read_label_space(space_path)

    def read(case: Text) -> Any:
        from synthgen.sources.coco import _annotations

        _annotations.cache_clear()
        path.write_bytes(case.data)
        return [read_label(pair, space) for pair in list_source("coco_export", scratch)]

    return _texts(document, json.dumps, wrong), read, _is_wrong


def chat_server(scratch: Path) -> tuple[Any, Any, Any]:
    """What a server answers: most as the body alone, every tenth over a socket with damaged status and headers."""
    body = {
        "choices": [{"message": {"role": "assistant", "content": json.dumps({"captions": ["a red cat", "a dog"]})}}]
    }
    whole = json.dumps(body).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    server = socket.create_server(("127.0.0.1", 0))
    endpoint = Endpoint(f"http://127.0.0.1:{server.getsockname()[1]}/v1", _KEY, 1.0, 0, 0.0)

    def cases(rng: Rng) -> Iterator[tuple[bytes, bool]]:
        with server:
            yield from answers(rng)

    def answers(rng: Rng) -> Iterator[tuple[bytes, bool]]:
        number = 0
        while True:
            number += 1
            if number % 10 == 0:
                yield damaged(head % len(whole) + whole, rng), True
            elif number % 3 == 0:
                content = {0: "[" * 5000, 1: "[" + "9" * 5000 + "]", 2: f"the key is {_KEY}", 3: "{" * 3000}
                answer = content.get(int(rng.integers(6)), str(rng.bytes(200)))
                yield json.dumps({"choices": [{"message": {"content": answer}}]}).encode(), False
            elif number % 3 == 1:
                yield damaged(whole, rng), False
            else:
                yield json.dumps(changed(body, rng)).encode(), False

    def read(case: tuple[bytes, bool]) -> list[str]:
        data, over_socket = case
        if not over_socket:
            text = _content(data, endpoint)
            return [text, *captions_of(text, 20), *captions_of(text, 20, as_lines=True)]
        thread = threading.Thread(target=_serve, args=(server, data))
        thread.start()
        try:
            text = ask(endpoint, {"model": "m", "messages": []})
        finally:
            thread.join()
        return [text, *captions_of(text, 20)]

    def is_silent(case: tuple[bytes, bool], texts: list[str]) -> bool:
        return any(_KEY in text for text in texts) or any("\n" in text or "\x1b" in text for text in texts[1:])

    return cases, read, is_silent


def _serve(server: socket.socket, data: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        connection.settimeout(2)
        connection.recv(65536)
        connection.sendall(data)


def model_folder(scratch: Path) -> tuple[Any, Any, Any]:
    """A finished model: config.json damaged nine times of ten and read, else the weights, and the network loaded."""
    from segkit.networks.folder import NetworkSpec, create_network, encode, read_config, read_folder

    arguments: dict[str, Any] = {"_model_class": "Unet"}
    arguments |= {"encoder_name": "tu-test_efficientnet", "encoder_weights": None}
    arguments |= {"in_channels": 3, "classes": 2, "decoder_channels": [8, 8, 8, 8, 8]}
    spec = NetworkSpec(arguments)
    labels = [{"id": n, "name": f"class {n}", "colour": [n, 0, 0]} for n in range(2)]
    facts = {"label_space": {"name": "x", "background": 0, "labels": labels}, "novel": [], "steps": 1}
    weights, config = encode(spec, create_network(spec), facts)
    (scratch / "model.safetensors").write_bytes(weights)
    texts = _texts(
        config, json.dumps, (*_WRONG_JSON, json.dumps({**config, "zz": 1}), json.dumps({**config, "classes": 3}))
    )

    def cases(rng: Rng) -> Iterator[tuple[Text, bytes | None]]:
        for number, text in enumerate(texts(rng)):
            if number % 20:
                yield text, None
            else:
                short = weights[: int(rng.integers(len(weights) - 1))]
                head = damaged(weights[:200], rng) + weights[200:]
                yield Text(json.dumps(config).encode()), short if number % 40 else head

    def read(case: tuple[Text, bytes | None]) -> Any:
        (scratch / "config.json").write_bytes(case[0].data)
        if case[1] is None:
            return read_config(scratch)
        shutil.copyfile(scratch / "model.safetensors", scratch / "kept")
        (scratch / "model.safetensors").write_bytes(case[1])
        try:
            return read_folder(scratch)
        finally:
            shutil.move(scratch / "kept", scratch / "model.safetensors")

    def is_silent(case: tuple[Text, bytes | None], value: Any) -> bool:
        cut = case[1] is not None and len(case[1]) < len(weights) - 30
        return case[0].wrong or cut

    return cases, read, is_silent


READERS = {each.__name__: each for each in (recipe, label_space, event_log, index, coco, chat_server, model_folder)}
