"""What the options of ``cardiotwin twin`` ask for."""

import argparse
from pathlib import Path

from cardiotwin.run.twin import TwinTask


def twin_task(options: argparse.Namespace) -> TwinTask:
    """The task of parsed options (see `cardiotwin._help.twin_parser`).

    Raises:
        ValueError: angles or labels do not read.
    """
    try:
        angles = tuple(float(x) for x in options.angles.split(","))
    except ValueError:
        raise ValueError(f"--angles is {options.angles!r}; give numbers: 60,-60,-20,20") from None
    try:
        labels = (
            tuple(int(x) for x in options.scar_labels.split(",")) if options.scar_labels else ()
        )
    except ValueError:
        raise ValueError(f"--scar-labels is {options.scar_labels!r}; give numbers: 1,2") from None
    if labels and not options.scar:
        raise ValueError("--scar-labels are of an image: give --scar IMAGE too")
    return TwinTask(
        Path(options.source),
        Path(options.output),
        unit=options.unit,
        names=_path(options.names),
        keep=tuple(options.keep.split(",")) if options.keep else None,
        labels=options.labels,
        edge_length=options.edge_length,
        voxels=options.voxels,
        fibres=options.fibres,
        angles=angles,
        electrodes=_path(options.electrodes),
        scar=_path(options.scar),
        scar_labels=labels,
        scar_method=options.scar_method,
        purkinje=tuple(filter(None, options.purkinje.split(","))),
        overwrite=options.overwrite,
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
