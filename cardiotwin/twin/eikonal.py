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
from cardiotwin.anatomy.chart import VentricularChart, disc_of
from cardiotwin.anatomy.fibres import Fibres
from cardiotwin.anatomy.ventricular import VENTRICLES
from cardiotwin.anatomy.voxels import as_tetrahedra
from cardiotwin.propagation.eikonal import EikonalMesh, activation_times, around_sites
from cardiotwin.propagation.velocity import VelocityTarget
from cardiotwin.tissue.places import VentricularSite

from .anatomy import Anatomy


class Places(eqx.Module):
    """Places of a heart in its ventricular coordinates, and when each of them fires.

    Attributes:
        disc: [sites, 2] height above the apex times cosine and sine of the angle around the
            ventricle (see `VentricularChart`): the middle of the disc is the apex, its rim the base.
        depth: [sites] 0 on the endocardium, 1 on the epicardium or in the middle of the septum.
        onset: [sites] ms.
        ventricle: [sites] 0 for the left, 1 for the right one.
    """

    disc: Float[type_array, "sites 2"]
    depth: Float[type_array, " sites"]
    onset: Float[type_array, " sites"]
    ventricle: Int[type_array, " sites"]

    @classmethod
    def of(cls, sites: Sequence[VentricularSite]) -> "Places":
        """Of sites stated in ventricular coordinates.

        Raises:
            ValueError: there is none.
        """
        if not sites:
            raise ValueError("Places: no sites; give at least one root node.")
        return cls(
            jnp.asarray(
                disc_of(
                    np.array([site.apicobasal for site in sites]),
                    np.radians([site.rotational for site in sites]),
                )
            ),
            jnp.asarray([site.transmural for site in sites]),
            jnp.asarray([site.onset for site in sites]),
            jnp.asarray([VENTRICLES.index(site.ventricle) for site in sites]),
        )

    def sites(self) -> tuple[VentricularSite, ...]:
        """As sites that a configuration can state."""
        height = np.hypot(*np.asarray(self.disc).T)
        angle = np.degrees(np.arctan2(self.disc[:, 1], self.disc[:, 0]))
        columns = zip(self.ventricle, height, angle, self.depth, self.onset, strict=True)
        return tuple(
            VentricularSite(
                VENTRICLES[int(which)],
                float(np.clip(high, 0.0, 1.0)),
                float(turn),
                float(np.clip(deep, 0.0, 1.0)),
                float(onset),
            )
            for which, high, turn, deep, onset in columns
        )


class EikonalHeart(eqx.Module):
    """Activation times of a heart from its velocities and root nodes.

    Attributes:
        mesh: the elements around every node.
        fibres: one frame an element.
        layer: [elements] which layer each belongs to.
        velocity: along fibre, sheet and normal in every layer, m/s.
        roots: where activation begins, and when.
        chart: from the roots' coordinates to points.
        radius: mm around a root within which times are those of straight ways; one edge or two.
    """

    mesh: EikonalMesh
    fibres: Fibres
    layer: Int[type_array, " elements"]
    velocity: dict[str, VelocityTarget]
    roots: Places
    chart: VentricularChart
    radius: Float[type_array, ""]

    @classmethod
    def of(
        cls,
        anatomy: Anatomy,
        fibres: Fibres,
        layers: Mapping[str, tuple[np.ndarray, VelocityTarget]],
        sites: Sequence[VentricularSite],
    ) -> "EikonalHeart":
        """Lay velocities and root nodes out over a heart.

        Args:
            anatomy: tetrahedra or voxels.
            fibres: one frame an element.
            layers: masks [elements] and velocities by name, the later ones on top, such as
                `Myocardium.layers` gives them.
            sites: root nodes.

        Raises:
            ValueError: layers that leave an element out, or no site.
        """
        elements = len(anatomy.mesh.cells)
        layer = np.full(elements, -1)
        for number, (mask, _) in enumerate(layers.values()):
            layer[mask] = number
        if (layer < 0).any():
            raise ValueError(
                f"EikonalHeart: {int((layer < 0).sum())} of {elements} elements lie in no layer "
                f"(there are {list(layers)}); give a layer of all elements first, and myocardium a "
                "velocity."
            )
        velocity = {
            name: VelocityTarget(*(jnp.asarray(v, float) for v in target))
            for name, (_, target) in layers.items()
        }
        tetrahedra = as_tetrahedra(anatomy.mesh)
        ends = tetrahedra.points[tetrahedra.cells]
        longest = max(
            np.linalg.norm(ends[:, a] - ends[:, b], axis=1).max()
            for a in range(4)
            for b in range(a)
        )
        return cls(
            EikonalMesh.of(tetrahedra),
            fibres,
            layer,
            velocity,
            Places.of(sites),
            VentricularChart.of(anatomy.map),
            jnp.asarray(1.05 * longest),
        )

    def astype(self, dtype: Any) -> "EikonalHeart":
        """The heart with all its numbers in a precision, which is that of the computation."""

        def cast(leaf: Any) -> Any:
            if eqx.is_inexact_array_like(leaf):
                return jnp.asarray(leaf, dtype)
            return jnp.asarray(leaf, np.int32) if eqx.is_array_like(leaf) else leaf

        return jax.tree.map(cast, self)

    def sites(self) -> Float[Array, "sites 3"]:
        """Points of the root nodes, mm."""
        return self.chart(self.roots.ventricle, self.roots.disc, self.roots.depth)

    def metric(self) -> Float[Array, "elements 3 3"]:
        """Inverse squared velocity of every element, ms2/mm2."""
        table = jnp.stack([jnp.stack(target) for target in self.velocity.values()])
        return self.mesh.metric(self.fibres, table[jnp.asarray(self.layer)])

    def times(self) -> Float[Array, " nodes"]:
        """Activation time of every node, ms; differentiable in all that is an array."""
        metric = self.metric()
        initial = around_sites(
            self.mesh, metric, self.sites(), self.roots.onset, radius=self.radius
        )
        return activation_times(self.mesh, metric, initial).times


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
