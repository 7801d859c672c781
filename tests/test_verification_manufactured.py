"""The monodomain equation against manufactured solutions, in one, two and three dimensions.

Pathmanathan and Gray 2014, https://doi.org/10.1002/cnm.2615: a cell model whose coupled equations
are solved by V = sqrt(1 + t) F(x), where F has no flux through the surface. Halving the edge and
quartering the time step must quarter the error in L2 and halve that in H1. Fewer dimensions are
bars and plates of tetrahedra one cube thick, across which the solution is constant.
"""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tissues import NEVER
from verification import PATTERNS, SCHEMES, ElementNorms, ordinary, slope, unit_mesh

from cardiotwin._types import param
from cardiotwin.anatomy.fibres import Fibres
from cardiotwin.ionic._base import AbstractIonicModel
from cardiotwin.propagation.observe import Snapshots
from cardiotwin.propagation.problem import Monodomain
from cardiotwin.propagation.solve import solve
from cardiotwin.tissue.conductivity import Tissue

convergence = pytest.mark.convergence

CHI, C_M = 3.0, 2.0  # the constants of the authors, without units
CONDUCTIVITY = np.array([1.1, 1.2, 0.3]) / np.pi**2
WAVES = np.array([1.0, 2.0, 3.0])
EVERY = 0.1  # errors are looked at this often, up to t = 1
TITLE = "1. Manufactured solution of Pathmanathan and Gray"


class ManufacturedState(NamedTuple):
    """The three variables of the paper."""

    u1: Any
    u2: Any
    u3: Any


class Manufactured(AbstractIonicModel):
    """The cell of V = sqrt(1 + t) F, u1 = (1 + t) G + V, u2 = 1 / ((1 + t) sqrt G) and u3 = 0.

    With w = u1 + u3 - V the current is -C_m w u2^2 (V - u3) / 2 + beta (V - u3) / chi, where beta F
    is the divergence of the flux. Where F is no eigenfunction, that divergence is `source`, and its
    factor sqrt(1 + t) is taken from u2.
    """

    State: ClassVar[type[Any]] = ManufacturedState
    gates: ClassVar[tuple[str, ...]] = ()
    activation_threshold: ClassVar[float] = 0.0
    repolarisation_threshold: ClassVar[float] = 0.0

    f: Any = param(1.0, "", meaning="F, the potential at t = 0")
    g: Any = param(1.0, "", meaning="G, a positive function that makes the states vary in space")
    beta: Any = param(0.0, "", meaning="eigenvalue of the divergence of the flux")
    source: Any = param(0.0, "", meaning="divergence of the flux of F")

    def initial(self):
        return self.f, ManufacturedState(self.g + self.f, 1.0 / np.sqrt(self.g), 0.0)

    def __call__(self, v, state):
        u1, u2, u3 = state
        w = u1 + u3 - v
        gain = 0.5 * w * u2**2 * (v - u3)
        flux = self.beta * (v - u3) + self.source / jnp.sqrt(u2 * jnp.sqrt(self.g))
        return flux / (CHI * C_M) - gain, ManufacturedState(
            u1=w**2 * u2**2 + gain, u2=-w * u2**3, u3=jnp.zeros_like(v)
        )


def shape(dimension):
    """F of the paper as a function of position."""
    waves = WAVES * np.pi * (np.arange(3) < dimension)
    return lambda x: jnp.prod(jnp.cos(waves * x))


def variation(dimension):
    """G of the paper: 1 + x, 1 + x y^2, 1 + x y^2 z^3."""
    powers = np.array([1, 2, 3])[:dimension]
    return lambda x: 1.0 + jnp.prod(x[:dimension] ** powers)


def at(points, function):
    return np.asarray(jax.vmap(function)(jnp.asarray(points)))


def uniform(mesh, dimension):
    """The problem of the paper: F is an eigenfunction, the axes of the tissue those of the cube."""
    axes = np.tile(np.eye(3), (len(mesh.cells), 1, 1))
    cell = Manufactured(
        f=at(mesh.points, shape(dimension)),
        g=at(mesh.points, variation(dimension)),
        beta=-(np.pi**2) * np.sum((WAVES**2 * CONDUCTIVITY)[:dimension]),
    )
    return problem(mesh, axes, CONDUCTIVITY, cell)


def problem(mesh, axes, conductivity, cell):
    sigma = np.tile(2.0 * conductivity, (len(mesh.cells), 1))  # halved by sigma_i = sigma_e
    fibres = Fibres(axes[:, 0], axes[:, 1], axes[:, 2])
    return Monodomain(mesh, Tissue(fibres, sigma, sigma, chi=CHI, c_m=C_M), cell, NEVER)


def measure(problem, f, scheme, dt):
    """Largest error in L2 over time, and the error in H1 integrated over time."""
    solution = solve(
        problem,
        1.0,
        dt=dt,
        scheme=scheme,
        observe={"v": Snapshots()},
        every=EVERY,
        precision="float64",
    )
    norms, ts = ElementNorms(problem.mesh, f), np.asarray(solution.ts)
    found = [
        norms(v, a)
        for v, a in zip(np.asarray(solution.frames["v"]), np.sqrt(1.0 + ts), strict=True)
    ]
    h1 = np.sqrt(np.trapezoid([error.h1**2 for error in found], ts))
    return max(error.l2 for error in found), h1


