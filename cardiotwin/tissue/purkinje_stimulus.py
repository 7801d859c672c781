"""How Purkinje networks stimulate the muscle, and how muscle that fires first answers them."""

from collections.abc import Sequence

import equinox as eqx
import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.purkinje import PurkinjeNetwork
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.anatomy.walls import ENDOCARDIA, distance_to

from .purkinje import ConductionSystem
from .stimulus import AbstractStimulus, Pulses, check_radius, check_train

# Muscle that a junction excites at least.
FEWEST_NODES = 4
# Share of junctions that may lie off the muscle, farther than the radius and an edge of the mesh.
_STRAY = 0.05


class PurkinjeStimulus(AbstractStimulus):
    """Stimulus of the muscle by Purkinje networks that the His bundle excites.

    Every junction stimulates the muscle around it when the network's impulse has come through;
    where several reach one node, the first counts. Once it is known which muscle has fired (see
    `after`), the impulse also enters the networks there, and muscle that has fired before the
    impulse comes is not stimulated any more.

    Args:
        mesh: the muscle.
        system: the networks.
        his: time at which the His bundle fires first, ms.
        radius: of the muscle around a junction, mm; see `muscle_at_junctions`.
        amplitude: mV/ms.
        duration: ms.
        period: cycle length, ms; every beat is like the first.
        count: number of beats.

    Raises:
        ValueError: the networks lie away from the mesh, or no junction is excited.
    """

    system: ConductionSystem
    nodes: np.ndarray
    fired: np.ndarray | None
    his: float
    radius: float
    amplitude: float
    duration: float
    period: float
    count: int
    _junction: np.ndarray
    _place: np.ndarray
    _centre: np.ndarray

    def __init__(
        self,
        mesh: Mesh | Voxels,
        system: ConductionSystem,
        *,
        his: float = 0.0,
        radius: float = 1.5,
        amplitude: float = 50.0,
        duration: float = 3.0,
        period: float = 1000.0,
        count: int = 1,
    ):
        self.system, self.his, self.radius = system, his, radius
        self.amplitude, self.duration = amplitude, duration
        self.period, self.count, self.fired = period, count, None
        check_radius(self)
        check_train(self, his)
        patches = muscle_at_junctions(mesh, system.networks, radius)
        self.nodes, self._place = np.unique(np.concatenate(patches), return_inverse=True)
        self._junction = np.repeat(np.arange(len(patches)), [len(patch) for patch in patches])
        nearest = np.array([patch[0] for patch in patches])
        self._centre = np.searchsorted(self.nodes, nearest)
        if not np.isfinite(self.onsets()).any():
            raise ValueError("No junction is excited: every bundle branch is blocked; open one.")

    def after(self, fired: Float[np.ndarray, " nodes"]) -> "PurkinjeStimulus":
        """The stimulus when it is known which muscle has fired.

        Args:
            fired: activation times so far of the nodes `self.nodes`, ms; inf for not yet.
        """
        times = np.asarray(fired, float)
        return eqx.tree_at(lambda s: s.fired, self, times, is_leaf=lambda x: x is None)

    def pulses(self, points: np.ndarray) -> tuple[Pulses, ...]:
        """Locate the stimulus on the nodes of the mesh."""
        onsets = self.onsets()
        reached = np.isfinite(onsets)
        amplitude, onset = np.zeros(len(points)), np.zeros(len(points))
        amplitude[self.nodes[reached]] = self.amplitude
        onset[self.nodes[reached]] = onsets[reached]
        train = (self.duration, self.period, self.count)
        return (Pulses(amplitude, onset, *(np.asarray(value, float) for value in train)),)

    def onsets(self) -> np.ndarray:
        """Onset at each of `nodes`, ms; inf where the impulse comes too late, or never."""
        own = None if self.fired is None else self.fired[self._centre]
        arrival = self.system.excite(self.his, own).junctions + self.system.antegrade
        onsets = np.full(len(self.nodes), np.inf)
        np.minimum.at(onsets, self._place, arrival[self._junction])
        return onsets if self.fired is None else np.where(self.fired < onsets, np.inf, onsets)


class Feedback:
    """Follows a run: which stimulus the networks give once some of the muscle has fired.

    Args:
        stimulus: as the run begins.
    """

    def __init__(self, stimulus: PurkinjeStimulus):
        self._stimulus, self._onsets = stimulus, stimulus.onsets()

    def __call__(self, fired: Float[np.ndarray, " nodes"]) -> PurkinjeStimulus | None:
        """The stimulus from now on, None for the same as before.

        Args:
            fired: activation times so far of the stimulus's nodes, ms; inf for not yet.
        """
        stimulus = self._stimulus.after(fired)
        onsets = stimulus.onsets()
        if np.array_equal(onsets, self._onsets):
            return None
        self._onsets = onsets
        return stimulus


def muscle_at_junctions(
    mesh: Mesh | Voxels, networks: Sequence[PurkinjeNetwork], radius: float = 1.5
) -> list[np.ndarray]:
    """Nodes of the muscle that each junction excites.

    Those within `radius` of the junction, and at least the nearest four: less muscle could be
    drained by its neighbours before it fires. Only nodes nearer to the network's endocardium than
    to any other surface of the wall count, where the mesh names its surfaces.

    Args:
        mesh: the muscle.
        networks: on its endocardia.
        radius: mm.

    Returns:
        Node indices, the nearest first, one array a junction, of all networks one after the other.

    Raises:
        ValueError: too many junctions lie away from the mesh.
    """
    found: list[np.ndarray] = []
    for network in networks:
        inner = _inner_nodes(mesh, network)
        tree = KDTree(mesh.points[inner])
        places = network.points[network.junctions]
        distance, nearest = tree.query(places, k=min(FEWEST_NODES, len(inner)))
        distance, nearest = distance.reshape(len(places), -1), nearest.reshape(len(places), -1)
        _check_near(mesh, network, distance[:, 0], radius)
        within = tree.query_ball_point(places, radius)
        found += [
            inner[np.append(few, np.setdiff1d(near, few)).astype(int)]
            for near, few in zip(within, nearest, strict=True)
        ]
    return found


def _inner_nodes(mesh: Mesh | Voxels, network: PurkinjeNetwork) -> np.ndarray:
    """Nodes of the inner half of the wall whose endocardium a network lies on."""
    nodes = np.arange(len(mesh.points))
    present = [s for s in (*ENDOCARDIA.values(), "epi") if s in mesh.surfaces]
    if network.side is None or ENDOCARDIA[network.side] not in present or len(present) == 1:
        return nodes
    own = ENDOCARDIA[network.side]
    others = [distance_to(mesh, nodes, surface) for surface in present if surface != own]
    return nodes[distance_to(mesh, nodes, own) <= np.min(others, axis=0)]


def _check_near(
    mesh: Mesh | Voxels, network: PurkinjeNetwork, distance: np.ndarray, radius: float
) -> None:
    some = mesh.cells[:: max(1, len(mesh.cells) // 2000)]
    ends = mesh.points[some[:, :2]]
    edge = float(np.median(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)))
    off = distance > radius + edge
    if off.mean() <= _STRAY:
        return
    worst = network.junctions[np.argmax(distance)]
    raise ValueError(
        f"{off.sum()} of {len(off)} junctions of the network ({network.side or 'side not known'}) "
        f"lie more than {radius + edge:.1f} mm from the muscle, the farthest, node {worst} at "
        f"{network.points[worst]} mm, {distance.max():.1f} mm: check that the network belongs to "
        "this mesh and that both are in mm."
    )
