"""What the options of ``cardiotwin mesh`` ask for."""

import argparse
from pathlib import Path

from cardiotwin._resources import label_tables
from cardiotwin.anatomy.label_table import table_path
from cardiotwin.run.mesh import MeshTask


def mesh_task(options: argparse.Namespace) -> MeshTask:
    """The task of parsed options (see `cardiotwin._help.mesh_parser`).

    Raises:
        ValueError: a list does not read, or there is no such label table.
    """
    source, tables = Path(options.source), label_tables()
    stem = source.name.partition(".")[0]
    return MeshTask(
        source,
        Path(options.output or f"{stem}_heart.vtu"),
        edge_length=options.edge_length,
        spacing=options.spacing,
        rv_wall=options.rv_wall,
        labels=None if options.labels is None else table_path(options.labels),
        tables=tables,
        voxel=_edges(options.voxel),
        surfaces=_surfaces(options.surfaces),
        unit=options.unit,
        picture=Path(options.picture) if options.picture else None,
        remesh=options.remesh,
    )


def _edges(text: str | None) -> tuple[float, ...] | float | None:
    """One edge of a voxel or three."""
    if text is None:
        return None
    try:
        edges = [float(x) for x in text.split(",")]
    except ValueError:
        edges = []
    if len(edges) not in (1, 3):
        raise ValueError(f"--voxel is {text!r}; give one length in mm or three: 0.5,0.5,0.6")
    return tuple(edges) if len(edges) == 3 else edges[0]


def _surfaces(text: str | None) -> dict[str, int] | None:
    """Label by name of surface."""
    if text is None:
        return None
    pairs = [word.partition("=") for word in text.split(",")]
    try:
        return {name.strip(): int(label) for name, _, label in pairs}
    except ValueError:
        raise ValueError(
            f"--surfaces is {text!r}; give names and labels: base=1,epi=2,endo_lv=3,endo_rv=4"
        ) from None
