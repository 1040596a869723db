"""Labelled images to start from: `sources`, `convert`, `draw`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from segkit.errors import InputError
from segkit.printable import examples, printable
from synthgen.commands.arguments import AsJson, LabelFormat, LabelSourceName, ShownSource, on_disk, one_line_errors

commands = typer.Typer()
PANEL = "Labelled images to start from"  # under which `synthgen --help` shows them


@commands.command(
    rich_help_panel=PANEL, epilog=examples("synthgen sources", "synthgen sources cityscapes", "synthgen sources --json")
)
def sources(name: ShownSource = "", as_json: AsJson = False) -> None:
    """List the public datasets and exports of labelling tools that can serve as labelled images: what to download from
    where or to export, and under which licence."""
    with one_line_errors():
        from synthgen.sources.catalogue import read_source, source_names

        chosen = [read_source(each) for each in ([name] if name else source_names())]
        if as_json:
            typer.echo(json.dumps([each.model_dump(mode="json") for each in chosen], indent=1))
        elif not name:
            for each in chosen:
                typer.echo(f"{each.name:18} {each.title} [{each.licence}]")
            typer.echo(
                "use one: --set support.source=NAME --set support.folder=DIR --set support.split=SPLIT; "
                "`synthgen sources NAME` tells more"
            )
        else:
            (source,) = chosen
            typer.echo(
                f"{source.title}\nlicence: {source.licence}\nlabel space: {source.space or 'your own'}\nsplits: "
                f"{', '.join(source.splits)}"
            )
            typer.echo(f"\n{source.download}\nread from the folder:")
            for layout in source.layouts:
                typer.echo(f"  {layout.images}  with  {layout.labels}")


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "synthgen convert camvid my_camvid camvid_val --split val",
        "synthgen convert gta5 my_gta5 gta5_train --space cityscapes",
        "synthgen convert cvat_masks my_export for_labelme --to labelme",
    ),
)
def convert(
    source: LabelSourceName,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where it lies", callback=on_disk)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder", callback=on_disk)],
    split: Annotated[str, typer.Option(metavar="NAME", help="Which split; default: the first")] = "",
    space: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Label space of the masks; default: the dataset's own, or the classes that occur in it"
        ),
    ] = "",
    to: LabelFormat = "folder",
    as_json: AsJson = False,
) -> None:
    """Write a split of a public dataset, or what a labelling tool exports, as a plain labelled folder or for another
    tool; what that cannot hold is counted."""
    with one_line_errors("nothing is written; the same command begins again"):
        from synthgen.labels import read_label_space
        from synthgen.sources.catalogue import FOLDER, read_source
        from synthgen.sources.convert import Conversion, converted
        from synthgen.sources.listing import list_source
        from synthgen.sources.writing import find

        own = space or (str(folder / "labels.yaml") if source == FOLDER else read_source(source).space)
        result: Conversion | None = None
        pairs = list_source(source, folder, split)
        for result in converted(source, pairs, read_label_space(own) if own else None, out, to):  # noqa: B007
            pass
        if result is None:
            raise InputError(f"{folder}: holds no labelled picture")
        lost = dict(+result.lost)
        if as_json:
            classes = [label.name for label in result.space.labels]
            report = {"folder": str(out), "format": to, "pictures": result.num_pictures, "not_carried": lost}
            return typer.echo(json.dumps(report | {"classes": classes}, indent=1, ensure_ascii=False))
        typer.echo(f"{out}: {result.num_pictures} images of {source}" + (f" as {to}" if to != FOLDER else ""))
        if lost:
            typer.echo(printable("not carried: " + "; ".join(f"{count} {what}" for what, count in lost.items())))
        if to != FOLDER or not own:
            typer.echo(f"open: {find(to).USE}")


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "synthgen draw runs/held-out --count 200",
        "synthgen draw streets --world streets --size-px 128",
        "synthgen draw day --world streets --domain day",
        "synthgen draw test --world streets --intruders 0.5 --held-out --unknown",
    ),
)
def draw(
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="A new folder: images/ and labels/ (PNG of class ids)", callback=on_disk),
    ],
    world: Annotated[str, typer.Option(metavar="WORLD", help="objects or streets")] = "objects",
    count: Annotated[int, typer.Option(metavar="N", min=1, help="How many scenes")] = 100,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the first scene; scene i has seed + i")] = 0,
    size_px: Annotated[
        int, typer.Option(metavar="PX", min=32, max=1024, help="Height; street scenes are 1.5 times as wide")
    ] = 64,
    domain: Annotated[
        str,
        typer.Option(metavar="NAME", help="Of streets: day, night, fog, rain or snow; default: each in turn of luck"),
    ] = "",
    intruders: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            min=0,
            max=1,
            help="Share of the streets with an object that no street has (label space streets)",
        ),
    ] = 0.0,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Of these objects, those that are kept for tests of the unknown")
    ] = False,
    unknown: Annotated[
        bool,
        typer.Option(
            "--unknown",
            help="Label these objects 254, in the label space cityscapes: a set for `segtrain eval --anomaly`",
        ),
    ] = False,
) -> None:
    """Draw scenes with exact masks as a plain labelled folder, as if they were your own data."""
    with one_line_errors("nothing is written; the same command begins again"):
        from synthgen.drawn.split import write_split

        write_split(
            out,
            world,
            count,
            seed,
            size_px,
            domain=domain,
            intruders=intruders,
            held_out=held_out,
            unknown=unknown,
        )
        typer.echo(f"{out}: {count} {world} scenes")
