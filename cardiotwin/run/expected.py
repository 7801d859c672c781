"""What a mesh lets one expect of a run: the largest explicit step, and the error of velocities."""

from typing import Any

import numpy as np

from cardiotwin.anatomy.fibres import uniform_fibres
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.ionic import MitchellSchaeffer
from cardiotwin.propagation.problem import Monodomain
from cardiotwin.propagation.scheme import largest_explicit_step
from cardiotwin.propagation.velocity import VelocityCurve, mean_edge_length
from cardiotwin.tissue.conductivity import Tissue
from cardiotwin.tissue.stimulus import NodalStimulus
from cardiotwin.twin import FastEndocardium, Myocardium

# `velocity_curve` of the default cell (ten Tusscher-Panfilov 2006, epicardial) with the default
# solver (explicit Godunov, dt 0.05 ms), kept here since it takes half a minute to measure; a test
# measures it again.
DEFAULT_CURVE = VelocityCurve(
    ratios=np.array([0.4, 0.6, 0.85, 1.15, 1.5, 2.0, 2.6, 3.3, 4.2, 5.2, 6.4]),
    g=np.array(
        [2.0574, 2.0214, 1.9585, 1.8782, 1.7884, 1.6591, 1.5007, 1.3245, 1.1248, 0.9354, 0.7412]
    ),
    continuum=2.0862,
)


def expected_of(mesh: Mesh) -> dict[str, Any]:
    """What to expect of a run on a mesh with the default cell, solver and velocities.

    Returns:
        "explicit_step_ms": the longest stable step of forward Euler, without and with the fast
        endocardial layer, conductivities tuned and taken in all directions as along the fibres (a
        lower bound); and "velocity", a row for each direction with the velocity wanted (m/s), its
        relative error on this mesh where conductivities are those of the continuum, and whether
        tuning can mend it.
    """
    edge = mean_edge_length(mesh)
    targets = Myocardium().velocity
    assert targets is not None  # the default
    fast = FastEndocardium().velocity
    rows = [_row(axis, wanted, edge) for axis, wanted in targets._asdict().items()]
    unit = _unit_step(mesh)
    steps = {
        "myocardium": unit / _diffusivity(targets.fibre, edge),
        "with_fast_endocardium": unit / _diffusivity(fast, edge),
    }
    return {"explicit_step_ms": steps, "velocity": rows}


def format_expected(expected: dict[str, Any]) -> str:
    """The text that ``cardiotwin info`` prints of what to expect."""
    steps = expected["explicit_step_ms"]
    lines = [
        f"largest stable explicit step {steps['myocardium']:.3g} ms at least, "
        f"{steps['with_fast_endocardium']:.3g} ms with the fast endocardial layer (forward Euler; "
        "the default solver divides longer ones into stages)",
        "velocity to be expected untuned (curve of the default cell and solver at the mean edge):",
    ]
    for row in expected["velocity"]:
        found = (
            "no wave propagates"
            if row["untuned_m_per_s"] == 0
            else f"{row['untuned_m_per_s']:.2f} m/s, {100 * row['error']:+.0f} %"
        )
        mend = "tuned within 3 %" if row["tunable"] else "cannot be tuned: refine the mesh"
        lines.append(f"  {row['axis']:<7} {row['target_m_per_s']:.2f} m/s: {found}; {mend}")
    return "\n".join(lines)


def _row(axis: str, wanted: float, edge: float) -> dict[str, Any]:
    continuum = (wanted / DEFAULT_CURVE.continuum) ** 2
    try:
        DEFAULT_CURVE.diffusivity(wanted, edge)
    except ValueError:
        tunable = False
    else:
        tunable = True
    return {
        "axis": axis,
        "target_m_per_s": wanted,
        "untuned_m_per_s": float(DEFAULT_CURVE.velocity(continuum, edge)),
        "error": float(DEFAULT_CURVE.error(continuum, edge)),
        "tunable": tunable,
    }


def _diffusivity(velocity: float, edge: float) -> float:
    """Diffusivity (mm2/ms) that gives a velocity on the mesh, or in the continuum at least."""
    try:
        return DEFAULT_CURVE.diffusivity(velocity, edge)
    except ValueError:
        return (velocity / DEFAULT_CURVE.continuum) ** 2


def _unit_step(mesh: Mesh) -> float:
    """Largest stable step in ms where the diffusivity is 1 mm2/ms in all directions."""
    count = mesh.elements
    sigma = np.full((count, 3), 2.0)  # half of equal ones, over chi C_m of 1 uF/mm3
    tissue = Tissue(uniform_fibres(count, [1.0, 0.0, 0.0]), sigma, sigma, chi=1.0, c_m=1.0)
    problem = Monodomain(mesh, tissue, MitchellSchaeffer(), NodalStimulus([0]))
    return largest_explicit_step(problem.discretise())
