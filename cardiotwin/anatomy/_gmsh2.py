"""Gmsh's mesh format, version 2, text and binary (https://gmsh.info/doc/texinfo, "MSH 2").

meshio misplaces element data of this version, hence a reader of our own; version 4 goes to meshio.
"""

import shlex
from pathlib import Path

import numpy as np

from cardiotwin.anatomy._filemesh import REGION, SURFACE, Block, FileMesh

PHYSICAL, GEOMETRICAL = "gmsh:physical", "gmsh:geometrical"
# element type -> (kind, nodes)
_KINDS = {
    1: ("line", 2), 2: ("triangle", 3), 3: ("quad", 4), 4: ("tetra", 4), 5: ("hexahedron", 8),
    6: ("wedge", 6), 7: ("pyramid", 5), 8: ("line3", 3), 9: ("triangle6", 6), 10: ("quad9", 9),
    11: ("tetra10", 10), 12: ("hexahedron27", 27), 13: ("wedge18", 18), 14: ("pyramid14", 14),
    15: ("vertex", 1), 16: ("quad8", 8), 17: ("hexahedron20", 20), 18: ("wedge15", 15),
    19: ("pyramid13", 13),
}  # fmt: skip
_NUMBERS = {kind: number for number, (kind, _) in _KINDS.items()}


def is_version_2(path: Path) -> bool:
    """Whether the file says that it is of version 2."""
    with path.open("rb") as file:
        words = file.read(64).split()
    return words[:1] == [b"$MeshFormat"] and words[1:2] != [] and words[1].startswith(b"2")


