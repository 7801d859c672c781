"""Reading the steps of a run back, one frame at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.results._vtkhdf_layout import dynamic_arrays, open_vtkhdf, step_times


class Steps:
    """The steps of a VTKHDF file; frames are read when asked for. A context manager.

    Attributes:
        times: float64 [steps], ms.
        names: the fields that change with time.
    """

    def __init__(self, path: Path | str):
        """Open the file.

        Args:
            path: a .vtkhdf file written by `VTKHDFWriter`, finished or not.

        Raises:
            ValueError: when it is missing or not such a file.
        """
        self._file = open_vtkhdf(Path(path), "r")
        self._root: Any = self._file["VTKHDF"]
        self.times: np.ndarray = step_times(self._root["Steps"])
        self._fields = {d.name.rsplit("/", 1)[-1]: d for d in dynamic_arrays(self._root)}
        self.names = tuple(self._fields)
        self._nodes = len(self._root["Points"])

    def frame(self, index: int, name: str = "V") -> np.ndarray:
        """One field at one step.

        Args:
            index: step, negative from the end.
            name: field.

        Returns:
            float32 [nodes] or [nodes, components].

        Raises:
            ValueError: when there is no such step or field.
        """
        count = len(self.times)
        if not -count <= index < count:
            raise ValueError(f"step {index} of {self._file.filename}: it holds {count} steps")
        if name not in self._fields:
            raise ValueError(f"field {name!r} of {self._file.filename}: it holds {self.names}")
        first = (index % count) * self._nodes
        return self._fields[name][first : first + self._nodes]

    def frames(self, name: str = "V") -> Iterator[tuple[float, np.ndarray]]:
        """Yield (time in ms, values) of each step in turn."""
        for index, time in enumerate(self.times):
            yield float(time), self.frame(index, name)

    def mesh(self) -> Mesh:
        """The mesh with its static fields."""
        root = self._root
        cell_data = {name: d[:] for name, d in root["CellData"].items()}
        return Mesh(
            root["Points"][:],
            root["Connectivity"][:].reshape(-1, 4),
            cell_data.pop("region"),
            cell_data=cell_data,
            point_data={n: d[:] for n, d in root["PointData"].items() if n not in self._fields},
            allow_components=True,
        )

    def table(self, name: str) -> dict[str, np.ndarray]:
        """The columns of a table written with `VTKHDFWriter.write_table`.

        Raises:
            ValueError: when there is no table of that name.
        """
        tables: Any = self._file.get("Tables", {})
        if name not in tables:
            raise ValueError(f"table {name!r} of {self._file.filename}: it holds {list(tables)}")
        return {column: dataset[:] for column, dataset in tables[name].items()}

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __len__(self) -> int:
        return len(self.times)

    def __enter__(self) -> "Steps":
        return self

    def __exit__(self, *_exception) -> None:
        self.close()


def read_steps(path: Path | str) -> Steps:
    """Open a run's VTKHDF file for reading; see `Steps`."""
    return Steps(path)
