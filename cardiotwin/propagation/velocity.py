"""Conduction velocity: what a mesh makes of a diffusivity, and which diffusivity it needs.

In a homogeneous medium the velocity on a mesh of edge length h obeys CV = sqrt(D) g(h / sqrt(D)):
only the ratio r = h / sqrt(D) matters (units ms^1/2). One curve g, measured once for an ionic
model, a scheme and a time step, therefore gives the velocity of every diffusivity on every edge
length, and g(0) that of the continuum.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator

from cardiotwin.anatomy.fibres import Fibres
from cardiotwin.anatomy.idealised import slab
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.ionic._base import AbstractIonicModel
from cardiotwin.numerics.fem import p1_geometry
from cardiotwin.tissue.conductivity import Tissue
from cardiotwin.tissue.stimulus import BoxStimulus

from .observe import ActivationTime
from .problem import Monodomain
from .scheme import AbstractScheme
from .solve import solve

# Ratios h / sqrt(D), ms^1/2: from well resolved waves to waves about to fail.
RATIOS = (0.35, 0.5, 0.7, 0.9, 1.1, 1.35, 1.65, 2.0, 2.4, 2.8, 3.3, 3.9, 4.6)
# A wave is followed for this long at most; slower ones count as blocked.
PATIENCE = 240.0  # ms
WIDTH = 3  # edges across a bar


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

    Each diffusivity has its own bar of body-centred tetrahedra; the bars form one disconnected
    mesh. The velocity is the slope of position over activation time between 45 and 85 % of the
    bar; it is 0 where the wave does not arrive.
    """
    diffusivities = np.asarray(diffusivities, float)
    bars = [_bar(edge, edge / np.sqrt(d)) for d in diffusivities]
    mesh, bar_of_cell, bar_of_node = _side_by_side(bars)
    axes = np.broadcast_to(np.eye(3), (len(mesh.cells), 3, 3))
    frame = Fibres(fibre=axes[:, 0], sheet=axes[:, 1], normal=axes[:, 2])
    # sigma_m = 1/2 of equal intra- and extracellular conductivities; chi C_m = 1 uF/mm3
    sigma = np.repeat(2.0 * diffusivities[bar_of_cell][:, None], 3, axis=1)
    tissue = Tissue(frame, sigma, sigma, chi=1.0, c_m=1.0)
    wide = float(np.abs(mesh.points).max()) + 1.0
    stimulus = BoxStimulus(low=[-1e-6, -wide, -wide], high=[2.05 * edge, wide, wide])
    observe = {"activation": ActivationTime(cell.activation_threshold)}
    problem = Monodomain(mesh, tissue, cell, stimulus)
    activation = _run_until_activated(problem, observe, dt, scheme, precision)
    return np.array(
        [
            _slope(mesh.points[bar_of_node == k, 0], activation[bar_of_node == k])
            for k in range(len(bars))
        ]
    )


def measured_velocity(
    mesh: Mesh, fibres: Fibres, activation: np.ndarray, elements: np.ndarray | None = None
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
    gradients, _ = p1_geometry(mesh.points, mesh.cells)
    times = np.asarray(activation, float)[mesh.cells]
    use = np.isfinite(times).all(axis=1)
    if elements is not None:
        use &= elements
    slowness = np.einsum("ea,eai->ei", times[use], gradients[use])
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


class Tuned(NamedTuple):
    """A tissue tuned to target velocities, and the table that says how.

    Each row: layer, axis, target and predicted velocity (m/s), diffusivity (mm2/ms) and the factor
    by which it exceeds that of the conductivities.
    """

    tissue: Tissue
    table: list[dict[str, Any]]


class VelocityTarget(NamedTuple):
    """Conduction velocities along fibre, sheet and normal, m/s."""

    fibre: float
    sheet: float
    normal: float


def tune(
    tissue: Tissue,
    targets: Mapping[str, tuple[np.ndarray, VelocityTarget]],
    curve: VelocityCurve,
    edge: float,
) -> Tuned:
    """Set the diffusivities so that waves travel at target velocities on a mesh.

    Args:
        tissue: its conductivities stay what they are; only `tuning` changes.
        targets: by name, a mask [elements] and the velocities there. Later ones win.
        curve: of the ionic model, scheme and time step in use.
        edge: mean edge length of the mesh, mm.

    Raises:
        ValueError: a target is not positive, or too slow for the mesh.
    """
    bare = tissue.principal_diffusivity() / tissue.tuning
    tuning = np.array(tissue.tuning, float)
    table = []
    for name, (elements, target) in targets.items():
        if not elements.any():
            raise ValueError(f"The velocity target '{name}' covers no element of the mesh.")
        for axis, (axis_name, velocity) in enumerate(target._asdict().items()):
            if not (np.isfinite(velocity) and velocity > 0):
                raise ValueError(
                    f"The target velocity of '{name}' along the {axis_name} is {velocity} m/s; "
                    "give a positive number."
                )
            diffusivity = curve.diffusivity(velocity, edge)
            factor = diffusivity / bare[elements, axis]
            tuning[elements, axis] = factor
            table.append(
                {
                    "layer": name,
                    "axis": axis_name,
                    "target_m_per_s": velocity,
                    "predicted_m_per_s": float(curve.velocity(diffusivity, edge)),
                    "diffusivity_mm2_per_ms": diffusivity,
                    "factor": float(np.median(factor)),
                }
            )
    return Tuned(
        Tissue(
            tissue.fibres,
            tissue.intracellular,
            tissue.extracellular,
            tuning,
            chi=tissue.chi,
            c_m=tissue.c_m,
        ),
        table,
    )


def _bar(edge: float, ratio: float) -> Mesh:
    # a front spans a few sqrt(D), that is a few / ratio edges
    length = max(22, round(26 / ratio))
    return slab((length * edge, WIDTH * edge, WIDTH * edge), edge, pattern="bcc")


def _side_by_side(bars: list[Mesh]) -> tuple[Mesh, np.ndarray, np.ndarray]:
    points, cells, start = [], [], 0
    for bar in bars:
        points.append(bar.points)
        cells.append(bar.cells + start)
        start += len(bar.points)
    bar_of_cell = np.repeat(np.arange(len(bars)), [len(b.cells) for b in bars])
    bar_of_node = np.repeat(np.arange(len(bars)), [len(b.points) for b in bars])
    mesh = Mesh(np.concatenate(points), np.concatenate(cells), allow_components=True)
    return mesh, bar_of_cell, bar_of_node


def _run_until_activated(problem, observe, dt, scheme, precision) -> np.ndarray:
    """Run in pieces until every node is activated or patience ends."""
    piece = max(1, round(10.0 / dt)) * dt
    initial, end = None, 0.0
    while True:
        end += piece
        solution = solve(
            problem, end, dt=dt, scheme=scheme, observe=observe, every=piece,
            initial=initial, precision=precision,
        )  # fmt: skip
        activation = np.asarray(solution.observed["activation"])
        if np.isfinite(activation).all() or end >= PATIENCE:
            return activation
        initial = solution.final


def _slope(x: np.ndarray, activation: np.ndarray) -> float:
    length = x.max()
    window = (x > 0.45 * length) & (x < 0.85 * length)
    if not np.isfinite(activation[window]).all():
        return 0.0
    slowness = np.polyfit(x[window], activation[window], 1)[0]
    return float(1.0 / slowness)
