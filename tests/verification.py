"""What the verification suite shares: the schemes it runs, norms on elements, bars and slopes.

A new scheme enters every verification test by one line in SCHEMES.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import pytest
from scipy.special import roots_jacobi

from cardiotwin.anatomy.idealised import slab
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.numerics.fem import mass_matrix, p1_geometry, stiffness_matrix
from cardiotwin.propagation.corrected import CorrectedDiffusion
from cardiotwin.propagation.scheme import (
    AbstractScheme,
    ExplicitDiffusion,
    Godunov,
    ImplicitDiffusion,
    Strang,
)


class Case(NamedTuple):
    """A scheme, and what theory says of it.

    Attributes:
        scheme: parabolic solves converged far below every discretisation error.
        order: in time, where the reaction is integrated exactly.
        monotone: longest step in which diffusion keeps to the range of the voltage on a mesh
            without obtuse angles, over that of forward Euler (mass over stiffness); 0 for none.
        reciprocal: whether its step is symmetric in the energy of the diffusion.
        wave_order: order in space of the speed of a well resolved wave along an axis of the mesh.
    """

    scheme: AbstractScheme
    order: int
    monotone: float = 0.0
    reciprocal: bool = True
    wave_order: float = 2.0


def implicit(consistent_mass: float = 2.0 / 3.0, theta: float = 0.5) -> ImplicitDiffusion:
    """An implicit step whose solve is converged to 1e-12."""
    return ImplicitDiffusion(theta, consistent_mass, tolerance=1e-12)


SCHEMES = {
    "Godunov": Case(Godunov(implicit()), 1),
    "Strang": Case(Strang(implicit()), 2),
    "Godunov, lumped": Case(Godunov(implicit(0.0)), 1),
    "Godunov, consistent": Case(Godunov(implicit(1.0)), 1),
    "Godunov, backward Euler, lumped": Case(Godunov(implicit(0.0, 1.0)), 1, monotone=np.inf),
    "Godunov, explicit": Case(Godunov(ExplicitDiffusion()), 1, monotone=1.0),
    "Strang, explicit": Case(Strang(ExplicitDiffusion()), 1, monotone=1.0),
    "Godunov, corrected": Case(Godunov(CorrectedDiffusion()), 1, reciprocal=False, wave_order=4.0),
    # the step leaves terms of h^2 dt, which decide at a fixed edge
    "Strang, corrected": Case(Strang(CorrectedDiffusion()), 1, reciprocal=False, wave_order=4.0),
}

PATTERNS = ("kuhn", "alternating", "bcc")
# what every run of the tests looks at; the other schemes come besides at night
ORDINARY = ("Godunov", "Strang", "Godunov, explicit", "Godunov, corrected")


def ordinary(values, chosen=ORDINARY):
    """The values as parameters of a test, those that are not chosen marked as slow."""
    return [pytest.param(v, marks=() if v in chosen else pytest.mark.slow) for v in values]


class Errors(NamedTuple):
    """Errors against the continuum in two norms."""

    l2: float
    h1: float


class ElementNorms:
    """L2 and H1 norms of v - a f for nodal values v, a function f of position and numbers a.

    Integrals over elements are taken by a Gauss rule of degree 5 on each, not from nodal values,
    which superconverge. Everything that does not depend on v is integrated once.
    """

    def __init__(self, mesh: Mesh, f: Callable):
        rule, weights = gauss_tetrahedron()
        gradients, volumes = p1_geometry(mesh.points, mesh.cells)
        evaluate = jax.jit(jax.vmap(jax.value_and_grad(f)))
        load, flux = np.zeros((len(mesh.cells), 4)), np.zeros((len(mesh.cells), 4))
        self.f2 = self.df2 = 0.0
        for corner, weight in zip(rule, weights, strict=True):
            places = np.einsum("c,eci->ei", corner, mesh.points[mesh.cells])
            value, slope = (np.asarray(x) for x in evaluate(places))
            w = weight * volumes
            load += (w * value)[:, None] * corner
            flux += w[:, None] * np.einsum("eci,ei->ec", gradients, slope)
            self.f2 += w @ value**2
            self.df2 += w @ (slope**2).sum(axis=1)
        self.load = np.bincount(mesh.cells.ravel(), load.ravel())
        self.flux = np.bincount(mesh.cells.ravel(), flux.ravel())
        self.mass = mass_matrix(mesh.points, mesh.cells)
        self.stiffness = stiffness_matrix(mesh.points, mesh.cells)
        self.volume = volumes.sum()

    def __call__(self, v: np.ndarray, a: float) -> Errors:
        """Norms over the mesh, per volume: those of the interval for a bar of unit length."""
        l2 = v @ (self.mass @ v) - 2 * a * (v @ self.load) + a**2 * self.f2
        semi = v @ (self.stiffness @ v) - 2 * a * (v @ self.flux) + a**2 * self.df2
        return Errors(np.sqrt(l2 / self.volume), np.sqrt((l2 + semi) / self.volume))


def gauss_tetrahedron(n: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Barycentric points [n^3, 4] and weights that sum to 1, exact to degree 2 n - 1.

    A product of Gauss-Jacobi rules on the cube collapsed to the tetrahedron.
    """
    (a, wa), (b, wb), (c, wc) = (roots_jacobi(n, k, 0) for k in (2, 1, 0))
    x, y, z = np.meshgrid((1 + a) / 2, (1 + b) / 2, (1 + c) / 2, indexing="ij")
    first, second, third = x, (1 - x) * y, (1 - x) * (1 - y) * z
    points = np.stack([1 - first - second - third, first, second, third], axis=-1)
    weights = np.einsum("i,j,k->ijk", wa, wb, wc).ravel()
    return points.reshape(-1, 4), weights / weights.sum()


def unit_mesh(cubes: int, dimension: int, pattern: str) -> Mesh:
    """A bar, a plate or the cube of unit length, one cube thick where the solution is constant."""
    h = 1.0 / cubes
    return slab((1.0, 1.0 if dimension > 1 else h, 1.0 if dimension > 2 else h), h, pattern)


def joined(meshes: list[Mesh]) -> tuple[Mesh, np.ndarray]:
    """Several meshes in one, so that one program solves on all, and where the nodes of each start.

    The result has no surfaces and no fields.
    """
    starts = np.cumsum([0, *(mesh.nodes for mesh in meshes)])
    together = Mesh(
        np.concatenate([mesh.points for mesh in meshes]),
        np.concatenate([m.cells + s for m, s in zip(meshes, starts[:-1], strict=True)]),
        allow_components=True,
    )
    return together, starts


def slope(sizes, errors) -> float:
    """Order of convergence: the slope of log error over log size."""
    return float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])