class _Reader:
    """A walk through the sections of a file."""

    def __init__(self, content: bytes):
        self.content, self.place = content, 0
        self.binary, self.order = False, "<"
        self.points = np.empty((0, 3))
        self.node_numbers = np.empty(0, int)
        self.blocks: list[Block] = []
        self.element_numbers: list[np.ndarray] = []
        self.names: dict[int, dict[int, str]] = {2: {}, 3: {}}
        self.node_data: dict[str, np.ndarray] = {}
        self.element_data: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def run(self) -> FileMesh:
        readers = {
            b"MeshFormat": self.read_format,
            b"PhysicalNames": self.read_names,
            b"Nodes": self.read_nodes,
            b"Elements": self.read_elements,
            b"NodeData": self.read_node_data,
            b"ElementData": self.read_element_data,
        }
        while True:
            line = self.line()
            while line == b"" and self.place < len(self.content):
                line = self.line()
            if line == b"":
                break
            if not line.startswith(b"$"):
                raise ValueError(f"unexpected {line[:30]!r} at byte {self.place}")
            section = line[1:]
            readers.get(section, lambda: None)()
            self.skip_to_end(section)
        return self.result()

    def line(self) -> bytes:
        end = self.content.find(b"\n", self.place)
        end = len(self.content) if end < 0 else end
        line, self.place = self.content[self.place : end].strip(), end + 1
        return line

    def skip_to_end(self, section: bytes) -> None:
        mark = b"$End" + section
        found = self.content.find(mark, max(self.place - 1, 0))
        if found < 0:
            raise ValueError(f"the section ${section.decode('ascii', 'replace')} is not closed")
        self.place = found + len(mark)

    def array(self, dtype: np.dtype, count: int) -> np.ndarray:
        size = dtype.itemsize * count
        values = np.frombuffer(self.content[self.place : self.place + size], dtype)
        if len(values) != count:
            raise ValueError(f"{count} entries promised at byte {self.place}, {len(values)} found")
        self.place += size
        return values

    def text_rows(self, section: bytes, count: int) -> list[list[bytes]]:
        end = self.content.find(b"$End" + section, self.place)
        rows = [line.split() for line in self.content[self.place : end].splitlines()]
        rows = [row for row in rows if row]
        if end < 0 or len(rows) != count:
            raise ValueError(f"${section.decode()} promises {count} rows and holds {len(rows)}")
        self.place = end
        return rows

    def read_format(self) -> None:
        _, binary, size = self.line().split()
        self.binary = binary == b"1"
        if size != b"8":
            raise ValueError(f"numbers of {size.decode()} bytes, only 8 are known")
        if self.binary and self.array(np.dtype("<i4"), 1)[0] != 1:
            self.order = ">"

    def read_names(self) -> None:
        for _ in range(int(self.line())):
            dimension, number, name = shlex.split(self.line().decode("utf-8"))
            self.names.setdefault(int(dimension), {})[int(number)] = name

    def numbered(self, section: bytes, count: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a number and values."""
        if self.binary:
            dtype = np.dtype([("n", self.order + "i4"), ("v", self.order + "f8", (columns,))])
            rows = self.array(dtype, count)
            return rows["n"].astype(int), rows["v"].astype(float)
        table = np.array(self.text_rows(section, count), object).astype(float)
        return table[:, 0].astype(int), table[:, 1:]

    def read_nodes(self) -> None:
        self.node_numbers, self.points = self.numbered(b"Nodes", int(self.line()), 3)

    def read_elements(self) -> None:
        count = int(self.line())
        if not self.binary:
            rows = [list(map(int, row)) for row in self.text_rows(b"Elements", count)]
            shapes = [(row[1], row[2], len(row)) for row in rows]
            for kind, tags, width in dict.fromkeys(shapes):
                chosen = [r for r, s in zip(rows, shapes, strict=True) if s == (kind, tags, width)]
                self.add_elements(kind, tags, np.array(chosen)[:, [0, *range(3, width)]])
            return
        while count > 0:
            kind, number, tags = self.array(np.dtype(self.order + "i4"), 3).tolist()
            width = 1 + tags + _KINDS.get(kind, ("", 0))[1]
            table = self.array(np.dtype(self.order + "i4"), number * width)
            self.add_elements(kind, tags, table.reshape(number, width).astype(int))
            count -= max(number, 1)

    def add_elements(self, kind: int, tags: int, table: np.ndarray) -> None:
        name, nodes = _KINDS.get(kind, (f"Gmsh type {kind}", 0))
        if not nodes or table.shape[1] != 1 + tags + nodes:
            raise ValueError(f"elements of type {kind} with {table.shape[1] - 1 - tags} nodes")
        place = np.full(int(self.node_numbers.max(initial=0)) + 1, -1)
        place[self.node_numbers] = np.arange(len(self.node_numbers))
        indices = table[:, 1 + tags :]
        if indices.min() < 0 or indices.max() >= len(place) or (place[indices] < 0).any():
            raise ValueError(f"elements of type {kind} point to nodes that do not exist")
        labels = {PHYSICAL: np.zeros(len(table), int), GEOMETRICAL: np.zeros(len(table), int)}
        for column, label in enumerate((PHYSICAL, GEOMETRICAL)[:tags], start=1):
            labels[label] = table[:, column]
        self.blocks.append(Block(name, place[indices], labels))
        self.element_numbers.append(table[:, 0])

    def view(self, section: bytes) -> tuple[str, np.ndarray, np.ndarray]:
        texts = [self.line() for _ in range(int(self.line()))]
        name = texts[0].strip(b'"').decode("utf-8")
        for _ in range(int(self.line())):
            self.line()  # the time
        integers = [int(self.line()) for _ in range(int(self.line()))]
        numbers, values = self.numbered(section, integers[2], integers[1])
        return name, numbers, values[:, 0] if integers[1] == 1 else values

    def read_node_data(self) -> None:
        name, numbers, values = self.view(b"NodeData")
        self.node_data[name] = _in_order(self.node_numbers, numbers, values)

    def read_element_data(self) -> None:
        name, numbers, values = self.view(b"ElementData")
        self.element_data[name] = numbers, values

    def result(self) -> FileMesh:
        for block, numbers in zip(self.blocks, self.element_numbers, strict=True):
            for name, (known, values) in self.element_data.items():
                block.data[name] = _in_order(numbers, known, values)
        return FileMesh(self.points, self.blocks, self.node_data, self.names[3], self.names[2])


def read(path: Path) -> FileMesh:
    """Read a file of version 2; points as the file has them."""
    try:
        return _Reader(path.read_bytes()).run()
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"a section breaks off ({error})") from error


def write(path: Path, mesh: FileMesh, names: dict[str, tuple[int, int]]) -> None:
    """Write a binary file of version 2.2.

    Args:
        path: the file.
        mesh: tetrahedra and perhaps triangles; fields of shape [n], [n, 3] or [n, 9].
        names: name -> (label, dimension).
    """
    parts = [b"$MeshFormat\n2.2 1 8\n", np.array([1], "<i4").tobytes(), b"\n$EndMeshFormat\n"]
    entries = sorted((dimension, label, name) for name, (label, dimension) in names.items())
    lines = [f'{dimension} {label} "{name}"\n' for dimension, label, name in entries]
    listing = "".join([f"{len(lines)}\n", *lines])
    parts.append(f"$PhysicalNames\n{listing}$EndPhysicalNames\n".encode())
    parts.append(f"$Nodes\n{len(mesh.points)}\n".encode())
    parts += [_numbered_rows(mesh.points), b"\n$EndNodes\n"]
    parts.append(f"$Elements\n{sum(len(b.nodes) for b in mesh.blocks)}\n".encode())
    first = 1
    for block in mesh.blocks:
        label = block.data[REGION if block.kind == "tetra" else SURFACE]
        numbers = np.arange(first, first + len(block.nodes))
        table = np.column_stack([numbers, label, label, block.nodes + 1]).astype("<i4")
        header = np.array([_NUMBERS[block.kind], len(table), 2], "<i4")
        parts += [header.tobytes(), table.tobytes()]
        first += len(table)
    parts.append(b"\n$EndElements\n")
    for name, values in mesh.point_data.items():
        parts += _view(name, "NodeData", values)
    for name, values in mesh.blocks[0].data.items():
        if name not in (REGION, SURFACE):
            parts += _view(name, "ElementData", values)
    path.write_bytes(b"".join(parts))


def _view(name: str, section: str, values: np.ndarray) -> list[bytes]:
    columns = values.reshape(len(values), -1).shape[1]
    head = f'${section}\n1\n"{name}"\n1\n0.0\n3\n0\n{columns}\n{len(values)}\n'
    return [head.encode(), _numbered_rows(values), f"\n$End{section}\n".encode()]


def _numbered_rows(values: np.ndarray) -> bytes:
    flat = values.reshape(len(values), -1)
    rows = np.empty(len(flat), np.dtype([("n", "<i4"), ("v", "<f8", (flat.shape[1],))]))
    rows["n"] = np.arange(1, len(flat) + 1)
    rows["v"] = flat
    return rows.tobytes()


def _in_order(wanted: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values for the wanted numbers; NaN where a number has none."""
    result = np.full((len(wanted), *values.shape[1:]), np.nan)
    if len(known):
        order = np.argsort(known)
        place = np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)
        found = known[order[place]] == wanted
        result[found] = values[order[place[found]]]
    return result
