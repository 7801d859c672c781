"""The single files of an openCARP mesh, text and binary; see `carp` for the whole."""

import gzip
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cardiotwin.anatomy._filemesh import REGION, SURFACE, Block
from cardiotwin.units import from_mm, length_exponent, to_mm

if TYPE_CHECKING:
    from cardiotwin.anatomy.mesh import Mesh

HEADER_BYTES = 1024
CHECKSUM = 666  # what meshtool and openCARP write; neither checks it
# tag in .elem -> (number in .belem, kind, order that turns its nodes into VTK's)
_KINDS = {
    "Tt": (0, "tetra", [0, 1, 2, 3]),
    "Hx": (1, "hexahedron", [5, 6, 7, 4, 3, 2, 1, 0]),
    "Py": (3, "pyramid", [0, 1, 2, 3, 4]),
    "Pr": (4, "wedge", [0, 1, 2, 3, 5, 4]),
    "Qd": (5, "quad", [0, 1, 2, 3]),
    "Tr": (6, "triangle", [0, 1, 2]),
    "Ln": (7, "line", [0, 1]),
    "Cx": (7, "line", [0, 1]),
}
_BY_NUMBER = {number: tag for tag, (number, _, _) in reversed(_KINDS.items())}


def _content(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error


def words_of(path: Path) -> list[bytes]:
    return _content(path).split()


def promised_count(path: Path, words: list[bytes]) -> int:
    if not words or not words[0].isdigit():
        first = words[0][:20].decode("ascii", "replace") if words else "nothing"
        raise ValueError(
            f"{path}: begins with {first!r}, expected the number of entries: it is no openCARP "
            "file or it is damaged"
        )
    return int(words[0])


def check_count(path: Path, expected: int, found: int, what: str) -> None:
    if expected != found:
        raise ValueError(
            f"{path}: the header promises {expected} {what}, the file holds {found}: it ends early "
            "or is damaged; copy it again"
        )


def numbers_of(path: Path, words: list[bytes], dtype: type) -> np.ndarray:
    try:
        return np.array([dtype(word) for word in words]) if words else np.empty(0, dtype)
    except ValueError as error:
        raise ValueError(f"{path}: holds what is no number ({error}): it is damaged") from error


def read_pts(path: Path, unit: str) -> np.ndarray:
    words = words_of(path)
    count = promised_count(path, words)
    check_count(path, 3 * count, len(words) - 1, "coordinates")
    exponent = length_exponent(unit)
    try:
        values = [_shifted(word, exponent) for word in words[1:]]
    except (ValueError, ArithmeticError) as error:
        raise ValueError(f"{path}: holds what is no number ({error}): it is damaged") from error
    return np.array(values).reshape(count, 3)


def _shifted(word: bytes, exponent: int) -> float:
    """The number times a power of ten, rounded once: text keeps every bit of a coordinate."""
    if b"e" in word or b"E" in word or b"n" in word:
        return float(Decimal(word.decode()).scaleb(exponent))
    return float(word + b"e%d" % exponent)


def read_elem(path: Path) -> tuple[list[Block], list[np.ndarray]]:
    lines = [line for line in _content(path).splitlines() if line.strip()]
    count = promised_count(path, lines[0].split() if lines else [])
    check_count(path, count, len(lines) - 1, "elements")
    tags = np.array([line.split(None, 1)[0] for line in lines[1:]])
    blocks, places = [], []
    for tag in np.unique(tags):
        if tag.decode("ascii", "replace") not in _KINDS:
            raise ValueError(
                f"{path}: elements of type {tag.decode('ascii', 'replace')!r}, known are "
                f"{', '.join(_KINDS)}"
            )
        rows = np.flatnonzero(tags == tag)
        table = _element_table(path, [lines[1 + row] for row in rows], tag.decode())
        blocks.append(_block(tag.decode(), table[:, :-1], table[:, -1]))
        places.append(rows)
    return blocks, places


def _element_table(path: Path, lines: list[bytes], tag: str) -> np.ndarray:
    """Node indices and region tag (0 where left out) of elements of one kind."""
    width = len(_KINDS[tag][2])
    rows = [line.split()[1:] for line in lines]
    short = next((i for i, row in enumerate(rows) if len(row) not in (width, width + 1)), None)
    if short is not None:
        raise ValueError(
            f"{path}: {lines[short].decode('ascii', 'replace')!r} has {len(rows[short])} numbers, "
            f"an element of type {tag} has {width} nodes and a tag: the file is damaged"
        )
    words = [word for row in rows for word in (row if len(row) > width else [*row, b"0"])]
    return numbers_of(path, words, int).reshape(len(rows), width + 1)


def _block(tag: str, nodes: np.ndarray, labels: np.ndarray) -> Block:
    _, kind, order = _KINDS[tag]
    name = SURFACE if kind in ("triangle", "quad") else REGION
    return Block(kind, nodes[:, order].astype(np.int64), {name: labels.astype(np.int32)})


def read_directions(path: Path) -> np.ndarray:
    """The directions of a .lon or .blon file, [elements, 3], or [elements, 6] with sheets."""
    if path.suffix.lower() == ".blon":
        numbers, order, data = _binary(path)
        axes, count = numbers[0], numbers[1]
        check_count(path, 12 * axes * count, len(data), "bytes of directions")
        values = np.frombuffer(data, order + "f4").astype(np.float64)
    else:
        lines = _content(path).splitlines()
        first = lines[0].split() if lines else []
        has_header = len(first) == 1
        axes = int(numbers_of(path, first, int)[0]) if has_header else len(first) // 3
        values = numbers_of(path, b" ".join(lines[1 if has_header else 0 :]).split(), float)
        count = sum(bool(line.strip()) for line in lines) - has_header
    if axes not in (1, 2):
        raise ValueError(f"{path}: {axes} directions per element, expected 1 or 2")
    check_count(path, 3 * axes * count, len(values), "numbers")
    return values.reshape(count, 3 * axes)


def _binary(path: Path) -> tuple[list[int], str, bytes]:
    """Header numbers, byte order and content of a binary file."""
    content = _content(path)
    words = content[:HEADER_BYTES].split(b"\0", 1)[0].split()
    if len(content) < HEADER_BYTES or not words or not all(word.isdigit() for word in words):
        raise ValueError(
            f"{path}: no openCARP header of {HEADER_BYTES} bytes at its begin: it is another "
            "format or it is damaged"
        )
    numbers = [int(word) for word in words]
    place = 2 if path.suffix.lower() == ".blon" else 1
    big = len(numbers) > place and numbers[place] == 1
    if len(numbers) < place:
        raise ValueError(f"{path}: the header {numbers} does not give the number of entries")
    return numbers, ">" if big else "<", content[HEADER_BYTES:]


def read_bpts(path: Path, unit: str) -> np.ndarray:
    numbers, order, data = _binary(path)
    check_count(path, 12 * numbers[0], len(data), "bytes of coordinates")
    values = np.frombuffer(data, order + "f4").astype(np.float64)
    return to_mm(values, unit).reshape(numbers[0], 3)


def read_belem(path: Path) -> tuple[list[Block], list[np.ndarray]]:
    numbers, order, data = _binary(path)
    if len(data) % 4:
        raise ValueError(f"{path}: {len(data)} bytes are no whole number of integers: damaged")
    values = np.frombuffer(data, order + "i4").astype(np.int64)
    starts = _element_starts(path, values, numbers[0])
    kinds = values[starts]
    blocks, places = [], []
    for number in np.unique(kinds):
        tag = _BY_NUMBER[int(number)]
        rows = np.flatnonzero(kinds == number)
        table = values[starts[rows][:, None] + np.arange(1, len(_KINDS[tag][2]) + 2)]
        blocks.append(_block(tag, table[:, :-1], table[:, -1]))
        places.append(rows)
    return blocks, places


def _element_starts(path: Path, values: np.ndarray, count: int) -> np.ndarray:
    """Where each element's record (kind, nodes, tag) begins."""
    lengths = {number: len(_KINDS[tag][2]) + 2 for number, tag in _BY_NUMBER.items()}
    step = lengths.get(int(values[0]), 0) if len(values) else 0
    if step and step * count == len(values) and (values[::step] == values[0]).all():
        return np.arange(0, len(values), step)
    starts, place = [], 0
    while place < len(values) and int(values[place]) in lengths:
        starts.append(place)
        place += lengths[int(values[place])]
    if place < len(values):
        raise ValueError(f"{path}: element type {values[place]} is not known: it is damaged")
    check_count(path, count, len(starts) - (place > len(values)), "elements")
    return np.array(starts, int)


def write_text(target: Path, mesh: "Mesh", lon: np.ndarray | None) -> None:
    exponent = -length_exponent("um")
    lines = [" ".join(_decimal(x, exponent) for x in point) for point in mesh.points.tolist()]
    sibling(target, ".pts").write_text("\n".join([str(len(lines)), *lines, ""]))
    table = np.column_stack([mesh.cells, mesh.regions]).tolist()
    lines = ["Tt {} {} {} {} {}".format(*row) for row in table]
    sibling(target, ".elem").write_text("\n".join([str(len(lines)), *lines, ""]))
    if lon is not None:
        lines = [" ".join(map(repr, row)) for row in lon.astype(float).tolist()]
        axes = str(lon.shape[1] // 3)
        sibling(target, ".lon").write_text("\n".join([axes, *lines, ""]))


def _decimal(value: float, exponent: int) -> str:
    return format(Decimal(repr(value)).scaleb(exponent), "f")


def write_binary(target: Path, mesh: "Mesh", lon: np.ndarray | None) -> None:
    points = from_mm(mesh.points, "um").astype("<f4")
    kind = np.full(len(mesh.cells), _KINDS["Tt"][0])
    table = np.column_stack([kind, mesh.cells, mesh.regions]).astype("<i4")
    _write_binary_file(sibling(target, ".bpts"), [len(points)], points)
    _write_binary_file(sibling(target, ".belem"), [len(table)], table)
    if lon is not None:
        numbers = [lon.shape[1] // 3, len(lon)]
        _write_binary_file(sibling(target, ".blon"), numbers, lon.astype("<f4"))


def _write_binary_file(path: Path, numbers: list[int], values: np.ndarray) -> None:
    header = " ".join(map(str, [*numbers, 0, CHECKSUM])).encode()
    path.write_bytes(header.ljust(HEADER_BYTES, b"\0") + values.tobytes())


def sibling(base: Path, suffix: str) -> Path:
    return base.with_name(base.name + suffix)
