"""A heart whose activation times follow from velocities and root nodes alone, at once.

What moves in a calibration are leaves of these classes: velocities by layer, places and onsets of
root nodes. They are arrays, so that a change of their values compiles nothing anew.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cardiotwin._types import type_array
from cardiotwin.anatomy.chart import VentricularChart
from cardiotwin.anatomy.fibres import Fibres
from cardiotwin.propagation.eikonal import EikonalMesh, activation_times, around_sites
from cardiotwin.propagation.velocity import VelocityTarget
from cardiotwin.tissue.places import VentricularSite
from cardiotwin.tissue.stimulus import AbstractStimulus

from .anatomy import Anatomy
from .beginnings import Beginning, beginning_of
from .beginnings import Places as Places


class EikonalHeart(eqx.Module):
    """Activation times of a heart from its velocities and root nodes.

    Attributes:
        mesh: the elements around every node.
        fibres: one frame an element.
        layer: [elements] which layer each belongs to, as they are sorted by name.
        velocity: along fibre, sheet and normal in every layer, m/s.
        roots: where activation begins, and when: `Places` that move about, or the nodes of a
            stimulus.
        chart: from the coordinates of places to points; None where no place needs it.
        radius: mm around a place within which times are those of straight ways; one edge or two.
        capture: from a stimulus to the activation of the muscle that it reaches, ms.
        slowing: [elements, 3] factors on the velocities along fibre, sheet and normal, such as
            those of a scar; None for none.
        curved: correct the times for the curvature of fronts. The correction is more exact and
            steps by fractions of a ms where another way wins; times without it are continuous in
            all parameters, which descents need.
    """

    mesh: EikonalMesh
    fibres: Fibres
    layer: Int[type_array, " elements"]
    velocity: dict[str, VelocityTarget]
    roots: Beginning
    chart: VentricularChart | None
    radius: Float[type_array, ""]
    capture: Float[type_array, ""]
    slowing: Float[type_array, "elements 3"] | None = None
    curved: bool = eqx.field(default=True, static=True)

    @classmethod
    def of(
        cls,
        anatomy: Anatomy,
        fibres: Fibres,
        layers: Mapping[str, tuple[np.ndarray, VelocityTarget]],
        sites: Sequence[VentricularSite],
        *,
        curved: bool = True,
    ) -> "EikonalHeart":
        """Lay velocities and root nodes out over a heart.

        Args:
            anatomy: tetrahedra or voxels.
            fibres: one frame an element.
            layers: masks [elements] and velocities by name, the later ones on top, such as
                `Myocardium.layers` gives them.
            sites: root nodes.
            curved: correct the times for the curvature of fronts; not for descents.

        Raises:
            ValueError: layers that leave an element out, or no site.
        """
        mesh, layer, velocity = _laid_out(anatomy, layers)
        chart = VentricularChart.of(anatomy.map)
        roots = Places.of(sites)
        return cls(mesh, fibres, layer, velocity, roots, chart, *_radius(mesh), curved=curved)

    @classmethod
    def stimulated(
        cls,
        anatomy: Anatomy,
        fibres: Fibres,
        layers: Mapping[str, tuple[np.ndarray, VelocityTarget]],
        stimulus: AbstractStimulus,
        *,
        slowing: Float[type_array, "elements 3"] | None = None,
    ) -> "EikonalHeart":
        """The heart that a stimulus excites, as it would excite the monodomain of the same twin.

        Every node that the stimulus reaches fires at its own onset: those around root nodes and
        pacing sites, or at the junctions of Purkinje networks.

        Args:
            anatomy: tetrahedra or voxels.
            fibres: one frame an element.
            layers: as in `of`.
            stimulus: of one beat, such as `Twin.stimulus`.
            slowing: factors on the velocities of every element, see `EikonalHeart`.

        Raises:
            ValueError: layers that leave an element out, or a stimulus of several beats.
        """
        mesh, layer, velocity = _laid_out(anatomy, layers)
        roots = beginning_of(stimulus, anatomy.mesh)
        return cls(mesh, fibres, layer, velocity, roots, None, *_radius(mesh), slowing)

    def astype(self, dtype: Any) -> "EikonalHeart":
        """The heart with all its numbers in a precision, which is that of the computation."""

        def cast(leaf: Any) -> Any:
            if eqx.is_inexact_array_like(leaf):
                return jnp.asarray(leaf, dtype)
            return jnp.asarray(leaf, np.int32) if eqx.is_array_like(leaf) else leaf

        return jax.tree.map(cast, self)

    def sites(self) -> Float[Array, "sites 3"]:
        """Points of the root nodes, mm.

        Raises:
            ValueError: activation begins at the nodes of a stimulus, not at places.
        """
        if not isinstance(self.roots, Places) or self.chart is None:
            raise ValueError(
                f"EikonalHeart: activation begins at {type(self.roots).__name__}, which are no "
                "places; make the heart with EikonalHeart.of and sites."
            )
        return self.roots.points(self.chart)

    def metric(self) -> Float[Array, "elements 3 3"]:
        """Inverse squared velocity of every element, ms2/mm2."""
        table = jnp.stack([jnp.stack(self.velocity[name]) for name in sorted(self.velocity)])
        velocity = table[jnp.asarray(self.layer)]
        if self.slowing is not None:
            velocity = velocity * self.slowing
        return self.mesh.metric(self.fibres, velocity)

    def times(self) -> Float[Array, " nodes"]:
        """Activation time of every node, ms; differentiable in all that is an array."""
        metric = self.metric()
        roots = self.roots
        if isinstance(roots, Places):
            initial = around_sites(
                self.mesh,
                metric,
                self.sites(),
                roots.onset,
                radius=self.radius,
                continuous=not self.curved,
            )
            return self._arrivals(metric, initial + self.capture)
        times = self._arrivals(metric, roots.initial(self.mesh) + self.capture)
        for _ in range(roots.answers()):
            initial = roots.answered(self.mesh, times) + self.capture
            times = self._arrivals(metric, initial)
        return times

    def _arrivals(self, metric: Array, initial: Array) -> Array:
        return activation_times(self.mesh, metric, initial, curved=self.curved).times


def _laid_out(
    anatomy: Anatomy, layers: Mapping[str, tuple[np.ndarray, VelocityTarget]]
) -> tuple[EikonalMesh, np.ndarray, dict[str, VelocityTarget]]:
    """Mesh, layer of every element and velocities of every layer."""
    elements = len(anatomy.mesh.cells)
    layer = np.full(elements, -1)
    # by sorted names: whatever transforms a mapping (jax.tree.map, jax.jit) hands it back so
    for name, (mask, _) in layers.items():
        layer[mask] = sorted(layers).index(name)
    if (layer < 0).any():
        raise ValueError(
            f"EikonalHeart: {int((layer < 0).sum())} of {elements} elements lie in no layer "
            f"(there are {list(layers)}); give a layer of all elements first, and myocardium a "
            "velocity."
        )
    velocity: dict[str, Any] = {name: target for name, (_, target) in layers.items()}
    velocity = jax.tree.map(lambda v: jnp.asarray(v, float), velocity)
    return EikonalMesh.of(anatomy.mesh), layer, velocity


def _radius(mesh: EikonalMesh) -> tuple[Array, Array]:
    """Radius in which every place has nodes, and a capture at once."""
    ends = np.asarray(mesh.points)[np.asarray(mesh.cells)]
    longest = max(
        np.linalg.norm(ends[a] - ends[b], axis=1).max() for a in range(4) for b in range(a)
    )
    return jnp.asarray(1.05 * longest), jnp.asarray(0.0)


class EikonalFit(NamedTuple):
    """How well eikonal times match those of another model.

    Attributes:
        rmse: ms.
        correlation: of the times over the nodes.
        bias: mean of eikonal less other, ms.
    """

    rmse: float
    correlation: float
    bias: float


def compare_times(
    eikonal: Float[type_array, " nodes"], other: Float[type_array, " nodes"]
) -> EikonalFit:
    """Compare activation times over the nodes that both models reach.

    Args:
        eikonal: [nodes] ms.
        other: [nodes] ms.

    Raises:
        ValueError: other shapes, or no node that both reach.
    """
    first, second = np.asarray(eikonal, float), np.asarray(other, float)
    if first.shape != second.shape:
        raise ValueError(f"compare_times: shapes {first.shape} and {second.shape} differ.")
    both = np.isfinite(first) & np.isfinite(second)
    if both.sum() < 2:
        raise ValueError("compare_times: fewer than two nodes are reached in both models.")
    apart = first[both] - second[both]
    correlation = float(np.corrcoef(first[both], second[both])[0, 1])
    return EikonalFit(float(np.sqrt(np.mean(apart**2))), correlation, float(apart.mean()))
