"""An XDMF 2 sidecar that lets readers without temporal VTKHDF (ParaView 5.11) open the steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from cardiotwin.results._files import atomic_path

_SHAPES = {3: "Triangle", 4: "Tetrahedron", 8: "Hexahedron"}
_KINDS = {1: "Scalar", 3: "Vector", 9: "Tensor"}
_NUMBER_TYPES = {"f": "Float", "i": "Int", "u": "UInt"}


@dataclass(frozen=True)
class Array:
    """Where one dataset of the VTKHDF file lies, and its shape and type.

    Attributes:
        location: path inside the HDF5 file, such as ``/VTKHDF/PointData/V``.
        shape: the whole dataset's shape.
        dtype: its NumPy type.
    """

    location: str
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def name(self) -> str:
        """The last part of the location."""
        return self.location.rsplit("/", 1)[-1]

    @property
    def kind(self) -> str:
        """Scalar, Vector or Tensor, as XDMF calls them."""
        components = 1 if len(self.shape) == 1 else self.shape[1]
        return _KINDS.get(components, "Matrix")


def write_sidecar(
    path: Path,
    hdf_name: str,
    *,
    times: Sequence[float],
    points: Array,
    connectivity: Array,
    elements: int,
    static: Mapping[str, Sequence[Array]],
    dynamic: Sequence[Array],
) -> None:
    """Write the sidecar anew, atomically.

    Args:
        path: the .xdmf file.
        hdf_name: name of the VTKHDF file in the same folder.
        times: time of each step, ms.
        points: node coordinates [nodes, 3].
        connectivity: node indices, flat, 3 of each triangle, 4 of each tetrahedron or 8 of each
            hexahedron.
        elements: number of them.
        static: "Node" and "Cell" arrays that hold for all steps.
        dynamic: node arrays in which step i holds rows i * nodes to (i + 1) * nodes.

    Raises:
        DiskFull: when it does not fit; an earlier sidecar stays.
    """
    nodes, corners = points.shape[0], connectivity.shape[0] // elements
    constant = [
        f'<Topology TopologyType="{_SHAPES[corners]}" NumberOfElements="{elements}">'
        f"{_item(hdf_name, connectivity, (elements, corners))}</Topology>",
        f'<Geometry GeometryType="XYZ">{_item(hdf_name, points, points.shape)}</Geometry>',
    ]
    for centre, arrays in static.items():
        constant += [
            _attribute(array, centre, _item(hdf_name, array, array.shape)) for array in arrays
        ]
    steps = []
    for index, time in enumerate(times):
        fields = [_attribute(a, "Node", _slab(hdf_name, a, index, nodes)) for a in dynamic]
        steps.append(
            f'<Grid Name="step {index}" GridType="Uniform"><Time Value="{float(time):.10g}"/>\n'
            + "\n".join(constant + fields)
            + "\n</Grid>"
        )
    text = (
        '<?xml version="1.0"?>\n<Xdmf Version="2.0"><Domain>\n'
        '<Grid Name="steps" GridType="Collection" CollectionType="Temporal">\n'
        + "\n".join(steps)
        + "\n</Grid>\n</Domain></Xdmf>\n"
    )
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _dimensions(shape: Sequence[int]) -> str:
    return " ".join(str(n) for n in shape)


def _item(hdf_name: str, array: Array, shape: Sequence[int]) -> str:
    return (
        f'<DataItem Dimensions="{_dimensions(shape)}" '
        f'NumberType="{_NUMBER_TYPES[array.dtype.kind]}" Precision="{array.dtype.itemsize}" '
        f'Format="HDF">{escape(hdf_name)}:{escape(array.location)}</DataItem>'
    )


def _slab(hdf_name: str, array: Array, step: int, nodes: int) -> str:
    """Rows of one step out of the long dataset: start, stride and count, then the dataset."""
    tail = array.shape[1:]
    start = (step * nodes, *(0 for _ in tail))
    stride = tuple(1 for _ in array.shape)
    count = (nodes, *tail)
    selection = " ".join(_dimensions(row) for row in (start, stride, count))
    return (
        f'<DataItem ItemType="HyperSlab" Dimensions="{_dimensions(count)}" Type="HyperSlab">'
        f'<DataItem Dimensions="3 {len(array.shape)}" Format="XML">{selection}</DataItem>'
        f"{_item(hdf_name, array, array.shape)}</DataItem>"
    )


def _attribute(array: Array, centre: str, item: str) -> str:
    return (
        f"<Attribute Name={quoteattr(array.name)} AttributeType={quoteattr(array.kind)} "
        f"Center={quoteattr(centre)}>{item}</Attribute>"
    )
