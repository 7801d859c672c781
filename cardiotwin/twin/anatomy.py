"""A mesh with what is worked out on it when something asks, or was kept from before."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Int

from cardiotwin.anatomy.atria import Atria, Point, find_atria
from cardiotwin.anatomy.atrial_fibres import AtrialFibres, AtrialRule, atrial_fibres
from cardiotwin.anatomy.coordinates import VentricularFields, ventricular_fields
from cardiotwin.anatomy.fibres import Fibres
from cardiotwin.anatomy.heart_checks import check_heart
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.outflow import ValveFields, valve_fields
from cardiotwin.anatomy.purkinje import PurkinjeNetwork
from cardiotwin.anatomy.ventricular import VentricularCoordinates, ventricular_coordinates
from cardiotwin.anatomy.ventricular_map import VentricularMap
from cardiotwin.anatomy.voxels import Voxels, as_tetrahedra
from cardiotwin.ecg.electrodes import Electrodes


class Anatomy:
    """A mesh, its Laplace solutions and its ventricular coordinates when something asks for them.

    What is handed in is not worked out again; a twin folder hands in everything (`load_twin`).

    Args:
        mesh: tetrahedra or voxels.
        fields: Laplace solutions of the mesh.
        coordinates: ventricular coordinates of the mesh's tetrahedra.
        fibres: one frame an element.
        networks: Purkinje networks of this heart.
        electrodes: placed on this patient.

    Attributes:
        mesh: tetrahedra or voxels.
        fibres: kept ones, or None.
        networks: kept Purkinje networks, or None.
        electrodes: kept ones, or None.
    """

    def __init__(
        self,
        mesh: Mesh | Voxels,
        *,
        fields: VentricularFields | None = None,
        coordinates: VentricularCoordinates | None = None,
        fibres: Fibres | None = None,
        networks: Sequence[PurkinjeNetwork] | None = None,
        electrodes: Electrodes | None = None,
    ):
        self.mesh, self.fibres, self.electrodes = mesh, fibres, electrodes
        self.networks = None if networks is None else tuple(networks)
        self._coordinates = coordinates
        if fields is not None:
            self.__dict__["fields"] = fields
        if fibres is not None and len(fibres.fibre) != len(mesh.cells):
            raise ValueError(
                f"Anatomy: the fibres are of {len(fibres.fibre)} elements and the mesh has "
                f"{len(mesh.cells)}; build them on this mesh."
            )

    @cached_property
    def fields(self) -> VentricularFields:
        """Laplace solutions between the named surfaces, solved once.

        Raises:
            ValueError: the surfaces are not those of one heart, see `check_heart`.
        """
        check_heart(self.mesh)
        return ventricular_fields(as_tetrahedra(self.mesh))

    @cached_property
    def valves(self) -> ValveFields:
        """Laplace solutions towards the four valves, solved once."""
        return valve_fields(as_tetrahedra(self.mesh), self.fields)

    @cached_property
    def atria(self) -> Atria:
        """Both atria of a mesh of atria, their openings and appendages, found once."""
        return find_atria(as_tetrahedra(self.mesh))

    def atrial_fibres(
        self,
        rule: AtrialRule | None = None,
        *,
        left_appendage: Point | None = None,
        right_appendage: Point | None = None,
    ) -> AtrialFibres:
        """Fibres of both atria; `atria` and `bundles` are those of the last call.

        Args:
            rule: where the bundles end; the published levels when left out.
            left_appendage: tip of the left appendage, mm, where it has no opening.
            right_appendage: tip of the right appendage, mm; found when left out.
        """
        mesh = as_tetrahedra(self.mesh)
        tips = {"left_appendage": left_appendage, "right_appendage": right_appendage}
        if any(tip is not None for tip in tips.values()):
            self.__dict__["atria"] = find_atria(mesh, **tips)
        found = atrial_fibres(mesh, rule, atria=self.atria)
        self.__dict__["bundles"] = found.bundle
        return found

    @cached_property
    def bundles(self) -> Int[np.ndarray, " elements"]:
        """Which of `BUNDLES` every tetrahedron of both atria belongs to."""
        return self.atrial_fibres().bundle

    @cached_property
    def map(self) -> VentricularMap:
        """The way between points and ventricular coordinates, worked out once."""
        mesh = as_tetrahedra(self.mesh)
        found = self._coordinates
        if found is None:
            found = ventricular_coordinates(mesh, self.fields)
        return VentricularMap(mesh, found)
