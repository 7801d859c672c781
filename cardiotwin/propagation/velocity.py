"""Conduction velocity: what a mesh makes of a diffusivity, and which diffusivity it needs.

In a homogeneous medium the velocity on a mesh of edge length h obeys CV = sqrt(D) g(h / sqrt(D)):
only the ratio r = h / sqrt(D) matters (units ms^1/2). One curve g, measured once for an ionic
model, a scheme and a time step, therefore gives the velocity of every diffusivity on every edge
length, and g(0) that of the continuum.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator

from cardiotwin.anatomy.fibres import Fibres
from cardiotwin.anatomy.idealised import slab
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.ionic._base import AbstractIonicModel
from cardiotwin.tissue.conductivity import Tissue
from cardiotwin.tissue.stimulus import NodalStimulus

from .observe import ActivationTime
from .problem import Monodomain
from .scheme import AbstractScheme
from .solve import solve
from .strip import Strip, cut_strip, side_by_side

# Ratios h / sqrt(D), ms^1/2: from well resolved waves to waves about to fail.
RATIOS = (0.4, 0.6, 0.85, 1.15, 1.5, 2.0, 2.6, 3.3, 4.2, 5.2, 6.4, 8.0)
# A wave is followed for this long at most; slower ones count as blocked.
PATIENCE = 240.0  # ms
# Range in which a slope d ln CV / d ln D is believed.
SLOPES = (0.35, 1.6)
# Changes of ln D smaller than this say nothing about the slope.
MOVED = 0.02
WIDTH = 3  # cubes across a bar
# Mean edge of the body-centred lattice over the edge of its cubes: 3 edges of 1 and 4 of sqrt(3)/2
# a node.
MEAN_EDGE = (3 + 4 * np.sqrt(3) / 2) / 7


class VelocityCurve(NamedTuple):
    """g of CV = sqrt(D) g(h / sqrt(D)), measured on bars of tetrahedra.

    Attributes:
        ratios: h / sqrt(D), ms^1/2, ascending.
        g: CV / sqrt(D), ms^-1/2, positive; ratios at which the wave failed are left out.
        continuum: g at ratio zero.
    """

    ratios: np.ndarray
    g: np.ndarray
    continuum: float

    def velocity(self, diffusivity: Any, edge: float) -> np.ndarray:
        """Velocity (m/s) at a diffusivity (mm2/ms) on edges of a length (mm); 0 where blocked."""
        root = np.sqrt(np.asarray(diffusivity, float))
        ratio = edge / root
        g = self._interpolant()(np.minimum(ratio, self.ratios[-1]))
        return np.where(ratio > self.ratios[-1], 0.0, root * g)

    def error(self, diffusivity: Any, edge: float) -> np.ndarray:
        """Relative error of the velocity against the continuum; -1 where the wave fails."""
        exact = np.sqrt(np.asarray(diffusivity, float)) * self.continuum
        return self.velocity(diffusivity, edge) / exact - 1.0

    def slope(self, diffusivity: Any, edge: float) -> np.ndarray:
        """Slope d ln CV / d ln D at a diffusivity: a half where the wave is well resolved."""
        step = 1.02
        low, high = (
            np.log(np.maximum(self.velocity(np.asarray(diffusivity) * f, edge), 1e-9))
            for f in (1 / step, step)
        )
        return (high - low) / (2 * np.log(step))

    def diffusivity(self, velocity: float, edge: float) -> float:
        """Diffusivity (mm2/ms) that gives a velocity (m/s) on edges of a length (mm).

        Raises:
            ValueError: so slow a wave fails on so coarse a mesh.
        """
        # CV / h = g(r) / r falls as r grows
        fine = np.geomspace(1e-3, self.ratios[-1], 4000)
        rate = self._interpolant()(fine) / fine
        falling = np.minimum.accumulate(rate)
        if velocity / edge < falling[-1]:
            raise ValueError(
                f"A conduction velocity of {velocity:g} m/s cannot be reached on edges of "
                f"{edge:.3g} mm: waves slower than {edge * falling[-1]:.3g} m/s fail there. Refine "
                f"the mesh to {velocity / falling[-1]:.2g} mm or finer, or ask for a faster wave."
            )
        ratio = np.exp(np.interp(-np.log(velocity / edge), -np.log(falling), np.log(fine)))
        return float((edge / ratio) ** 2)

    def _interpolant(self):
        # even in r near zero: the leading error of the space discretisation is of second order
        return PchipInterpolator(
            np.concatenate([[0.0], self.ratios]), np.concatenate([[self.continuum], self.g])
        )


def velocity_curve(
    cell: AbstractIonicModel,
    *,
    dt: float,
    scheme: AbstractScheme | None = None,
    precision: str = "float32",
    ratios: tuple[float, ...] = RATIOS,
) -> VelocityCurve:
    """Measure the velocity of plane waves on bars of tetrahedra, all in one run.

    Args:
        cell: an ionic model with scalar parameters.
        dt: time step, ms.
        scheme: operator splitting, with its mass blend.
        precision: "float32" or "float64".
        ratios: values of h / sqrt(D), ms^1/2.

    Raises:
        ValueError: no wave propagates even where it is well resolved.
    """
    ratios = tuple(sorted(ratios))
    velocity = plane_wave_velocity(
        cell, [1.0 / r**2 for r in ratios], 1.0, dt=dt, scheme=scheme, precision=precision
    )
    g = velocity * np.array(ratios)
    alive = g > 0
    if not alive[:2].all():
        raise ValueError(
            f"{type(cell).__name__} carried no wave along a well resolved bar within "
            f"{PATIENCE:g} ms at dt = {dt} ms. Check that the cell is excitable: its initial state "
            "and the maximal conductance of the fast inward current."
        )
    last = len(ratios) if alive.all() else int(np.argmin(alive))
    r, g = np.array(ratios)[:last], g[:last]
    continuum = (g[0] * r[1] ** 2 - g[1] * r[0] ** 2) / (r[1] ** 2 - r[0] ** 2)
    return VelocityCurve(r, g, float(continuum))


def plane_wave_velocity(
    cell: AbstractIonicModel,
    diffusivities: Any,
    edge: float,
    *,
    dt: float,
    scheme: AbstractScheme | None = None,
    precision: str = "float32",
) -> np.ndarray:
    """Velocity (m/s) of a plane wave at each diffusivity (mm2/ms) on edges of a length (mm).

    Each diffusivity has its own bar of body-centred tetrahedra, isotropic, the wave along a cube
    edge; 0 where the wave does not arrive.
    """
    diffusivities = np.asarray(diffusivities, float)
    bars = [_bar(edge, edge / np.sqrt(d)) for d in diffusivities]
    principal = np.repeat(diffusivities[:, None], 3, axis=1)
    frames = np.broadcast_to(np.eye(3), (len(bars), 3, 3))
    return _race(cell, bars, frames, principal, edge, dt, scheme, precision)


def strip_velocity(
    cell: AbstractIonicModel,
    strip: Strip,
    principal: np.ndarray,
    edge: float,
    *,
    dt: float,
    scheme: AbstractScheme | None = None,
    precision: str = "float32",
) -> np.ndarray:
    """Velocities (m/s) along fibre, sheet and normal in a homogeneous strip of a mesh.

    Three copies of the strip, its fibres uniform, carry a wave along the fibre, the sheet and the
    normal in turn.

    Args:
        cell: ionic model with scalar parameters.
        strip: cut from the mesh in use.
        principal: [3] or [sets, 3] diffusivities along fibre, sheet and normal, mm2/ms.
        edge: mean edge length of the mesh, mm.
        dt: time step, ms.
        scheme: operator splitting.
        precision: "float32" or "float64".

    Returns:
        Velocities of the same shape, 0 where the wave does not arrive.
    """
    sets = np.atleast_2d(principal)
    outward = np.cross(strip.along, strip.across)
    tangent = np.stack([strip.along, strip.across, outward])
    # equal diffusivities need one wave only
    waves = [(k, axis) for k, row in enumerate(sets) for axis in range(3) if _first(row, axis)]
    # fibre, sheet and normal turn round until the wave's own axis lies along the strip
    frames = [np.roll(tangent, axis, axis=0) for _, axis in waves]
    speeds = _race(
        cell,
        [strip] * len(waves),
        frames,
        np.array([sets[k] for k, _ in waves]),
        edge,
        dt,
        scheme,
        precision,
    )
    result = np.empty(sets.shape)
    for k, row in enumerate(sets):
        for axis in range(3):
            equal = int(np.flatnonzero(row == row[axis])[0])
            result[k, axis] = speeds[waves.index((k, equal))]
    return result.reshape(np.shape(principal))


def _first(row: np.ndarray, axis: int) -> bool:
    return not np.any(row[:axis] == row[axis])


def _race(cell, tracks, frames, principal, edge, dt, scheme, precision) -> np.ndarray:
    """Velocity of a plane wave along each of many strips, all in one disconnected mesh.

    The velocity is the slope of position over activation time between 45 and 85 % of a strip.
    """
    sizes = [len(t.mesh.points) for t in tracks]
    track_of_node = np.repeat(np.arange(len(tracks)), sizes)
    track_of_cell = np.repeat(np.arange(len(tracks)), [len(t.mesh.cells) for t in tracks])
    mesh = side_by_side(tracks)
    axes = np.asarray(frames)[track_of_cell]
    # sigma_m = 1/2 of equal intra- and extracellular conductivities; chi C_m = 1 uF/mm3
    sigma = 2.0 * np.asarray(principal, float)[track_of_cell]
    tissue = Tissue(Fibres(axes[:, 0], axes[:, 1], axes[:, 2]), sigma, sigma, chi=1.0, c_m=1.0)
    # a wave starts from a stretch longer than a few space constants and a few edges
    reach = 2.05 * edge + 3.0 * np.sqrt(np.max(principal, axis=1))
    position = np.concatenate([t.position for t in tracks])
    stimulus = NodalStimulus(np.flatnonzero(position <= reach[track_of_node]))
    observe = {"activation": ActivationTime(cell.activation_threshold)}
    problem = Monodomain(mesh, tissue, cell, stimulus)
    activation = _run_until_activated(problem, observe, dt, scheme, precision)
    return np.array(
        [
            _slope(t.position[t.inside], activation[track_of_node == k][t.inside])
            for k, t in enumerate(tracks)
        ]
    )


def measured_velocity(
    mesh: Mesh | Voxels,
    fibres: Fibres,
    activation: np.ndarray,
    elements: np.ndarray | None = None,
) -> dict[str, dict[str, float]]:
    """Velocities that an activation map shows, along and across the fibres.

    The speed of the front in an element is 1 / |grad T|. Elements whose front travels within 25
    degrees of the fibre count as along, those beyond 65 degrees as across.

    Args:
        mesh: the mesh of the map.
        fibres: one frame an element.
        activation: [nodes] ms; NaN or inf where not activated.
        elements: mask of the elements to look at.

    Returns:
        For "fibre" and "cross": median and quartiles in m/s, and the number of elements.
    """
    activation = np.asarray(activation, float)
    use = np.isfinite(activation[mesh.cells]).all(axis=1)
    if elements is not None:
        use &= elements
    slowness = mesh.gradients(np.where(np.isfinite(activation), activation, 0.0))[use]
    size = np.linalg.norm(slowness, axis=1)
    moving = size > 1e-3  # faster than 1000 m/s is no wave but simultaneous activation
    slowness, size = slowness[moving], size[moving]
    cosine = np.abs(np.einsum("ei,ei->e", slowness, fibres.fibre[use][moving])) / size
    result = {}
    for name, chosen in (
        ("fibre", cosine > np.cos(np.radians(25))),
        ("cross", cosine < np.cos(np.radians(65))),
    ):
        if chosen.any():
            low, middle, high = np.percentile(1.0 / size[chosen], [25, 50, 75])
            result[name] = {
                "median": float(middle),
                "lower_quartile": float(low),
                "upper_quartile": float(high),
                "elements": int(chosen.sum()),
            }
    return result


class VelocityTarget(NamedTuple):
    """Conduction velocities along fibre, sheet and normal, m/s."""

    fibre: float
    sheet: float
    normal: float


class Tuned(NamedTuple):
    """A tissue tuned to target velocities, and the table that says how.

    Each row: layer, axis, target velocity and the one measured on the mesh (m/s), diffusivity
    (mm2/ms) and the factor by which it exceeds that of the conductivities.
    """

    tissue: Tissue
    table: list[dict[str, Any]]


def tune(
    mesh: Mesh | Voxels,
    tissue: Tissue,
    targets: Mapping[str, tuple[np.ndarray, VelocityTarget]],
    cell: AbstractIonicModel,
    *,
    dt: float,
    scheme: AbstractScheme | None = None,
    precision: str = "float32",
    curve: VelocityCurve | None = None,
    tolerance: float = 0.03,
    rounds: int = 8,
) -> Tuned:
    """Set the diffusivities so that plane waves travel at target velocities on a mesh.

    The curve of bars gives a first guess. Then waves run along a strip cut from the mesh itself,
    with uniform fibres, and the diffusivities follow until every velocity is met.

    Args:
        mesh: the one that will be used.
        tissue: its conductivities stay what they are; only `tuning` changes.
        targets: by name, a mask [elements] and the velocities there. Later ones win.
        cell: ionic model with scalar parameters.
        dt: time step, ms.
        scheme: operator splitting.
        precision: "float32" or "float64".
        curve: of that cell, scheme and time step; measured when left out.
        tolerance: relative velocity error at which the search ends.
        rounds: at most so many measurements on the strip.

    Raises:
        ValueError: a target is not positive, too slow for the mesh, or the mesh too small.
    """
    principal, found = tuned_diffusivities(
        mesh,
        targets,
        cell,
        dt=dt,
        scheme=scheme,
        precision=precision,
        curve=curve,
        tolerance=tolerance,
        rounds=rounds,
    )
    return with_diffusivities(tissue, targets, principal, found)


def tuned_diffusivities(
    mesh: Mesh | Voxels,
    targets: Mapping[str, tuple[np.ndarray, VelocityTarget]],
    cell: AbstractIonicModel,
    *,
    dt: float,
    scheme: AbstractScheme | None = None,
    precision: str = "float32",
    curve: VelocityCurve | None = None,
    tolerance: float = 0.03,
    rounds: int = 8,
) -> tuple[np.ndarray, np.ndarray]:
    """Search the diffusivities for `tune`, which explains the arguments and errors.

    Returns:
        Diffusivities (mm2/ms) and the velocities (m/s) measured with them, both [targets, 3].
    """
    _check_targets(targets)
    edge = mean_edge_length(mesh)
    strip = cut_strip(mesh, edge)
    if curve is None:
        curve = velocity_curve(cell, dt=dt, scheme=scheme, precision=precision)
    wanted = np.array([list(target) for _, target in targets.values()])

    def measure(principal: np.ndarray) -> np.ndarray:
        return strip_velocity(
            cell, strip, principal, edge, dt=dt, scheme=scheme, precision=precision
        )

    principal = np.array([[curve.diffusivity(v, edge) for v in row] for row in wanted])
    slope = np.clip(curve.slope(principal, edge), *SLOPES)
    return _search(measure, principal, slope, wanted, tolerance, rounds)


def _search(
    measure: Callable[[np.ndarray], np.ndarray],
    principal: np.ndarray,
    slope: np.ndarray,
    wanted: np.ndarray,
    tolerance: float,
    rounds: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Diffusivities whose measured velocities come nearest to those wanted.

    Broyden's method on logarithms, a Jacobian d ln CV / d ln D a set: fibre and sheet velocities
    depend on each other's diffusivity where the nodes of unaligned elements couple them.
    """
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    before: tuple[np.ndarray, np.ndarray] | None = None
    jacobian = [np.diag(row) for row in slope]
    for _ in range(rounds):
        found = measure(principal)
        # a wave that died counts as far too slow
        lacking = np.where(found > 0, np.log(wanted / np.maximum(found, 1e-3)), np.log(1.5))
        worst = float(np.abs(lacking).max())
        if best is None or worst < best[0]:
            best = (worst, principal, found)
        if worst <= np.log1p(tolerance):
            break
        step = np.empty_like(principal)
        for k, row in enumerate(lacking):
            if before is not None and found[k].all():
                moved = np.log(principal[k] / before[0][k])
                if moved @ moved > MOVED**2:
                    missed = before[1][k] - row - jacobian[k] @ moved
                    jacobian[k] = jacobian[k] + np.outer(missed, moved) / (moved @ moved)
            step[k] = _newton_step(jacobian[k], row, slope[k])
        before = (principal, lacking)
        principal = principal * np.exp(np.clip(step, -1.0, 1.0))
    assert best is not None
    return best[1], best[2]


