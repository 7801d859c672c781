"""Derivatives from velocities, places, electrodes and pose through the eikonal to the ECG."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiotwin.anatomy.fibres import ldrb
from cardiotwin.anatomy.idealised import BiventricleShape, biventricle
from cardiotwin.ecg.eikonal_ecg import EikonalECG
from cardiotwin.ecg.electrodes import Electrodes
from cardiotwin.ecg.leadfield import UnboundedConductor, unbounded_lead_field
from cardiotwin.ecg.leads import twelve_leads
from cardiotwin.ecg.movable_electrodes import UnboundedField, seen_from_heart
from cardiotwin.propagation.velocity import VelocityTarget
from cardiotwin.tissue.conductivity import Tissue
from cardiotwin.tissue.places import VentricularSite
from cardiotwin.twin import Anatomy
from cardiotwin.twin.eikonal import EikonalHeart

SHAPE = BiventricleShape(rv_wall=5.0)  # a wall that holds so coarse an element
T_MS = np.arange(0.0, 90.0, 3.0)
STEPS = (1e-3, 1e-4, 1e-5)
SITES = (
    VentricularSite("lv", 0.45, 10.0, 0.1, 0.0),
    VentricularSite("lv", 0.6, 110.0, 0.1, 2.0),
    VentricularSite("rv", 0.3, 160.0, 0.1, 8.0),
)


class Chain(eqx.Module):
    """From all that moves to the ECG."""

    heart: EikonalHeart
    ecg: EikonalECG
    field: UnboundedField
    electrodes: jax.Array
    names: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, p):
        """Twelve leads [times, 12], mV."""
        velocity = {
            "myocardium": VelocityTarget(*p["myocardium"]),
            "septum": VelocityTarget(*p["septum"]),
        }
        roots = (p["disc"], p["depth"], p["onset"])
        heart = eqx.tree_at(
            lambda h: (h.velocity, h.roots.disc, h.roots.depth, h.roots.onset, h.capture),
            self.heart,
            (velocity, *roots, p["capture"]),
        )
        middle = self.heart.mesh.points.mean(axis=0)
        placed = self.electrodes + p["electrodes"]
        leads = self.field(seen_from_heart(placed, p["turn"], p["shift"], middle))
        ecg = eqx.tree_at(lambda e: e.field, self.ecg, twelve_leads(leads.T, self.names).T)
        return ecg(T_MS, heart.times())


@pytest.fixture(scope="module")
def chain():
    mesh = biventricle(4.0, shape=SHAPE)
    anatomy, fibres = Anatomy(mesh), ldrb(mesh)
    septum = mesh.regions == {name: k for k, name in mesh.region_names}["septum"]
    layers = {
        "myocardium": (np.ones(mesh.elements, bool), VelocityTarget(0.8, 0.5, 0.5)),
        "septum": (septum, VelocityTarget(0.9, 0.6, 0.6)),
    }
    heart = EikonalHeart.of(anatomy, fibres, layers, SITES)
    sigma = Tissue.by_region(mesh, fibres).intracellular_tensor()
    electrodes = UnboundedConductor().place_electrodes(mesh)
    empty = np.zeros((12, len(mesh.points)))
    ecg = EikonalECG(mesh, empty, dtype=np.float64)
    field = UnboundedField(mesh, sigma)
    return Chain(heart, ecg, field, jnp.asarray(electrodes.positions), electrodes.names)


@pytest.fixture(scope="module")
def base(chain):
    roots = chain.heart.roots
    return {
        "myocardium": jnp.array([0.8, 0.5, 0.45]),
        "septum": jnp.array([0.9, 0.6, 0.55]),
        "disc": roots.disc,
        "depth": roots.depth,
        "onset": roots.onset + 1.0,
        "capture": jnp.asarray(1.5),
        "electrodes": jnp.zeros((9, 3)),
        "turn": jnp.array([0.05, -0.02, 0.03]),
        "shift": jnp.array([2.0, -3.0, 1.0]),
    }


@eqx.filter_jit
def loss(chain, wanted, p):
    """Smooth in the ECG, mV2 ms."""
    return jnp.sum((chain(p) - wanted) ** 2)


@eqx.filter_jit
def slope(chain, wanted, p):
    return jax.grad(partial(loss, chain, wanted))(p)


def directions(base, seed=0):
    """One random change for each thing that moves, of its own size."""
    size = {"disc": 0.05, "depth": 0.02, "electrodes": 5.0, "turn": 0.1, "shift": 5.0}
    random = np.random.default_rng(seed)
    for name, x in base.items():
        step = size.get(name, 0.3) * random.uniform(-1.0, 1.0, np.shape(x))
        yield name, {k: jnp.asarray(step if k == name else 0.0 * v) for k, v in base.items()}


def moved(p, way, step):
    return jax.tree.map(lambda x, d: x + step * d, p, way)


def dot(a, b):
    return float(sum(jnp.vdot(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)))


@pytest.fixture(scope="module")
def wanted(chain, base):
    """The ECG of another heart: the loss is nowhere flat."""
    other = base
    for _, way in directions(base, seed=7):
        other = moved(other, way, 0.5)
    return np.asarray(eqx.filter_jit(lambda c, p: c(p))(chain, other))


def test_lead_fields_of_movable_electrodes_are_those_of_placed_ones(chain):
    heart = chain.heart.mesh
    mesh = biventricle(4.0, shape=SHAPE)
    assert np.array_equal(heart.points, mesh.points)
    sigma = Tissue.by_region(mesh, ldrb(mesh)).intracellular_tensor()
    placed = Electrodes(chain.names, np.asarray(chain.electrodes))
    fixed = unbounded_lead_field(mesh, sigma, placed)
    np.testing.assert_allclose(chain.field(chain.electrodes), fixed, atol=1e-12 * np.ptp(fixed))
    turn, shift, about = np.array([0.3, -0.2, 0.5]), np.array([4.0, 0.0, -9.0]), np.ones(3)
    # the heart turned and shifted, seen by electrodes at rest
    angle, axis = np.linalg.norm(turn), turn / np.linalg.norm(turn)
    points = mesh.points - about
    turned = (
        points * np.cos(angle)
        + np.cross(axis, points) * np.sin(angle)
        + np.outer(points @ axis, axis) * (1.0 - np.cos(angle))
        + about
        + shift
    )
    seen = seen_from_heart(placed.positions, turn, shift, about)
    apart = np.linalg.norm(np.asarray(seen)[:, None] - mesh.points[::500], axis=2)
    there = np.linalg.norm(placed.positions[:, None] - turned[::500], axis=2)
    np.testing.assert_allclose(apart, there, rtol=1e-12)


def test_gradients_are_central_differences_and_taylor_is_of_second_order(
    chain, base, wanted, tabulate
):
    """Times step where the way that wins changes: the best step counts, and the best decade."""
    value, gradient = float(loss(chain, wanted, base)), slope(chain, wanted, base)
    for name, way in directions(base):
        expected = dot(gradient, way)
        errors, rests = [], []
        for step in STEPS:
            up, down = (float(loss(chain, wanted, moved(base, way, s * step))) for s in (1, -1))
            errors.append(abs((up - down) / (2.0 * step) / expected - 1.0))
            rests.append(abs(up - value - step * expected))
        orders = np.log10(np.divide(rests[:-1], rests[1:]))
        order = float(orders[np.argmin(np.abs(orders - 2.0))])
        tabulate("Gradient of an ECG", of=name, error=min(errors), order=order, orders=orders)
        assert min(errors) < 1e-4, name
        assert order == pytest.approx(2.0, abs=0.1), name


@pytest.mark.slow
def test_gradients_in_single_precision(chain, base, wanted):
    double = slope(chain, wanted, base)
    small, start = (
        jax.tree.map(
            lambda x: jnp.asarray(x, np.float32) if eqx.is_inexact_array_like(x) else x, tree
        )
        for tree in (chain, base)
    )
    heart = chain.heart.astype(np.float32)
    small = eqx.tree_at(lambda c: (c.heart, c.ecg.smoothing), small, (heart, chain.ecg.smoothing))
    single = slope(small, jnp.asarray(wanted, np.float32), start)
    for name, way in directions(base):
        assert dot(single, way) == pytest.approx(dot(double, way), rel=1e-2), name


def test_backwards_is_the_transpose_of_forwards(chain, base, wanted):
    random = np.random.default_rng(3)
    way = jax.tree.map(lambda x: jnp.asarray(0.1 * random.normal(size=np.shape(x))), base)
    ahead = eqx.filter_jit(lambda p, d: jax.jvp(partial(loss, chain, wanted), (p,), (d,))[1])
    assert dot(slope(chain, wanted, base), way) == pytest.approx(float(ahead(base, way)), rel=1e-10)
