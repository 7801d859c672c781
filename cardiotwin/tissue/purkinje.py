"""Excitation of Purkinje networks: from the His bundle to the muscle, and back from the muscle."""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import numpy as np
import scipy.sparse as sp
from jaxtyping import Float
from scipy.sparse.csgraph import dijkstra

from cardiotwin._types import MetresPerSecond as Velocity
from cardiotwin._types import Milliseconds
from cardiotwin.anatomy.purkinje import PurkinjeNetwork


class Excitation(NamedTuple):
    """When a conduction system and the muscle at its junctions fire, in ms; inf for never.

    Attributes:
        nodes: time at every node of every network, one array [nodes] a network.
        junctions: time at which the network fires at every junction, of all networks [junctions].
        muscle: time at which the muscle fires there [junctions].
    """

    nodes: tuple[np.ndarray, ...]
    junctions: np.ndarray
    muscle: np.ndarray


class ConductionSystem(eqx.Module):
    """Purkinje networks that hang on one His bundle, and the delays between them and the muscle.

    An impulse runs through the segments at one speed and takes the shortest way. At a junction it
    needs `antegrade` to reach the muscle, and `retrograde` to enter from muscle that has fired.

    Args:
        networks: such as the left and the right one.
        speed: along the segments; 2 to 4 m/s in human Purkinje fibres.
        his_delay: from the His bundle to the root of each network, or one for all; inf where the
            bundle branch is blocked.
        antegrade: delay from network to muscle.
        retrograde: delay from muscle to network; inf where muscle does not enter the networks.

    Raises:
        ValueError: no network, a speed that is not positive, a negative delay, or a number of
            delays that is not that of the networks.
    """

    networks: tuple[PurkinjeNetwork, ...]
    speed: float
    his_delay: tuple[float, ...]
    antegrade: float
    retrograde: float

    def __init__(
        self,
        networks: Sequence[PurkinjeNetwork],
        *,
        speed: Velocity = 3.0,
        his_delay: Milliseconds | Sequence[float] = 0.0,
        antegrade: Milliseconds = 3.0,
        retrograde: Milliseconds = 1.0,
    ):
        self.networks = tuple(networks)
        if not self.networks:
            raise ValueError("ConductionSystem: no networks; give at least one.")
        if not (np.isfinite(speed) and speed > 0):
            raise ValueError(f"ConductionSystem: speed is {speed} m/s; give a positive number.")
        if not (np.isfinite(antegrade) and antegrade >= 0):
            raise ValueError(
                f"ConductionSystem: the antegrade delay is {antegrade} ms; give a number that is "
                "not negative."
            )
        if not retrograde >= 0:
            raise ValueError(
                f"ConductionSystem: the retrograde delay is {retrograde} ms; give a number that is "
                "not negative, or inf where muscle does not enter the networks."
            )
        delays = np.atleast_1d(np.asarray(his_delay, float))
        if delays.size not in (1, len(self.networks)) or not np.all(delays >= 0):
            raise ValueError(
                f"ConductionSystem: his_delay is {his_delay} ms for {len(self.networks)} networks; "
                "give one delay for all or one each, not negative (inf: blocked)."
            )
        self.his_delay = tuple(np.broadcast_to(delays, len(self.networks)).tolist())
        self.speed, self.antegrade, self.retrograde = speed, antegrade, retrograde

    def junctions(self) -> Float[np.ndarray, "junctions 3"]:
        """Places of the junctions of all networks, one network after the other, mm."""
        return np.concatenate([n.points[n.junctions] for n in self.networks])

    def excite(self, his: float = 0.0, muscle: np.ndarray | None = None) -> Excitation:
        """First excitation of networks and muscle, by the His bundle and by muscle before it.

        The time of a node is the earliest arrival over all ways. Since no way is shorter than
        nothing, an impulse that comes back to where it was changes no time: one search for the
        shortest ways from all sources finds the only solution.

        Args:
            his: time at which the His bundle fires, ms; inf where it does not.
            muscle: times at which muscle at the junctions fires of itself or by its neighbours
                [junctions], ms; NaN or inf for never. All never when left out.

        Raises:
            ValueError: the times are not one a junction.
        """
        places = self._junction_nodes()
        own = np.full(len(places), np.inf) if muscle is None else np.array(muscle, float)
        if own.shape != places.shape:
            raise ValueError(
                f"ConductionSystem: {own.shape} times of muscle for {len(places)} junctions; give "
                "one a junction."
            )
        own = np.where(np.isnan(own), np.inf, own)
        times = self._arrivals(places, own + self.retrograde, his)
        first = times[places]
        ends = np.cumsum([network.nodes for network in self.networks])
        return Excitation(
            nodes=tuple(np.split(times[: ends[-1]], ends[:-1])),
            junctions=first,
            muscle=np.minimum(own, first + self.antegrade),
        )

    def travel_times(self) -> Float[np.ndarray, "junctions junctions"]:
        """Times through the networks from muscle at one junction to muscle at another, ms.

        Row i, column j: in at junction i, along the shortest way, out at junction j, both delays
        included; inf where no way leads. The way from one network to another runs through the His
        bundle.
        """
        places = self._junction_nodes()
        within = np.asarray(dijkstra(self._graph(), indices=places))[:, places]
        return within + self.retrograde + self.antegrade

    def _junction_nodes(self) -> np.ndarray:
        """Junctions as nodes of the graph of all networks."""
        first = np.cumsum([0, *(network.nodes for network in self.networks)])
        return np.concatenate([n.junctions + f for n, f in zip(self.networks, first, strict=False)])

    def _graph(self) -> sp.csr_matrix:
        """Travel times along all edges, ms; the last node is the His bundle."""
        first = np.cumsum([0, *(network.nodes for network in self.networks)])
        inner = sp.block_diag([network.graph() / self.speed for network in self.networks]).tocoo()
        open_ = np.isfinite(self.his_delay)
        roots = np.array([n.root + f for n, f in zip(self.networks, first, strict=False)])[open_]
        delays = np.array(self.his_delay)[open_]
        his = np.full(len(roots), first[-1])
        rows = np.concatenate([inner.row, his, roots])
        columns = np.concatenate([inner.col, roots, his])
        values = np.concatenate([inner.data, delays, delays])
        count = int(first[-1]) + 1
        return sp.csr_matrix((values, (rows, columns)), shape=(count, count))

    def _arrivals(self, places: np.ndarray, entries: np.ndarray, his: float) -> np.ndarray:
        """Earliest time at every node of the graph, from the His bundle and from entries."""
        graph = self._graph().tocoo()
        count = 1 + sum(network.nodes for network in self.networks)
        sources = np.append(places, count - 1)
        begin = np.append(entries, np.inf if np.isnan(his) else his)
        used = np.isfinite(begin)
        if not used.any():
            return np.full(count, np.inf)
        earliest = begin[used].min()
        rows = np.concatenate([graph.row, np.full(used.sum(), count)])
        columns = np.concatenate([graph.col, sources[used]])
        values = np.concatenate([graph.data, begin[used] - earliest])
        whole = sp.csr_matrix((values, (rows, columns)), shape=(count + 1,) * 2)
        return np.asarray(dijkstra(whole, indices=count))[:count] + earliest
