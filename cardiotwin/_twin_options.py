"""What the options of ``cardiotwin twin`` ask for."""

import argparse
from pathlib import Path

from cardiotwin.run.twin import TwinTask


def twin_task(options: argparse.Namespace) -> TwinTask:
    """The task of parsed options (see `cardiotwin._help.twin_parser`).

    Raises:
        ValueError: the angles do not read.
    """
    try:
        angles = tuple(float(x) for x in options.angles.split(","))
    except ValueError:
        raise ValueError(f"--angles is {options.angles!r}; give numbers: 60,-60,-20,20") from None
    return TwinTask(
        Path(options.source),
        Path(options.output),
        unit=options.unit,
        names=_path(options.names),
        keep=tuple(options.keep.split(",")) if options.keep else None,
        labels=options.labels,
        edge_length=options.edge_length,
        fibres=options.fibres,
        angles=angles,
        electrodes=_path(options.electrodes),
        purkinje=tuple(filter(None, options.purkinje.split(","))),
        overwrite=options.overwrite,
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
