"""The shape of the project: who may import whom, what importing may do, what files may be called."""

from __future__ import annotations

import ast
import functools
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from synthgen.backends import ROLES, available

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("synthgen", "segtrain", "segkit")
HEAVY = (
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "accelerate",
    "open_clip",
    "segment_anything",
    "segmentation_models_pytorch",
)

# segkit is the ground under both houses; `networks` stands beside the readers.
SEGKIT_FLOORS = (
    ("cores", "errors", "threads", "memory", "printable", "reports", "spelling", "sam_checkpoints", "urls"),
    ("files", "headers", "heif"),
    ("documents", "stored", "ustar"),
    ("labels", "metadata"),
    ("masks", "index", "regions", "label_map", "colours"),
    ("pictures", "shards"),
    ("folders", "networks"),
)

# A folder of `methods` is a part of its own: methods stand side by side, and nothing below the command line knows one.
SEGTRAIN_FLOORS = (
    ("errors",),
    ("files", "lock", "config", "presets", "uncertainty_maps", "overlay", "progress", "interrupt"),
    ("run_folder", "board", "losses", "bands", "optimiser", "metrics", "data", "options"),
    ("segmenter",),
    ("tiles",),
    ("evaluate", "method", "trial"),
    ("validation", "evaluate_anomaly", "evaluate_samples", "predict", "export", "report"),
    ("loop",),
    ("self_training",),
    ("methods",),
    ("commands", "method_group"),
    ("cli",),
    ("__main__",),
)

# Imports go down only. Parts of one floor stand side by side and never import each other; within a part anything goes.
FLOORS = (
    ("errors", "records", "shipped", "english"),
    ("plugins", "similarity"),
    ("files", "rows"),
    ("local_copies", "urls", "new_folder"),
    ("storage", "leases", "accounting"),
    ("labels", "images", "backends", "runner"),
    ("claims",),
    ("settings",),
    ("adapt_settings", "pack_settings"),
    ("recipe", "ownership"),
    ("models", "training", "classes", "sources", "dataset", "drawn", "engines"),
    ("prompts", "render", "refine", "filter", "pack", "adapt", "export", "minis.train"),
    ("stages", "lock"),
    ("worker", "again"),
    ("pipeline",),
    ("progress", "report", "starter", "planning"),
    ("doctor", "dry_run", "tryout", "improve"),
    ("commands",),
    ("cli",),
    ("__main__",),
)


@functools.cache
def modules(*folders: str) -> list[tuple[str, ast.Module]]:
    found = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append(
                (".".join(parts).removesuffix(".__init__"), ast.parse(path.read_text(encoding="utf-8"), str(path)))
            )
    return found


