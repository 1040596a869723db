"""Where the official checkpoints of Segment Anything are. The project downloads none of them by itself."""

from __future__ import annotations

from pathlib import PurePath

_PLACE = "https://dl.fbaipublicfiles.com/segment_anything"
SHA256 = {
    "sam_vit_h_4b8939.pth": "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    "sam_vit_l_0b3195.pth": "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    "sam_vit_b_01ec64.pth": "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
}
"""Of each file. The hexadecimal digits in the names are the first ones of their MD5."""


def where_to_get(path: PurePath | str) -> str:
    """`get it from LINK (SHA-256 ...)` for a path that has the name of an official checkpoint, else an empty text."""
    name = PurePath(path).name
    return f"get it from {_PLACE}/{name} (SHA-256 {SHA256[name]})" if name in SHA256 else ""
