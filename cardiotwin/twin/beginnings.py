"""Where and when activation begins: at places that move, at nodes of a stimulus, at junctions.

Each of them gives the nodes that fire by themselves their times, in arrays that are differentiated.
"""

from abc import abstractmethod
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.sparse.csgraph import dijkstra

from cardiotwin._types import type_array
from cardiotwin.anatomy.chart import VentricularChart, disc_of
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.ventricular import VENTRICLES
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.propagation.eikonal import EikonalMesh
from cardiotwin.tissue.places import VentricularSite
from cardiotwin.tissue.purkinje_stimulus import PurkinjeStimulus, muscle_at_junctions
from cardiotwin.tissue.stimulus import AbstractStimulus

FAR = 1e9  # mm, between networks; finite, so that the derivative in the speed is a number
ANSWERS = 2  # times that muscle may enter the networks again, one after the other


class Places(eqx.Module):
    """Places of a heart in its ventricular coordinates, and when each of them fires.

    Attributes:
        disc: [sites, 2] height above the apex times cosine and sine of the angle around the
            ventricle (see `VentricularChart`): the disc's middle is the apex, its rim the base.
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

    def points(self, chart: VentricularChart) -> Float[Array, "sites 3"]:
        """Points of the places, mm."""
        return chart(self.ventricle, self.disc, self.depth)

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


class AbstractNodalBeginning(eqx.Module):
    """Nodes of the mesh that fire by themselves."""

    @abstractmethod
    def initial(self, mesh: EikonalMesh) -> Float[Array, " nodes"]:
        """Time [nodes] at which each node fires by itself, ms; infinite where it does not."""

    def answers(self) -> int:
        """How often muscle that has fired may change when other nodes fire by themselves."""
        return 0

    def answered(self, mesh: EikonalMesh, times: Float[Array, " nodes"]) -> Float[Array, " nodes"]:
        """As `initial`, once it is known when muscle fires [nodes] ms."""
        del times
        return self.initial(mesh)


class StimulatedNodes(AbstractNodalBeginning):
    """Nodes that a stimulus reaches, each at its own onset.

    Attributes:
        nodes: [stimulated] indices.
        onset: [stimulated] ms.
    """

    nodes: Int[type_array, " stimulated"]
    onset: Float[type_array, " stimulated"]

    @classmethod
    def of(cls, stimulus: AbstractStimulus, points: np.ndarray) -> "StimulatedNodes":
        """The nodes of a stimulus on nodes at `points` [nodes, 3] mm; where it overlaps, the first.

        Raises:
            ValueError: it has several beats.
        """
        onset = np.full(len(points), np.inf)
        for pulses in stimulus.pulses(points):
            if float(pulses.count) > 1:
                raise ValueError(
                    f"The eikonal equation knows one beat and the stimulus has "
                    f"{int(pulses.count)}; give stimulus.count=1, or solve the monodomain."
                )
            own = np.where(np.asarray(pulses.amplitude) > 0, np.asarray(pulses.onset), np.inf)
            onset = np.minimum(onset, own)
        nodes = np.flatnonzero(np.isfinite(onset))
        return cls(nodes, onset[nodes])

    def initial(self, mesh: EikonalMesh) -> Float[Array, " nodes"]:
        """Time at which each node fires by itself, ms."""
        never = jnp.full(mesh.nodes, jnp.inf, jnp.result_type(self.onset))
        return never.at[self.nodes].min(self.onset)


class Junctions(AbstractNodalBeginning):
    """Muscle at the junctions of Purkinje networks, which the His bundle excites.

    An impulse takes the shortest way through the networks. Muscle that has fired first sends one
    back into them, which reaches other muscle: `answers` says how often, one after the other.

    Attributes:
        his: time at which the His bundle fires, ms.
        speed: through the networks, m/s.
        his_delay: [networks] from the His bundle to the root of each, ms; infinite where blocked.
        antegrade: delay from network to muscle, ms.
        retrograde: delay from muscle to network, ms.
        lengths: [junctions] from each one's root, mm.
        between: [junctions, junctions] shortest way within a network, mm; very far between two.
        network: [junctions] which one each belongs to.
        nodes: [patches] nodes of the muscle at the junctions, all of one after the other.
        junction: [patches] which one each of them lies at.
        centre: [junctions] node nearest to each.
        rounds: how often muscle may answer.
    """

    his: Float[type_array, ""]
    speed: Float[type_array, ""]
    his_delay: Float[type_array, " networks"]
    antegrade: Float[type_array, ""]
    retrograde: Float[type_array, ""]
    lengths: Float[type_array, " junctions"]
    between: Float[type_array, "junctions junctions"]
    network: Int[type_array, " junctions"]
    nodes: Int[type_array, " patches"]
    junction: Int[type_array, " patches"]
    centre: Int[type_array, " junctions"]
    rounds: int = eqx.field(static=True, default=ANSWERS)

    @classmethod
    def of(cls, stimulus: PurkinjeStimulus, mesh: Mesh | Voxels) -> "Junctions":
        """Of the networks that stimulate the muscle of a mesh.

        Raises:
            ValueError: the stimulus has several beats.
        """
        if stimulus.count > 1:
            raise ValueError(
                f"The eikonal equation knows one beat and the stimulus has {stimulus.count}; give "
                "stimulus.count=1, or solve the monodomain."
            )
        system = stimulus.system
        counts = [len(network.junctions) for network in system.networks]
        ends = np.cumsum([0, *counts])
        between = np.full((ends[-1], ends[-1]), FAR)
        lengths = []
        for first, network in zip(ends, system.networks, strict=False):
            places = np.asarray(network.junctions)
            found = np.asarray(dijkstra(network.graph(), indices=[*places, network.root]))
            here = slice(first, first + len(places))
            between[here, here] = found[:-1, places]
            lengths.append(found[-1, places])
        patches = muscle_at_junctions(mesh, system.networks, stimulus.radius)
        return cls(
            his=jnp.asarray(stimulus.his, float),
            speed=jnp.asarray(system.speed, float),
            his_delay=jnp.asarray(system.his_delay, float),
            antegrade=jnp.asarray(system.antegrade, float),
            retrograde=jnp.asarray(system.retrograde, float),
            lengths=np.concatenate(lengths),
            between=between,
            network=np.repeat(np.arange(len(counts)), counts),
            nodes=np.concatenate(patches),
            junction=np.repeat(np.arange(len(patches)), [len(patch) for patch in patches]),
            centre=np.array([patch[0] for patch in patches]),
        )

    def answers(self) -> int:
        """How often muscle may send impulses back."""
        return self.rounds

    def initial(self, mesh: EikonalMesh) -> Float[Array, " nodes"]:
        """Time at which the networks excite each node, ms."""
        return self._muscle(mesh, self._from_his())

    def answered(self, mesh: EikonalMesh, times: Float[Array, " nodes"]) -> Float[Array, " nodes"]:
        """As `initial`, with the impulses that muscle sends into the networks."""
        entry = jnp.asarray(times)[self.centre] + self.retrograde
        first = self._from_his()
        within = jnp.min(entry[:, None] + jnp.asarray(self.between) / self.speed, axis=0)
        first = jnp.minimum(first, within)
        his = jnp.min(entry + self._to_root())  # up one bundle branch and down another
        first = jnp.minimum(first, his + self._to_root())
        return self._muscle(mesh, first)

    def _to_root(self) -> Array:
        """From the His bundle to each junction, ms, which is the same the other way round."""
        delay, lengths = jnp.asarray(self.his_delay), jnp.asarray(self.lengths)
        return delay[self.network] + lengths / jnp.asarray(self.speed)

    def _from_his(self) -> Array:
        return jnp.asarray(self.his) + self._to_root()

    def _muscle(self, mesh: EikonalMesh, first: Array) -> Array:
        never = jnp.full(mesh.nodes, jnp.inf, first.dtype)
        return never.at[self.nodes].min((first + self.antegrade)[self.junction])


Beginning = Places | AbstractNodalBeginning


def beginning_of(stimulus: AbstractStimulus, mesh: Mesh | Voxels) -> AbstractNodalBeginning:
    """Where and when a stimulus begins the activation of a mesh.

    Raises:
        ValueError: it has several beats, or reaches no node.
    """
    if isinstance(stimulus, PurkinjeStimulus):
        return Junctions.of(stimulus, mesh)
    return StimulatedNodes.of(stimulus, mesh.points)
