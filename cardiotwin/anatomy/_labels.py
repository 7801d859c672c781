"""Which array of a file labels its regions and surfaces, and what they are called."""

from pathlib import Path

import numpy as np

from cardiotwin.anatomy._filemesh import REGION, SURFACE, FileMesh, Solid
from cardiotwin.anatomy.mesh import STANDARD_REGIONS, STANDARD_SURFACES, outward
from cardiotwin.anatomy.naming import (
    VALVES,
    NameMap,
    renamed,
    standard_region,
    standard_surface,
)
from cardiotwin.anatomy.topology import TETRA_FACES, component_labels, match_faces

# Cell arrays that label regions and surfaces, the telling names first.
REGION_ARRAYS = (
    REGION, "regions", "elemTag", "elemtag", "gmsh:physical", "_volume-id", "medit:ref",
    "cell_tags", "region_id", "RegionId", "material", "Material", "tags", "tag", "labels",
    "gmsh:geometrical",
)  # fmt: skip
SURFACE_ARRAYS = (SURFACE, "surfaces", "_surface-id", "surface_id", *REGION_ARRAYS)
_LABELS_ONLY = (
    "gmsh:physical", "gmsh:geometrical", "gmsh:dim_tags", "medit:ref", "_surface-id", SURFACE,
)  # fmt: skip


def region_labels(
    path: Path, content: FileMesh, parts: Solid, wanted: str | None, names: NameMap | None
) -> tuple[np.ndarray, dict[int, str]]:
    """Region label per tetrahedron [elements], and label -> name.

    The arrays used up as labels are removed from the fields.

    Raises:
        ValueError: the wanted array is not there or holds no integers.
    """
    if wanted is not None and wanted not in parts.cell_data:
        raise ValueError(
            f"{path}: no cell array {wanted!r} for the regions: the arrays are "
            f"{sorted(parts.cell_data)}"
        )
    if content.faithful and REGION not in parts.cell_data:
        raise ValueError(f"{path}: the array of region labels is missing: the file is damaged")
    array = wanted or _first_labelled(parts.cell_data, REGION_ARRAYS)
    if array is None:
        labels = np.ones(len(parts.cells), np.int32)
    else:
        values = parts.cell_data.pop(array)
        if values.ndim != 1 or not np.isfinite(values).all() or (values != np.rint(values)).any():
            raise ValueError(
                f"{path}: the cell array {array!r} holds values that are no labels (shape "
                f"{values.shape}): choose another with regions=..."
            )
        labels = values.astype(np.int32)
    for fields in (parts.cell_data, content.point_data):
        for name in _LABELS_ONLY:
            fields.pop(name, None)
    present = set(np.unique(labels).tolist())
    own = {label: name for label, name in content.region_names.items() if label in present}
    if names is None:
        return labels, own
    return renamed(labels, own, names.regions, standard_region)


def surfaces_by_name(
    content: FileMesh, parts: Solid, names: NameMap | None
) -> dict[str, np.ndarray]:
    """Labelled triangles of the file, name -> [faces, 3] in the numbering of the file."""
    own = content.surface_names
    array = _first_labelled(parts.triangle_data, SURFACE_ARRAYS)
    if array is None:
        triangles, labels = np.empty((0, 3), np.int64), np.empty(0, np.int64)
    else:
        values = parts.triangle_data[array]
        labelled = np.isfinite(values) & (values != 0)
        triangles, labels = parts.triangles[labelled], values[labelled].astype(np.int64)
    if names is not None:
        labels, own = renamed(labels, own, names.surfaces, standard_surface)
    present = set(np.unique(labels).tolist()) | (set(own) if content.faithful else set())
    return {
        own.get(label, f"surface_{label}"): triangles[labels == label] for label in sorted(present)
    }


def cut_surfaces(
    boundary: np.ndarray,
    surfaces: dict[str, np.ndarray],
    removed: np.ndarray,
    removed_regions: set[str],
) -> dict[str, np.ndarray]:
    """Surfaces of a part that was cut out, with what the cut laid bare as one more.

    Standard surfaces and valves keep the faces on the part's boundary; another surface is kept when
    all of it is there. The rest of the boundary becomes "base", or "cut" where a ventricular
    region was cut away, in patches that the cut touched; a patch away from it is a hole in the
    file's labels and goes to the standard surface around it.

    Args:
        boundary: boundary faces of the part, in the numbering of the whole.
        surfaces: name -> faces in the numbering of the whole.
        removed: the elements that were cut away, in the same numbering.
        removed_regions: the names of their regions.
    """
    kept = {}
    covered = np.zeros(len(boundary), bool)
    for name, faces in surfaces.items():
        on_boundary = outward(faces, boundary)
        if name in STANDARD_SURFACES:
            covered[match_faces(on_boundary, boundary)] = True
        known = name in STANDARD_SURFACES or name in VALVES
        if len(on_boundary) and (known or len(on_boundary) == len(faces)):
            kept[name] = on_boundary
    bare = boundary[~covered]
    rest = "cut" if removed_regions & set(STANDARD_REGIONS) else "base"
    for patch, touched in _patches(bare, removed):
        around = "" if touched else _surface_around(patch, kept)
        name = around or rest
        kept[name] = np.concatenate([kept[name], patch]) if name in kept else patch
    return kept


def _patches(bare: np.ndarray, removed: np.ndarray) -> list[tuple[np.ndarray, bool]]:
    """Connected patches of faces, and whether any face of each was laid bare by the cut."""
    if not len(bare):
        return []
    faces = np.concatenate([removed[:, local] for local in TETRA_FACES])
    exposed = match_faces(bare, faces) >= 0
    patch = component_labels(bare, int(bare.max()) + 1)[bare[:, 0]]
    return [
        (bare[patch == label], bool(exposed[patch == label].any())) for label in np.unique(patch)
    ]


def _surface_around(patch: np.ndarray, surfaces: dict[str, np.ndarray]) -> str:
    """The standard surface that shares most nodes with a patch, or ""."""
    shared = {
        name: int(np.isin(patch, faces).sum())
        for name, faces in surfaces.items()
        if name in STANDARD_SURFACES
    }
    best = max(shared, key=lambda name: shared[name], default="")
    return best if shared.get(best) else ""


def _first_labelled(fields: dict[str, np.ndarray], names: tuple[str, ...]) -> str | None:
    """The first array that labels anything, or else the first that is there."""
    present = [name for name in names if name in fields and fields[name].ndim == 1]
    labelling = [name for name in present if np.nan_to_num(fields[name]).any()]
    return next(iter(labelling or present), None)
