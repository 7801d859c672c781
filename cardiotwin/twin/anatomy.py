"""A mesh with what is worked out on it when something asks."""

from functools import cached_property

from cardiotwin.anatomy.coordinates import VentricularFields, ventricular_fields
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.outflow import ValveFields, valve_fields
from cardiotwin.anatomy.ventricular_map import VentricularMap
from cardiotwin.anatomy.voxels import Voxels, as_tetrahedra


class Anatomy:
    """A mesh, its Laplace solutions and its ventricular coordinates when something asks for them.

    Attributes:
        mesh: tetrahedra or voxels.
    """

    def __init__(self, mesh: Mesh | Voxels):
        self.mesh = mesh

    @cached_property
    def fields(self) -> VentricularFields:
        """Laplace solutions between the named surfaces, solved once."""
        return ventricular_fields(as_tetrahedra(self.mesh))

    @cached_property
    def valves(self) -> ValveFields:
        """Laplace solutions towards the four valves, solved once."""
        return valve_fields(as_tetrahedra(self.mesh), self.fields)

    @cached_property
    def map(self) -> VentricularMap:
        """The way between points and ventricular coordinates, worked out once."""
        mesh = as_tetrahedra(self.mesh)
        return VentricularMap(mesh, fields=self.fields)