def refine(build, f, scheme, dimension, pattern, levels):
    """Errors [levels, 2] on meshes of so many cubes a unit, dt = 0.1 at an edge of 0.1."""
    errors = []
    for cubes in levels:
        mesh = unit_mesh(cubes, dimension, pattern)
        errors.append(measure(build(mesh, dimension), f, scheme, 0.1 * (10 / cubes) ** 2))
    return np.array(errors)


def check(tabulate, title, labels, levels, errors):
    """Tabulate the levels, and hold the slopes over the last two of them to theory."""
    edges = 1.0 / np.array(levels)
    l2, h1 = (slope(edges[-2:], column[-2:]) for column in errors.T)
    for k, (h, row) in enumerate(zip(edges, errors, strict=True)):
        last = {"slope L2": l2, "slope H1": h1} if k == len(levels) - 1 else {}
        tabulate(title, **labels, h=h, dt=10.0 * h**2, L2=row[0], H1=row[1], **last)
    assert l2 == pytest.approx(2.0, abs=0.15)
    assert h1 == pytest.approx(1.0, abs=0.15)


@convergence
@pytest.mark.parametrize("name", ordinary(SCHEMES))
def test_one_dimension(name, tabulate):
    levels = (10, 20, 40)
    errors = refine(uniform, shape(1), SCHEMES[name].scheme, 1, "kuhn", levels)
    # Chaste, with dt = h = 0.1: 0.0473 and 0.256
    assert errors[0, 0] < 0.060
    assert errors[0, 1] < 0.256
    check(tabulate, TITLE, {"d": 1, "scheme": name, "mesh": "kuhn"}, levels, errors)


@convergence
@pytest.mark.parametrize("pattern", ordinary(PATTERNS, ("bcc",)))
def test_two_dimensions(pattern, tabulate):
    levels = (10, 20, 40)
    errors = refine(uniform, shape(2), SCHEMES["Godunov"].scheme, 2, pattern, levels)
    labels = {"d": 2, "scheme": "Godunov", "mesh": pattern}
    check(tabulate, TITLE, labels, levels, errors)


PRINCIPAL = np.array([0.2, 0.075, 0.05])  # along fibre, sheet and normal


def full_tensor(x):
    """Conductivity of fibres that turn by 120 degrees from z = 0 to 1 and dip."""
    return rotation(x) @ np.diag(PRINCIPAL) @ rotation(x).T


def rotation(x):
    """Columns fibre, sheet and normal at a point."""
    angle, dip = np.pi / 3 * (1.0 - 2.0 * x[2]), 0.4
    c, s = jnp.cos(angle), jnp.sin(angle)
    turn = jnp.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    tilt = np.array([[np.cos(dip), 0, np.sin(dip)], [0, 1, 0], [-np.sin(dip), 0, np.cos(dip)]])
    return turn @ tilt


def bump(x):
    """A function whose gradient vanishes on the surface of the cube: no flux for any tensor."""
    return jnp.prod(jnp.sin(np.pi * x) ** 2)


def turning(mesh, dimension):
    """Fibres that turn as across a ventricular wall: a full tensor, another in each element."""
    assert dimension == 3

    def divergence(x):
        return jnp.trace(jax.jacfwd(lambda y: full_tensor(y) @ jax.grad(bump)(y))(x))

    cell = Manufactured(
        f=at(mesh.points, bump),
        g=at(mesh.points, variation(3)),
        source=at(mesh.points, divergence),
    )
    axes = np.swapaxes(at(mesh.centroids(), rotation), 1, 2)
    return problem(mesh, axes, PRINCIPAL, cell)


@convergence
def test_three_dimensions(tabulate):
    levels = (10, 20, 30)
    errors = refine(uniform, shape(3), SCHEMES["Godunov"].scheme, 3, "kuhn", levels)
    check(tabulate, TITLE, {"d": 3, "scheme": "Godunov", "mesh": "kuhn"}, levels, errors)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "pattern"),
    [*((name, "kuhn") for name in SCHEMES), ("Godunov", "alternating"), ("Godunov", "bcc")],
)
def test_three_dimensions_of_every_scheme(name, pattern, tabulate):
    levels = (10, 20, 40)
    errors = refine(uniform, shape(3), SCHEMES[name].scheme, 3, pattern, levels)
    check(tabulate, TITLE, {"d": 3, "scheme": name, "mesh": pattern}, levels, errors)


@convergence
@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        pytest.param("Godunov", "alternating", marks=pytest.mark.slow),
        pytest.param("Godunov, explicit", "bcc", marks=pytest.mark.slow),
        ("Godunov, corrected", "kuhn"),
    ],
)
def test_turning_fibres(name, pattern, tabulate):
    levels = (10, 20)
    errors = refine(turning, bump, SCHEMES[name].scheme, 3, pattern, levels)
    title = "1b. Manufactured solution with turning fibres"
    check(tabulate, title, {"scheme": name, "mesh": pattern}, levels, errors)
