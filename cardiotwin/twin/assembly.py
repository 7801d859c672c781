"""A heart with all its parts."""

from typing import NamedTuple

from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.ionic._base import AbstractIonicModel
from cardiotwin.propagation.problem import Monodomain
from cardiotwin.tissue.conductivity import Tissue
from cardiotwin.tissue.stimulus import AbstractStimulus

from .anatomy import Anatomy
from .cells import Cells
from .fibres import AnyFibres, RuleBasedFibres
from .myocardium import Myocardium
from .rhythms import AnyRhythm, SinusRhythm


class Twin(NamedTuple):
    """A heart that can be solved.

    Attributes:
        anatomy: the mesh, with its Laplace solutions where they were needed.
        tissue: fibres and conductivities.
        cell: the ionic model, with parameters per node where they vary.
        stimulus: what excites it.
    """

    anatomy: Anatomy
    tissue: Tissue
    cell: AbstractIonicModel
    stimulus: AbstractStimulus

    @property
    def mesh(self) -> Mesh | Voxels:
        """The heart's mesh."""
        return self.anatomy.mesh

    @classmethod
    def assemble(
        cls,
        mesh: Mesh | Voxels | Anatomy,
        *,
        fibres: AnyFibres | None = None,
        myocardium: Myocardium | None = None,
        cells: Cells | None = None,
        stimulus: AnyRhythm | AbstractStimulus | None = None,
    ) -> "Twin":
        """Make every part on a mesh, or on what `load_twin` loaded; the others take their defaults.

        Raises:
            ValueError: a part does not fit the mesh, such as rules without labelled surfaces or a
                stimulus that reaches no node.
        """
        anatomy = mesh if isinstance(mesh, Anatomy) else Anatomy(mesh)
        frame = (fibres or RuleBasedFibres()).on(anatomy)
        stimulus = SinusRhythm() if stimulus is None else stimulus
        placed = stimulus.on(anatomy) if isinstance(stimulus, AnyRhythm) else stimulus
        placed.pulses(
            anatomy.mesh.points
        )  # one that misses the tissue is refused now, not after tuning
        return cls(
            anatomy=anatomy,
            tissue=(myocardium or Myocardium()).on(anatomy, frame),
            cell=(cells or Cells()).on(anatomy),
            stimulus=placed,
        )

    def problem(self) -> Monodomain:
        """The monodomain problem of this heart."""
        return Monodomain(self.mesh, self.tissue, self.cell, self.stimulus)