def imported(name: str, tree: ast.Module) -> Iterator[str]:
    """Every module that a module imports, at the top or inside functions;

    `from a import b` counts as a.b where that is a module.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import; write the whole name"
            base = node.module or ""
            for alias in node.names:
                place = ROOT / Path(*base.split("."))
                yield (
                    f"{base}.{alias.name}"
                    if (place / f"{alias.name}.py").is_file() or (place / alias.name).is_dir()
                    else base
                )


def part_of(module: str) -> str:
    """`synthgen.prompts.bank` is of the part `prompts`, `segtrain.methods.few_shot.shots` of `methods.few_shot`."""
    words = module.split(".")[1:]
    return ".".join(words[:2]) if words[:1] in (["minis"], ["methods"]) else words[0] if words else ""


def floor(part: str, floors: tuple[tuple[str, ...], ...]) -> int:
    """-1 for a part that has none."""
    name = "methods" if part.startswith("methods.") else part
    return next((number for number, parts in enumerate(floors) if name in parts), -1)


def test_the_two_packages_never_import_each_other_and_their_ground_imports_neither() -> None:
    forbidden = {"synthgen": {"segtrain"}, "segtrain": {"synthgen"}, "segkit": {"synthgen", "segtrain"}}
    for name, tree in modules(*PACKAGES):
        package = name.split(".")[0]
        upward = [target for target in imported(name, tree) if target.split(".")[0] in forbidden[package]]
        assert not upward, f"{name} imports {upward}"


def test_neither_package_imports_tests_or_benchmarks() -> None:
    for name, tree in modules(*PACKAGES):
        assert not [
            found
            for found in imported(name, tree)
            if found.split(".")[0] in ("tests", "doubles", "benchmarks", "pytest")
        ], name


@pytest.mark.parametrize(
    ("package", "floors"), [("synthgen", FLOORS), ("segtrain", SEGTRAIN_FLOORS), ("segkit", SEGKIT_FLOORS)]
)
def test_imports_go_down_only(package: str, floors: tuple[tuple[str, ...], ...]) -> None:
    upward = []
    for name, tree in modules(package):
        part = part_of(name)
        if part in ("", "minis", "methods"):
            assert not [target for target in imported(name, tree) if target.startswith(package)], (
                f"{name} is a door plate, it imports nothing"
            )
            continue
        assert floor(part, floors) >= 0, f"{name}: give {package}.{part} a floor"
        for found in imported(name, tree):
            target = part_of(found) if found.startswith(f"{package}.") else part
            if target != part and floor(target, floors) >= floor(part, floors):
                upward.append(f"{name} -> {found}")
    assert upward == []


@pytest.mark.parametrize(
    ("package", "floors"), [("synthgen", FLOORS), ("segtrain", SEGTRAIN_FLOORS), ("segkit", SEGKIT_FLOORS)]
)
def test_every_floor_is_in_use(package: str, floors: tuple[tuple[str, ...], ...]) -> None:
    in_use = {part_of(name) for name, _ in modules(package)}
    assert {part for parts in floors for part in parts} <= in_use


def test_nothing_is_called_utils() -> None:
    files = [
        path
        for folder in (*PACKAGES, "tests")
        for path in (ROOT / folder).rglob("*")
        if path.suffix == ".py" or path.is_dir()
    ]
    assert not [path for path in files if path.stem in ("utils", "util", "helpers", "helper", "common", "base", "misc")]


def test_no_exception_is_swallowed_blindly() -> None:
    for name, tree in modules(*PACKAGES):
        for node in ast.walk(tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = (
                {found.id for found in ast.walk(node.type) if isinstance(found, ast.Name)}
                if node.type
                else {"everything"}
            )
            assert not caught & {"Exception", "everything"}, f"{name}:{node.lineno} catches {caught}"
            if "BaseException" in caught:  # clearing up is allowed, swallowing is not
                last = node.body[-1]
                assert isinstance(last, ast.Raise) and last.exc is None, f"{name}:{node.lineno} swallows {caught}"


def test_importing_loads_no_model_library_prints_nothing_and_sets_up_nothing() -> None:
    names = [
        "synthgen.cli",
        *(
            name
            for name, _ in modules(*(f"synthgen/{verb}" for verb in ("prompts", "render", "refine", "filter", "pack")))
        ),
    ]
    names += [f"{ROLES[role]}.{name}" for role in ROLES for name in available(role)]
    code = f"""
import importlib, logging, sys, threading
for name in {names!r}:
    importlib.import_module(name)
assert not logging.root.handlers and threading.active_count() == 1
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_importing_the_ground_loads_no_torch() -> None:
    names = [name for name, _ in modules("segkit") if not name.startswith("segkit.networks")]
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_asking_for_help_loads_next_to_nothing() -> None:
    code = (
        "import sys; import synthgen.cli; print([m for m in ('torch', 'numpy', 'pyarrow', 'pydantic', "
        "'scipy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("role", ROLES)
def test_the_folder_of_a_role_is_the_list_of_its_backends(role: str) -> None:
    folder = ROOT / Path(*ROLES[role].split("."))
    assert available(role) == sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    assert available(role)
    for name in available(role):
        module = importlib.import_module(f"{ROLES[role]}.{name}")
        assert callable(module.build)
        assert module.Options.model_config.get("extra") == "forbid", (
            f"{module.__name__}: a misspelt option would be taken"
        )
        for key, field in module.Options.model_fields.items():
            assert field.description, f"{module.__name__}.Options.{key} has no description"


def test_a_file_reads_in_one_sitting() -> None:
    """The drawn worlds are lists of shapes: they may be longer."""
    files = [path for folder in PACKAGES for path in (ROOT / folder).rglob("*.py") if "drawn" not in path.parts]
    long = [path.name for path in files if len(path.read_text(encoding="utf-8").splitlines()) > 350]
    assert long == []


def test_every_module_says_what_it_is() -> None:
    for name, tree in modules(*PACKAGES):
        assert ast.get_docstring(tree), f"{name} has no docstring"
