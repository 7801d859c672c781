"""Which device owns which node: parts of equal size with little to exchange between them."""

import importlib.util
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

METHODS = ("bisection", "metis")


class PartitionQuality(NamedTuple):
    """How evenly the nodes are spread, and how much the parts must tell one another."""

    imbalance: float  # nodes of the largest part over the mean, less one
    cut_edges: int  # edges between parts
    halo: int  # values that all parts together receive in one exchange
    largest_halo: int  # values that one part receives, at most
    neighbours: int  # parts that one part exchanges with, at most


def partition(
    points: Float[np.ndarray, "nodes 3"],
    edges: Int[np.ndarray, "edges 2"],
    parts: int,
    method: str | Int[np.ndarray, " nodes"] = "bisection",
) -> Int[np.ndarray, " nodes"]:
    """Assign every node to a part.

    Args:
        points: of the nodes, mm.
        edges: pairs of nodes that are coupled.
        parts: their number, at most that of the nodes.
        method: "bisection" (recursive inertial bisection), "metis" (a smaller halo on curved
            walls; needs the package pymetis), or a part for every node, made elsewhere.

    Returns:
        The part of every node, 0 to parts - 1, none of them empty.

    Raises:
        ValueError: more parts than nodes, an empty part, or an unknown method.
    """
    nodes = len(points)
    if not 1 <= parts <= nodes:
        raise ValueError(
            f"A mesh of {nodes} nodes cannot be split into {parts} parts; give between 1 and one "
            "part a node, and some thousand nodes a part if it is to pay."
        )
    if not isinstance(method, str):
        return _given(np.asarray(method), nodes, parts)
    check_method(method)
    if method == "metis":
        return _given(_metis(edges, nodes, parts), nodes, parts)
    return bisect(points, parts)


def check_method(method: str) -> None:
    """Refuse a way to share nodes out that is unknown or not installed.

    Raises:
        ValueError: see above.
    """
    if method not in METHODS:
        raise ValueError(
            f"The partition method is {method!r}; give one of {METHODS}, or an array with the part "
            "of every node."
        )
    if method == "metis" and importlib.util.find_spec("pymetis") is None:
        raise ValueError(
            "The partition method 'metis' needs the package pymetis (pip install "
            "'cardiotwin[metis]'); 'bisection' needs nothing more."
        )


def bisect(points: Float[np.ndarray, "nodes 3"], parts: int) -> Int[np.ndarray, " nodes"]:
    """Cut across the longest principal axis, again and again.

    Sizes differ by one node at most. Source: Simon 1991, Partitioning of unstructured problems for
    parallel processing, https://doi.org/10.1016/0956-0521(91)90014-V, section 3.
    """
    part = np.zeros(len(points), np.int32)
    work = [(np.arange(len(points)), 0, parts)]
    while work:
        nodes, first, count = work.pop()
        if count == 1:
            part[nodes] = first
            continue
        here = points[nodes] - points[nodes].mean(axis=0)
        _, axes = np.linalg.eigh(here.T @ here)
        # nodes whose coordinates agree but for rounding keep their order
        along = np.round(here @ axes[:, -1], 9)
        along = along if axes[np.abs(axes[:, -1]).argmax(), -1] > 0 else -along
        order = nodes[np.argsort(along, kind="stable")]
        few = count // 2
        middle = len(order) * few // count
        work.append((order[:middle], first, few))
        work.append((order[middle:], first + few, count - few))
    return part


def partition_quality(
    part: Int[np.ndarray, " nodes"], edges: Int[np.ndarray, "edges 2"]
) -> PartitionQuality:
    """Measure a partition of a graph."""
    parts = int(part.max()) + 1
    size = np.bincount(part, minlength=parts)
    ghosts = ghost_nodes(part, edges)
    pairs = np.unique(ghosts[:, :2], axis=0)
    received = np.bincount(ghosts[:, 0], minlength=parts)
    return PartitionQuality(
        imbalance=float(size.max() / size.mean() - 1.0),
        cut_edges=int((part[edges[:, 0]] != part[edges[:, 1]]).sum()),
        halo=len(ghosts),
        largest_halo=int(received.max()),
        neighbours=int(np.bincount(pairs[:, 0], minlength=parts).max()),
    )


