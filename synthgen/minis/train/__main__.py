"""`python -m synthgen.minis.train vae|denoiser|prior|sam|clip [options]`: trains one mini model;

run it again to resume.
"""

from __future__ import annotations

import importlib
import sys

from synthgen.errors import SynthgenError

MODELS = ("vae", "denoiser", "prior", "sam", "clip")
USAGE = (
    f"usage: python -m synthgen.minis.train {{{','.join(MODELS)}}} [options]   (--help after a model lists its options)"
)


def main(argv: list[str]) -> int:
    """Exit code: 0, or 2 for what the user can mend. argparse ends by itself on a wrong option."""
    if argv[:1] in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    if not argv or argv[0] not in MODELS:
        print(USAGE, file=sys.stderr)
        print(f"error: {f'no model {argv[0]!r}' if argv else 'which model?'}", file=sys.stderr)
        return 2
    try:
        importlib.import_module(f"synthgen.minis.train.{argv[0]}").main(argv[1:])
    except SynthgenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
