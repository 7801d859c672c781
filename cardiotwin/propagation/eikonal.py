"""Activation times without a membrane: the anisotropic eikonal equation on tetrahedra.

    sqrt(grad T . G grad T) = 1,    G = v_f^2 f f + v_s^2 s s + v_n^2 n n

T is the time of first arrival, G the squared velocity tensor of an element. Every node takes the
least of its arrivals through the elements around it; all nodes do so at once, over and over, until
nothing changes (Jacobi iterations of the local solver of Fu, Kirby and Whitaker 2013,
doi:10.1137/120881956). Within an element the front is plane, so an arrival through the opposite
face is `min over l of l . T_face + |x - l . x_face|` in the metric inverse(G): inside the face by
a quadratic equation, on its edges and corners otherwise.

A front is curved, not plane, so the times are late, by an amount of first order in the edge length.
They are corrected once, afterwards: the slowness vectors at the face's corners say how the times
bend between them, and `l . T_face` becomes the quadratic through both. With the weights l held the
corrected times solve a linear system that is triangular in time, `T = L T + lengths + bends`.

Derivatives come from the arrivals that won, not from the iterations. Those of the first times are a
triangular solve again (the minimum makes the weights' change count for nothing); the weights and
bends are functions of them, and a second triangular solve gives those of the corrected times,
forwards or backwards. Second derivatives are not offered.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cardiotwin._types import type_array
from cardiotwin.anatomy.fibres import Fibres
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import TETRAHEDRA_PER_VOXEL, Voxels, as_tetrahedra
from cardiotwin.numerics.concrete import known, of_jax

from .eikonal_element import (
    EDGES,
    FACE_EDGES,
    FACES,
    SEEN_FROM,
    along_edge,
    arrival,
    through_face,
)

BELIEVED, UNBELIEVED = 0.7, 1.3  # edge lengths a radius of curvature: where the correction fades
MOST_SWEEPS = 10_000  # far more than the elements that any front crosses
_RIM = 16  # power with which continuous times grow towards the rim
NEVER = 1e6  # ms; finite, so that differences of two nodes that nothing has reached are numbers


class Arrivals(NamedTuple):
    """What the iterations ended with.

    Attributes:
        times: [nodes] ms; infinite where nothing arrives.
        iterations: how many there were.
        converged: whether nothing changed any more.
    """

    times: Array
    iterations: Array
    converged: Array


class EikonalMesh(eqx.Module):
    """The elements around every node of a mesh, ready for the iterations.

    Attributes:
        points: [nodes, 3] mm.
        cells: [4, elements] nodes.
        slots: [most, nodes] places of a node among the corners of all elements, counted as
            corner * elements + element; one past the end where a node has fewer.
    """

    points: Float[type_array, "nodes 3"]
    cells: Int[type_array, "4 elements"]
    slots: Int[type_array, "most nodes"]

    @classmethod
    def of(cls, mesh: Mesh | Voxels) -> "EikonalMesh":
        """Of tetrahedra, or of voxels cut into six tetrahedra each."""
        tetrahedra = as_tetrahedra(mesh)
        cells = np.ascontiguousarray(tetrahedra.cells.T, np.int32)
        flat = cells.ravel()
        order = np.argsort(flat, kind="stable")
        count = np.bincount(flat, minlength=len(tetrahedra.points))
        first = np.cumsum(count) - count
        row = np.arange(flat.size) - np.repeat(first, count)
        slots = np.full((count.max(), count.size), flat.size, np.int32)
        slots[row, flat[order]] = order
        return cls(tetrahedra.points, cells, slots)

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return self.slots.shape[1]

    def metric(
        self,
        fibres: Fibres,
        velocity: Float[type_array, "elements 3"] | Float[type_array, "3"],
    ) -> Float[Array, "elements 3 3"]:
        """Inverse of the squared velocity tensor of every tetrahedron, ms2/mm2.

        Differentiable in the velocities.

        Args:
            fibres: one frame an element (or a voxel).
            velocity: along fibre, sheet and normal, m/s, for all elements or each.

        Raises:
            ValueError: a velocity is not positive, or the fibres are those of another mesh.
        """
        axes, velocity = self._laid_out(fibres, velocity)
        return jnp.einsum("aei,aej,ea->eij", axes, axes, velocity**-2)

    def _laid_out(self, fibres: Fibres, velocity) -> tuple[Array, Array]:
        """Axes [3, elements, 3] and velocities [elements, 3] of the tetrahedra."""
        known_velocity = known(velocity)
        if known_velocity is not None and not (
            np.all(np.isfinite(known_velocity)) and np.all(np.asarray(known_velocity) > 0)
        ):
            worst = np.min(np.where(np.isfinite(known_velocity), known_velocity, -np.inf))
            raise ValueError(
                f"eikonal: velocities must be positive and finite, got {worst} m/s among them; "
                "leave tissue that does not conduct out of the mesh."
            )
        axes = jnp.stack([jnp.asarray(a) for a in (fibres.fibre, fibres.sheet, fibres.normal)])
        elements = self.cells.shape[1]
        copies = TETRAHEDRA_PER_VOXEL if axes.shape[1] * TETRAHEDRA_PER_VOXEL == elements else 1
        if axes.shape[1] * copies != elements:
            raise ValueError(
                f"eikonal: got the fibres of {axes.shape[1]} elements on a mesh of {elements} "
                "tetrahedra; build the fibres on this mesh."
            )
        velocity = jnp.asarray(velocity) if of_jax(velocity) else jnp.asarray(velocity, float)
        axes = axes.astype(velocity.dtype)
        velocity = jnp.broadcast_to(jnp.atleast_2d(velocity), (axes.shape[1], 3))
        return jnp.repeat(axes, copies, axis=1), jnp.repeat(velocity, copies, axis=0)


def around_sites(
    mesh: EikonalMesh,
    metric: Float[type_array, "elements 3 3"],
    sites: Float[type_array, "sites 3"],
    onset: Float[type_array, " sites"],
    *,
    radius: float | type_array,
    continuous: bool = False,
) -> Float[Array, " nodes"]:
    """Initial times of the nodes near point sources: exact in the tissue around each.

    An element has a plane front, and a point source none: times would be late by a few per cent for
    ever. Within `radius` they are the travel times along straight lines, in the mean tensor of the
    elements there; so they are differentiable in the sites' positions and onsets.

    Args:
        mesh: from `EikonalMesh.of`.
        metric: from `EikonalMesh.metric`.
        sites: [sites, 3] mm.
        onset: [sites] ms.
        radius: mm; two or three edge lengths.
        continuous: let times grow without end towards the rim, so that none jumps where a site
            moves and a node comes in: for descents. They are half a per cent late at 0.72 of the
            radius.

    Returns:
        [nodes] ms, infinite outside all spheres.

    Raises:
        ValueError: a site has no node within its radius.
    """
    points = jnp.asarray(mesh.points)
    sites, onset = jnp.atleast_2d(jnp.asarray(sites)), jnp.atleast_1d(jnp.asarray(onset))
    way = points[:, None] - sites[None]
    apart = _length(jnp.sum(way**2, axis=2))
    near = jax.lax.stop_gradient(apart) < radius  # [nodes, sites]
    placed = known(near)
    if placed is not None and not np.asarray(placed).any(axis=0).all():
        lost = int(np.flatnonzero(~np.asarray(placed).any(axis=0))[0])
        raise ValueError(
            f"eikonal: site {lost} at {np.asarray(sites[lost]).round(1)} mm reaches no node within "
            f"{radius:g} mm; the nearest is {float(apart[:, lost].min()):.1f} mm away. Move it "
            "into the tissue or widen the radius."
        )
    inside = jnp.any(near[jnp.asarray(mesh.cells)], axis=0)  # [elements, sites]
    mean = jnp.einsum("es,eij->sij", inside / inside.sum(axis=0, keepdims=True), metric)
    travel = _length(jnp.einsum("nsi,sij,nsj->ns", way, mean, way))
    if continuous:
        share = jnp.where(near, apart / radius, 0.0) ** _RIM
        travel = travel / (1.0 - jnp.minimum(share, 1.0 - 1e-6))
    times = onset[None] + travel
    return jnp.min(jnp.where(near, times, jnp.inf), axis=1)


def _length(square: Array) -> Array:
    """Roots of squares, with a derivative of zero at zero."""
    return jnp.where(square > 0.0, jnp.sqrt(jnp.where(square > 0.0, square, 1.0)), 0.0)


def activation_times(
    mesh: EikonalMesh,
    metric: Float[type_array, "elements 3 3"],
    initial: Float[type_array, " nodes"],
    *,
    curved: bool = True,
    tolerance: float = 1e-4,
    most_iterations: int = 10_000,
) -> Arrivals:
    """Times of first arrival at all nodes.

    Differentiable in the metric, the initial times and the nodes' positions, and batched by `vmap`.

    Args:
        mesh: from `EikonalMesh.of`.
        metric: from `EikonalMesh.metric`, ms2/mm2. Its type is that of the computation.
        initial: [nodes] ms at which nodes fire by themselves, infinite for those that do not. A
            node where the front arrives earlier takes the earlier time.
        curved: correct the times for the curvature of fronts; second instead of first order.
        tolerance: ms; the iterations end when no time changes by more.
        most_iterations: a bound that no sensible mesh reaches.

    Raises:
        ValueError: `initial` does not fit the mesh, holds NaN, or starts nowhere.
    """
    _check_initial(mesh, initial)
    return _arrive(mesh, metric, initial, curved, tolerance, most_iterations)


def _check_initial(mesh: EikonalMesh, initial) -> None:
    if np.shape(initial) != (mesh.nodes,):
        raise ValueError(
            f"eikonal: initial has shape {np.shape(initial)}, expected ({mesh.nodes},): a time for "
            "every node, infinite for those that do not fire by themselves."
        )
    found = known(initial)
    if found is None:
        return
    if np.isnan(found).any():
        raise ValueError(
            f"eikonal: initial has {int(np.isnan(found).sum())} times that are NaN; give infinity "
            "to nodes that do not fire by themselves."
        )
    if not np.isfinite(found).any():
        raise ValueError(
            "eikonal: no node fires by itself, so none is ever reached; give at least one node a "
            "finite initial time."
        )


@eqx.filter_jit
def _arrive(mesh: EikonalMesh, metric, initial, curved: bool, tolerance, most) -> Arrivals:
    metric = jnp.asarray(metric)
    initial = jnp.minimum(jnp.asarray(initial, metric.dtype), NEVER)
    points = jnp.asarray(mesh.points, metric.dtype)
    travel = _squares(points, mesh.cells, metric)
    held = jax.lax.stop_gradient((travel, initial))
    first, iterations, converged = _times(mesh, *held, tolerance, most)
    first = jax.lax.stop_gradient(first)
    won = jax.lax.stop_gradient(_winners(mesh, *held, first))
    weights = jax.lax.stop_gradient(_weights(won, travel, first))
    own = _own(won, weights, travel, initial)
    times = _consistent(first, own, weights, won.parents)
    if curved:
        times = _bent(mesh, points, metric, travel, initial, won, weights, times)
    times = jnp.where(times < 0.5 * NEVER, times, jnp.inf)
    return Arrivals(times, iterations, converged)


def _squares(points: Array, cells: type_array, metric: Array) -> Array:
    """Squared travel times along the edges of every element, [6, elements] ms2."""
    ends = points[cells]
    edges = jnp.stack([ends[j] - ends[i] for i, j in EDGES])
    return jnp.einsum("kei,eij,kej->ke", edges, metric, edges)


def _bent(mesh, points, metric, travel, initial, won, held, first) -> Array:
    """The times again, with fronts that bend between the corners of the faces they come through."""
    weights = _weights(won, travel, first)  # with their derivatives, those of `first` among them
    own = _own(won, weights, travel, initial)
    corners = points[won.parents]  # [3, nodes, 3]
    way = points - jnp.einsum("kn,kni->ni", weights, corners)
    slowness = jnp.einsum("nij,nj->ni", metric[won.element], way)
    slowness = slowness / jnp.where(won.itself, 1.0, own)[:, None]
    inner, told = _inner_gradient(mesh, points, won, first)
    slowness = jnp.where(won.itself[:, None], inner, slowness)
    bend = jnp.zeros_like(own)
    for a, b, between in FACE_EDGES:
        turn = slowness[won.parents[b]] - slowness[won.parents[a]]
        along = jnp.einsum("ni,ni->n", turn, corners[b] - corners[a])
        # where fronts collide there is no curvature: the slowness turns round from node to node
        edge = travel.ravel()[won.places[between]]
        sharp = jnp.abs(along) / jnp.sqrt(edge)
        share = jnp.clip((UNBELIEVED - sharp) / (UNBELIEVED - BELIEVED), 0.0, 1.0)
        share = jnp.where(told[won.parents[a]] & told[won.parents[b]], share, 0.0)
        bend = bend - 0.5 * share * weights[a] * weights[b] * along
    fixed = jax.lax.stop_gradient((own + bend, weights))
    ahead = jax.lax.stop_gradient(
        _sweep(lambda t: fixed[0] + jnp.sum(fixed[1] * t[won.parents], axis=0), first)
    )
    moved = jnp.sum((weights - held) * ahead[won.parents], axis=0)  # zero, with a derivative
    return _consistent(ahead, own + bend + moved, held, won.parents)


def _inner_gradient(mesh: EikonalMesh, points: Array, won: "_Won", times: Array):
    """Slowness [nodes, 3] where nodes fire by themselves: the mean over elements of such nodes.

    And where slowness can be told: not at a node that fires by itself alone, which has none.
    """
    cells = jnp.asarray(mesh.cells)
    inside = jnp.all(won.itself[cells], axis=0)
    corner, late = points[cells], times[cells]
    one, two, three = (corner[k] - corner[0] for k in (1, 2, 3))
    normals = (jnp.cross(two, three), jnp.cross(three, one), jnp.cross(one, two))
    rises = [(late[k] - late[0])[:, None] * normals[k - 1] for k in (1, 2, 3)]
    volume = jnp.einsum("ei,ei->e", one, normals[0])
    gradient = (rises[0] + rises[1] + rises[2]) / volume[:, None]
    gradient = jnp.where(inside[:, None], gradient, 0.0)
    total = jnp.zeros_like(points).at[cells].add(jnp.broadcast_to(gradient, corner.shape))
    count = (
        jnp.zeros_like(times)
        .at[cells]
        .add(jnp.broadcast_to(inside.astype(times.dtype), cells.shape))
    )
    return total / jnp.maximum(count, 1.0)[:, None], ~won.itself | (count > 0.0)


def _times(mesh: EikonalMesh, travel: Array, initial: Array, tolerance, most):
    """Times that no element improves any more, the cases of a batch one by one on a CPU.

    A batch of loops ends with its slowest case, and on a CPU loses what keeps one case fast: the
    branch in `_iterate` becomes a choice between results, and candidates are worked out anew.
    """
    solve: Any = _iterate
    if jax.default_backend() == "cpu":
        solve = jax.custom_batching.sequential_vmap(_iterate)
    return solve(mesh, travel, initial, tolerance, most)


def _iterate(mesh, travel, initial, tolerance, most):
    """Times that no element improves any more."""

    def body(carry):
        times, _, count = carry
        # a branch never taken the other way: what it returns lies in memory before it is gathered,
        # where XLA would otherwise work every candidate out anew for each node that reads it
        arrivals = jax.lax.cond(
            count >= 0,
            lambda now: _through_elements(_read(now, mesh.cells), travel),
            lambda now: jnp.zeros(mesh.cells.shape, now.dtype),
            times,
        )
        better = jnp.minimum(times, _least(mesh, arrivals))
        return better, jnp.max(times - better), count + 1

    def going_on(carry):
        _, change, count = carry
        return (change > tolerance) & (count < most)

    start = (initial, jnp.asarray(jnp.inf, initial.dtype), jnp.asarray(0))
    times, change, count = jax.lax.while_loop(going_on, body, start)
    return times, count, change <= tolerance


def _least(mesh: EikonalMesh, arrivals: Array) -> Array:
    """The least arrival of every node, [nodes]."""
    padded = jnp.append(arrivals.ravel(), jnp.asarray(NEVER, arrivals.dtype))
    least = _read(padded, mesh.slots[0])
    for row in mesh.slots[1:]:
        least = jnp.minimum(least, _read(padded, row))
    return least


def _read(values: Array, places: type_array) -> Array:
    """Values at places that are known to exist."""
    return values.at[places].get(mode="promise_in_bounds", wrap_negative_indices=False)


def _through_elements(corner: Array, travel: Array) -> Array:
    """Arrival at every corner through its element, [4, elements], from the times of the others."""
    ways = [
        arrival([travel[row] for row in SEEN_FROM[k]], [corner[a] for a in FACES[k]])
        for k in range(4)
    ]
    return jnp.stack(ways)


class _Won(NamedTuple):
    """The arrival that won at every node."""

    element: Array  # [nodes] through which it came
    places: Array  # [6, nodes] of its squared travel times among all
    parents: Array  # [3, nodes] corners of the face that it came through
    itself: Array  # [nodes] whether the node fired by itself instead


def _winners(mesh: EikonalMesh, travel: Array, initial: Array, times: Array) -> _Won:
    arrivals = _through_elements(_read(times, mesh.cells), travel)
    padded = jnp.append(arrivals.ravel(), jnp.asarray(NEVER, arrivals.dtype))
    best = jnp.argmin(padded[mesh.slots], axis=0)
    slot = jnp.take_along_axis(jnp.asarray(mesh.slots), best[None], axis=0)[0]
    elements = mesh.cells.shape[1]
    corner, element = slot // elements, slot % elements
    places = jnp.asarray(SEEN_FROM)[corner].T * elements + element[None]
    parents = jnp.asarray(mesh.cells)[jnp.asarray(FACES)[corner].T, element[None]]
    itself = (initial <= padded[slot]) | (times >= 0.5 * NEVER)
    return _Won(element, places, parents, itself)


def _weights(won: _Won, travel: Array, times: Array) -> Array:
    """Weights [3, nodes] of the face's corners in the arrival, zero where a node fired by itself.

    They add up to 1, and are differentiable within the way that won.
    """
    squares, late = travel.ravel()[won.places], times[won.parents]
    inside, face, valid = through_face(squares, late)
    face = jnp.where(valid[None], jnp.stack(face), 1.0)
    options = [face / face.sum(axis=0, keepdims=True)]
    arrivals = [jnp.where(valid, inside, jnp.inf)]
    for a, b, opposite in FACE_EDGES:
        arrival, share = along_edge(squares, late, a, b, opposite)
        options.append(jnp.zeros_like(face).at[a].set(1.0 - share).at[b].set(share))
        arrivals.append(arrival)
    best = jnp.argmin(jax.lax.stop_gradient(jnp.stack(arrivals)), axis=0)
    chosen = jnp.take_along_axis(jnp.stack(options), best[None, None], axis=0)[0]
    return jnp.where(won.itself[None], 0.0, chosen)


def _own(won: _Won, weights: Array, travel: Array, initial: Array) -> Array:
    """What a node adds to its parents' times: the way from the face, or its own initial time."""
    s = travel.ravel()[won.places]
    l1, l2, l3 = weights
    square = l1 * s[0] + l2 * s[1] + l3 * s[2] - l1 * l2 * s[3] - l1 * l3 * s[4] - l2 * l3 * s[5]
    return jnp.where(won.itself, initial, jnp.sqrt(jnp.where(won.itself, 1.0, square)))