def _newton_step(jacobian: np.ndarray, lacking: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Change of ln D that the Jacobian asks for, or the slopes where it has gone astray."""
    # equal axes stay bit for bit equal, so that one wave serves them
    tie = np.abs(lacking[:, None] - lacking[None]) == 0
    diagonal = np.diag(jacobian)
    if np.all((diagonal > SLOPES[0]) & (diagonal < SLOPES[1])):
        step = np.linalg.solve(jacobian, lacking)
        return np.array([step[row].mean() for row in tie])
    return lacking / slope


def _check_targets(targets) -> None:
    for name, (elements, target) in targets.items():
        if not np.any(elements):
            raise ValueError(f"The velocity target '{name}' covers no element of the mesh.")
        for axis, velocity in target._asdict().items():
            if not (np.isfinite(velocity) and velocity > 0):
                raise ValueError(
                    f"The target velocity of '{name}' along the {axis} is {velocity} m/s; give a "
                    "positive number."
                )


def with_diffusivities(
    tissue: Tissue,
    targets: Mapping[str, tuple[np.ndarray, VelocityTarget]],
    principal: np.ndarray,
    found: np.ndarray,
) -> Tuned:
    """Tune a tissue to the diffusivities that `tuned_diffusivities` found for its targets."""
    bare = tissue.principal_diffusivity() / tissue.tuning
    tuning = np.array(tissue.tuning, float)
    table = []
    for (name, (elements, target)), diffusivities, speeds in zip(
        targets.items(), principal, found, strict=True
    ):
        for axis, (axis_name, velocity) in enumerate(target._asdict().items()):
            factor = diffusivities[axis] / bare[elements, axis]
            tuning[elements, axis] = factor
            table.append(
                {
                    "layer": name,
                    "axis": axis_name,
                    "target_m_per_s": velocity,
                    "measured_m_per_s": float(speeds[axis]),
                    "diffusivity_mm2_per_ms": float(diffusivities[axis]),
                    "factor": float(np.median(factor)),
                }
            )
    return Tuned(replace(tissue, tuning=tuning), table)


def mean_edge_length(mesh: Mesh | Voxels) -> float:
    """Mean length of the edges of a mesh, mm."""
    ends = mesh.points[mesh.unique_edges()]
    return float(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1).mean())


def _bar(edge: float, ratio: float) -> Strip:
    # a front spans a few sqrt(D), that is a few / ratio edges
    length = max(22, round(26 / ratio))
    cube = edge / MEAN_EDGE
    mesh = slab((length * cube, WIDTH * cube, WIDTH * cube), cube, pattern="bcc")
    unit = np.eye(3)
    return Strip(mesh, unit[0], unit[1], mesh.points[:, 0], np.ones(len(mesh.points), bool))


def _run_until_activated(problem, observe, dt, scheme, precision) -> np.ndarray:
    """Activation times; the run ends once every node is activated, or patience ends."""
    frame = max(1, round(2.0 / dt)) * dt
    solution = solve(
        problem,
        round(PATIENCE / frame) * frame,
        dt=dt,
        scheme=scheme,
        observe=observe,
        every=frame,
        precision=precision,
        on_frame=lambda frame: float(frame.outputs["activation"]) == 1.0,
    )
    return np.asarray(solution.observed["activation"])


def _slope(x: np.ndarray, activation: np.ndarray) -> float:
    length = x.max()
    window = (x > 0.45 * length) & (x < 0.85 * length) & np.isfinite(activation)
    # a wave that reached only a part of the window died or was still under way
    if np.isfinite(activation[(x > 0.45 * length) & (x < 0.85 * length)]).mean() < 0.98:
        return 0.0
    slowness = np.polyfit(x[window], activation[window], 1)[0]
    return float(1.0 / slowness)
