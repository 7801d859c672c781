"""How good a mesh is, and what it still lacks before it can be simulated."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from cardiotwin.anatomy._size import size_doubt
from cardiotwin.anatomy.heart_checks import heart_doubts
from cardiotwin.anatomy.mesh import STANDARD_SURFACES, Mesh
from cardiotwin.anatomy.mesh import unique_edges as unique_edges
from cardiotwin.anatomy.topology import (
    areas,
    component_labels,
    element_faces,
    face_component_count,
    match_faces,
)
from cardiotwin.numerics.fem import p1_geometry
from cardiotwin.units import MM2_PER_CM2, MM3_PER_ML

# An element with a dihedral angle below the first or above the second is a sliver, degrees.
SLIVER_ANGLES = (10.0, 165.0)
# Mean edges, mm: up to the first, a monodomain run needs no tuning of its conductivities; up to the
# second, tuning them on the mesh still gives a travelling wave; beyond, the excitation front, which
# is about 1 mm wide, falls between the nodes.
RESOLVING_EDGE = 0.3
TUNABLE_EDGE = 1.0


@dataclass(frozen=True)
class Spread:
    """Smallest, mean, median and largest of a measure, and its 5th and 95th percentile."""

    minimum: float
    percentile_5: float
    median: float
    mean: float
    percentile_95: float
    maximum: float


@dataclass(frozen=True)
class MeshQuality:
    """What `quality` measured; lengths in mm, areas in cm2, volumes in mL, angles in degrees.

    Attributes:
        nodes: number of nodes.
        elements: number of tetrahedra.
        edges: number of edges.
        size: extent of the bounding box along x, y, z.
        volume: of the whole mesh.
        region_volumes: label or name -> volume.
        surface_areas: name -> area, "(no surface)" for the rest of the boundary.
        surface_faces: name -> number of triangles.
        edge_length: spread of the lengths of all edges.
        element_volume: spread of the volumes of the elements, mm3.
        smallest_angle: spread of the smallest dihedral angle of each element.
        largest_angle: spread of the largest dihedral angle of each element.
        radius_ratio: spread of three times the inscribed over the circumscribed radius, 1 for a
            regular tetrahedron and 0 for a flat one.
        slivers: number of elements with an angle outside `SLIVER_ANGLES`.
        components: number of pieces that share no node.
        face_components: number of pieces that share no face.
        overfull_faces: faces that more than two elements share, which cannot be.
        bandwidth: largest difference of the node numbers of an edge.
        neighbours: mean number of nodes joined to a node by an edge, and the largest.
        fields: names of the fields per node and per element.
        fibres: what is known of the fibres: "fibre", "fibre and sheet" or "none".
    """

    nodes: int
    elements: int
    edges: int
    size: tuple[float, float, float]
    volume: float
    region_volumes: dict[str, float]
    surface_areas: dict[str, float]
    surface_faces: dict[str, int]
    edge_length: Spread
    element_volume: Spread
    smallest_angle: Spread
    largest_angle: Spread
    radius_ratio: Spread
    slivers: int
    components: int
    face_components: int
    overfull_faces: int
    bandwidth: int
    neighbours: tuple[float, int]
    fields: dict[str, list[str]]
    fibres: str


def edge_lengths(mesh: Mesh) -> Float[np.ndarray, " edges"]:
    """Length of every edge once [edges], mm, in the order of `mesh.unique_edges()`."""
    ends = mesh.points[mesh.unique_edges()]
    return np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)


def dihedral_angles(mesh: Mesh) -> Float[np.ndarray, "elements 6"]:
    """The six angles between the faces of every element [elements, 6], degrees."""
    gradients, _ = p1_geometry(mesh.points, mesh.cells)
    normals = gradients / np.linalg.norm(gradients, axis=2, keepdims=True)
    pairs = np.array([[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]])
    cosines = -np.einsum("epi,epi->ep", normals[:, pairs[:, 0]], normals[:, pairs[:, 1]])
    return np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))


def radius_ratios(mesh: Mesh) -> Float[np.ndarray, " elements"]:
    """Three times the inscribed over the circumscribed radius of every element [elements]."""
    corners = mesh.points[mesh.cells]
    a, b, c = (corners[:, k] - corners[:, 0] for k in (1, 2, 3))
    six_volumes = np.abs(np.einsum("ei,ei->e", a, np.cross(b, c)))
    faces = (np.cross(b, c), np.cross(c, a), np.cross(a, b), np.cross(b - a, c - a))
    surface = 0.5 * sum(np.linalg.norm(face, axis=1) for face in faces)
    inscribed = 0.5 * six_volumes / surface
    squares = [np.einsum("ei,ei->e", edge, edge)[:, None] for edge in (a, b, c)]
    centre = sum(square * face for square, face in zip(squares, faces[:3], strict=True))
    circumscribed = np.linalg.norm(centre, axis=1) / (2.0 * six_volumes)
    return 3.0 * inscribed / circumscribed


def quality(mesh: Mesh) -> MeshQuality:
    """Measure a mesh: sizes, angles, pieces, regions and surfaces.

    Args:
        mesh: the mesh.

    Returns:
        The measures; see `MeshQuality`. A few seconds for 600,000 elements.
    """
    edges = mesh.unique_edges()
    lengths = np.linalg.norm(mesh.points[edges[:, 1]] - mesh.points[edges[:, 0]], axis=1)
    volumes = mesh.volumes()
    angles = dihedral_angles(mesh)
    smallest, largest = angles.min(axis=1), angles.max(axis=1)
    low, high = SLIVER_ANGLES
    faces = element_faces(mesh.cells)
    surface_areas, surface_faces = _surfaces(mesh, faces.nodes[faces.count == 1])
    degree = np.bincount(edges.ravel(), minlength=mesh.nodes)
    return MeshQuality(
        nodes=mesh.nodes,
        elements=mesh.elements,
        edges=len(edges),
        size=tuple(np.ptp(mesh.points, axis=0).tolist()),
        volume=float(volumes.sum()) / MM3_PER_ML,
        region_volumes=_region_volumes(mesh, volumes),
        surface_areas=surface_areas,
        surface_faces=surface_faces,
        edge_length=_spread(lengths),
        element_volume=_spread(volumes),
        smallest_angle=_spread(smallest),
        largest_angle=_spread(largest),
        radius_ratio=_spread(radius_ratios(mesh)),
        slivers=int(((smallest < low) | (largest > high)).sum()),
        components=int(component_labels(mesh.cells, mesh.nodes).max()) + 1,
        face_components=face_component_count(faces),
        overfull_faces=round(float((1.0 / faces.count[faces.count > 2]).sum())),
        bandwidth=int((edges[:, 1] - edges[:, 0]).max()),
        neighbours=(float(degree.mean()), int(degree.max())),
        fields={"node": sorted(mesh.point_data), "element": sorted(mesh.cell_data)},
        fibres=" and ".join(n for n in ("fibre", "sheet") if n in mesh.cell_data) or "none",
    )


def quality_report(mesh: Mesh) -> dict[str, Any]:
    """What `quality` measured, what is missing and what to expect, ready for JSON.

    Returns:
        The fields of `MeshQuality` as plain numbers, texts, lists and dictionaries, and "missing"
        (what a simulation needs and the mesh lacks), "warnings", and "resolution" (whether its
        edges resolve the excitation front).
    """
    measured = quality(mesh)
    report = asdict(measured)
    report["size"], report["neighbours"] = list(measured.size), list(measured.neighbours)
    report["missing"] = _missing(mesh)
    doubt = size_doubt(mesh.points, mesh.volume(), "mm", stated=True)
    report["warnings"] = ([doubt] if doubt else []) + heart_doubts(mesh) + _warnings(measured)
    report["resolution"] = _resolution(measured.edge_length.mean)
    return report


def format_report(report: dict[str, Any]) -> str:
    """The text that ``cardiotwin info`` prints of a `quality_report`."""
    edge, angle, ratio = report["edge_length"], report["smallest_angle"], report["radius_ratio"]
    lines = [
        f"nodes {report['nodes']:,}, elements {report['elements']:,}, edges {report['edges']:,}",
        "size " + " x ".join(f"{extent:.1f}" for extent in report["size"]) + " mm, "
        f"volume {report['volume']:.2f} mL",
        f"edge length {edge['mean']:.3f} mm on average, {edge['minimum']:.3f} to "
        f"{edge['maximum']:.3f} (median {edge['median']:.3f})",
        f"smallest dihedral angle {angle['minimum']:.1f} degrees ({angle['percentile_5']:.1f} for "
        f"the worst 5 %), largest {report['largest_angle']['maximum']:.1f}",
        f"radius ratio {ratio['mean']:.2f} on average, {ratio['minimum']:.3f} at worst; "
        f"{report['slivers']:,} slivers",
        f"neighbours {report['neighbours'][0]:.1f} on average, {report['neighbours'][1]} at most; "
        f"bandwidth {report['bandwidth']:,}",
        "",
        *_table("regions", report["region_volumes"], "mL"),
        *_table("surfaces", report["surface_areas"], "cm2", report["surface_faces"]),
        f"fibres: {report['fibres']}",
        *(
            f"fields per {kind}: {', '.join(names)}"
            for kind, names in report["fields"].items()
            if names
        ),
        "",
        f"resolution: {report['resolution']}",
        *(f"warning: {text}" for text in report["warnings"]),
        *(f"missing: {text}" for text in report["missing"]),
    ]
    if not report["missing"]:
        lines.append("nothing is missing: the mesh can be simulated as it is")
    return "\n".join(lines)


def _spread(values: np.ndarray) -> Spread:
    low, five, median, ninety_five, high = np.percentile(values, [0, 5, 50, 95, 100]).tolist()
    return Spread(low, five, median, float(values.mean()), ninety_five, high)


def _region_volumes(mesh: Mesh, volumes: np.ndarray) -> dict[str, float]:
    names = dict(mesh.region_names)
    labels, inverse = np.unique(mesh.regions, return_inverse=True)
    total = np.bincount(inverse, volumes) / MM3_PER_ML
    return {
        names.get(label, str(label)): float(v)
        for label, v in zip(labels.tolist(), total, strict=True)
    }


def _surfaces(mesh: Mesh, boundary: np.ndarray) -> tuple[dict[str, float], dict[str, int]]:
    """Area and count per surface; the boundary outside all of them is listed last."""
    area = {n: float(areas(mesh.points, f).sum()) for n, f in mesh.surfaces.items()}
    count = {name: len(faces) for name, faces in mesh.surfaces.items()}
    covered = np.zeros(len(boundary), bool)
    for faces in mesh.surfaces.values():
        covered[match_faces(faces, boundary)] = True
    if not covered.all():
        area["(no surface)"] = float(areas(mesh.points, boundary[~covered]).sum())
        count["(no surface)"] = int((~covered).sum())
    return {name: value / MM2_PER_CM2 for name, value in area.items()}, count


def _missing(mesh: Mesh) -> list[str]:
    missing = []
    surfaces = [name for name in STANDARD_SURFACES if name not in mesh.surfaces]
    if "fibre" not in mesh.cell_data:
        remedy = (
            "build them by rule (fibres=ldrb), or read them with read_mesh(..., fibres=FILE)"
            if not surfaces
            else "read them with read_mesh(..., fibres=FILE), or name the surfaces first and build "
            "them by rule"
        )
        missing.append(f"fibres: {remedy}")
    if surfaces:
        missing.append(
            f"surfaces {', '.join(surfaces)}: needed for fibres by rule, coordinates, endocardial "
            "stimuli and the fast layer; name them with read_mesh(..., names=...) or "
            "surface_from_file"
        )
    return missing


def _warnings(measured: MeshQuality) -> list[str]:
    texts = []
    if measured.components > 1:
        texts.append(f"{measured.components} pieces share no node: excitation stays in each")
    elif measured.face_components > 1:
        texts.append(
            f"{measured.face_components} pieces meet in single nodes or edges only, where "
            "conduction is arbitrary"
        )
    if measured.overfull_faces:
        texts.append(
            f"{measured.overfull_faces} faces belong to more than two elements: elements overlap"
        )
    if measured.slivers:
        share = 100.0 * measured.slivers / measured.elements
        low, high = SLIVER_ANGLES
        texts.append(
            f"{measured.slivers:,} elements ({share:.2g} %) have an angle below {low:g} or above "
            f"{high:g} degrees: explicit steps get short, optimise the mesh if a run is unstable"
        )
    if measured.bandwidth > measured.nodes // 4 and measured.nodes > 10_000:
        texts.append("nodes are numbered without locality: the solver renumbers them by itself")
    return texts


def _resolution(edge: float) -> str:
    """What the mean edge means for the conduction velocity."""
    if edge <= RESOLVING_EDGE:
        return (
            f"edges of {edge:.2f} mm are within the {RESOLVING_EDGE} mm recommended without tuning "
            "(a run still says which velocity error it expects)"
        )
    if edge <= TUNABLE_EDGE:
        return (
            f"edges of {edge:.2f} mm are coarser than {RESOLVING_EDGE} mm: the monodomain wave is "
            "slowed, most across the fibres; tune the conductivities to the wanted velocities on "
            "this mesh (tissue.velocity)"
        )
    return (
        f"edges of {edge:.2f} mm are wider than the excitation front (about 1 mm): untuned, the "
        "monodomain wave is far too slow across the fibres or stops; tuned conductivities "
        "(tissue.velocity) restore its mean velocity, 0.3 m/s on edges up to about 2.5 mm, but not "
        f"the shape of the front: refine to {TUNABLE_EDGE:g} mm or less for that"
    )


def _table(
    title: str, values: dict[str, float], unit: str, count: dict[str, int] | None = None
) -> list[str]:
    if not values:
        return [f"{title}: none"]
    width = max(map(len, values))
    extra = {name: f"  {count[name]:,} faces" for name in values} if count else {}
    return [
        f"{title}:",
        *(
            f"  {name:<{width}}  {value:9.2f} {unit}{extra.get(name, '')}"
            for name, value in values.items()
        ),
    ]