@jax.custom_jvp
def _consistent(times: Array, own: Array, weights: Array, parents: Array) -> Array:
    """The times, with the derivative in `own` of the solution of T = L T + own."""
    return times


@_consistent.defjvp
def _(primals, tangents):
    times, _, weights, parents = primals

    def ahead(t):
        return jnp.sum(weights * t[parents], axis=0)

    def back(t):
        return jnp.zeros_like(t).at[parents.ravel()].add((weights * t[None]).ravel())

    change = jax.lax.custom_linear_solve(
        lambda t: t - ahead(t),
        tangents[1],
        lambda _, right: _sweep(lambda t: right + ahead(t), right),
        lambda _, right: _sweep(lambda t: right + back(t), right),
    )
    return times, change


def _sweep(step, start: Array) -> Array:
    """Apply an affine map whose linear part is nilpotent until it changes nothing."""
    rounding = 4.0 * jnp.finfo(start.dtype).eps

    def body(carry):
        now, _, count = carry
        after = step(now)
        change = jnp.max(jnp.abs(after - now))
        return after, change > rounding * jnp.max(jnp.abs(after)), count + 1

    def going_on(carry):
        return carry[1] & (carry[2] < MOST_SWEEPS)

    return jax.lax.while_loop(going_on, body, (start, jnp.asarray(True), jnp.asarray(0)))[0]