def ghost_nodes(
    part: Int[np.ndarray, " nodes"], edges: Int[np.ndarray, "edges 2"]
) -> Int[np.ndarray, "ghosts 3"]:
    """Every (receiving part, owning part, node) of the halo once, sorted."""
    both = np.concatenate([edges, edges[:, ::-1]])
    home, other = part[both[:, 0]], part[both[:, 1]]
    cut = home != other
    return np.unique(np.stack([home[cut], other[cut], both[cut, 1]], axis=1), axis=0)


def exchange_rounds(pairs: Int[np.ndarray, "pairs 2"]) -> Int[np.ndarray, " pairs"]:
    """Spread messages over rounds in which no part sends twice and none receives twice.

    There are as many rounds as the busiest part has messages, the fewest possible (edge colouring
    of a bipartite graph, König 1916). Messages come first that are listed first.

    Args:
        pairs: (sender, receiver) of every message, each pair once.

    Returns:
        The round of every message.
    """
    if not len(pairs):
        return np.zeros(0, np.int32)
    senders, receivers = (np.bincount(side).max() for side in pairs.T)
    rounds = max(senders, receivers)
    # message of each sender, and of each receiver, in each round; -1 for none
    sent, received = (np.full((side.max() + 1, rounds), -1) for side in pairs.T)
    colour = np.full(len(pairs), -1, np.int32)
    for message, (sender, receiver) in enumerate(pairs):
        free = np.flatnonzero(sent[sender] < 0)[0]
        want = np.flatnonzero(received[receiver] < 0)[0]
        both = np.flatnonzero((sent[sender] < 0) & (received[receiver] < 0))
        if both.size:
            free = both[0]
        else:
            _swap(pairs, colour, sent, received, receiver, free, want)
        colour[message] = free
        sent[sender, free] = received[receiver, free] = message
    return colour


def _swap(pairs, colour, sent, received, receiver, free, want):
    """Exchange two rounds along the path of messages that starts at `receiver` with `free`."""
    path, at = [], received[receiver, free]
    while at >= 0:
        path.append(at)
        # on from the message's sender by the other round, then from its receiver by the first
        at = sent[pairs[at, 0], want] if len(path) % 2 else received[pairs[at, 1], free]
    for message in path:
        sender, target = pairs[message]
        sent[sender, colour[message]] = received[target, colour[message]] = -1
    for message in path:
        sender, target = pairs[message]
        colour[message] = want if colour[message] == free else free
        sent[sender, colour[message]] = received[target, colour[message]] = message


def _given(part: np.ndarray, nodes: int, parts: int) -> np.ndarray:
    """Check a partition that came from elsewhere."""
    if part.shape != (nodes,) or not np.issubdtype(part.dtype, np.integer):
        raise ValueError(
            f"The partition has shape {part.shape} and type {part.dtype}; give one integer for "
            f"each of the {nodes} nodes."
        )
    if part.min() < 0 or part.max() >= parts:
        raise ValueError(
            f"The partition names parts {part.min()} to {part.max()}; for {parts} devices give "
            f"parts 0 to {parts - 1}."
        )
    empty = np.flatnonzero(np.bincount(part, minlength=parts) == 0)
    if empty.size:
        raise ValueError(
            f"The partition leaves {empty.size} of {parts} parts empty (part {empty[0]} first). "
            "Use fewer devices, or 'bisection', which leaves none empty."
        )
    return part.astype(np.int32)


def _metis(edges: np.ndarray, nodes: int, parts: int) -> np.ndarray:
    import pymetis  # pyright: ignore[reportMissingImports]

    graph = sp.coo_matrix((np.ones(len(edges), np.int8), edges.T), shape=(nodes, nodes))
    graph = (graph + graph.T).tocsr()
    adjacency: Any = pymetis.CSRAdjacency(graph.indptr, graph.indices)
    return np.array(pymetis.part_graph(parts, adjacency=adjacency).vertex_part)
