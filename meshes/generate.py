"""Generate the meshes of this folder: ``python meshes/generate.py``."""

from pathlib import Path

import numpy as np

from cardiotwin.anatomy.fibres import ldrb
from cardiotwin.anatomy.formats import write_mesh
from cardiotwin.anatomy.idealised import BiventricleShape, biventricle
from cardiotwin.anatomy.mesh import Mesh

EDGE_LENGTH = 4.0  # mm
RV_WALL = 5.0  # mm, thicker than in the human heart, so that so coarse a mesh resolves it
DECIMALS_MM = 4
DECIMALS_DIRECTION = 3


def biventricle_coarse() -> Mesh:
    """An idealised biventricle on a coarse mesh, with rule-based fibres and sheets.

    Coordinates are rounded to a tenth of a micrometre and directions to a thousandth, so that the
    file is small and does not depend on the last bits of a machine's arithmetic.
    """
    mesh = biventricle(EDGE_LENGTH, shape=BiventricleShape(rv_wall=RV_WALL))
    fibres = ldrb(mesh)
    directions = {"fibre": fibres.fibre, "sheet": fibres.sheet}
    return Mesh(
        np.round(mesh.points, DECIMALS_MM),
        mesh.cells,
        mesh.regions,
        surfaces=mesh.surfaces,
        cell_data={
            name: np.round(vectors, DECIMALS_DIRECTION).astype(np.float32)
            for name, vectors in directions.items()
        },
        region_names=mesh.region_names,
    )


def main() -> None:
    """Write every mesh beside this file."""
    write_mesh(Path(__file__).parent / "biventricle_coarse.vtu", biventricle_coarse())


if __name__ == "__main__":
    main()
