"""Electrodes, lead fields, the twelve leads and what is measured on them."""

import itertools
import json
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ecgs import beat, recording

from cardiotwin.anatomy.coordinates import heart_axes
from cardiotwin.anatomy.idealised import biventricle, slab
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.ecg import (
    LEAD_NAMES,
    TWELVE_LEAD_ELECTRODES,
    Electrodes,
    Leads,
    Thorax,
    UnboundedConductor,
    check_clearance,
    measurements,
    median_beat,
    place_electrodes,
    qrs,
    read_electrodes,
    read_recording,
    twelve_leads,
    unbounded_lead_field,
    write_electrodes,
)
from cardiotwin.ecg.delineation import NotMeasurable, t_wave
from cardiotwin.ecg.features import corrected_qt
from cardiotwin.ecg.filters import ECGFilter
from cardiotwin.numerics.fem import stiffness_matrix
from cardiotwin.propagation.observe import AbstractObservable

SIGMA_I = np.diag([0.3, 0.1, 0.1])
RESTING, PLATEAU = -85.0, 20.0


def box(size, edge) -> Mesh:
    """A box centred at the origin, six tetrahedra a cube."""
    counts = [round(length / edge) for length in size]
    axes = [
        np.linspace(-length / 2, length / 2, n + 1) for length, n in zip(size, counts, strict=True)
    ]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    corners = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), -1).reshape(-1, 3)
    cells = []
    for order in itertools.permutations(range(3)):
        path = np.cumsum(np.vstack([np.zeros(3, int), np.eye(3, dtype=int)[list(order)]]), axis=0)
        nodes = np.moveaxis(corners[:, None] + path, -1, 0)
        flat = np.ravel_multi_index(tuple(nodes), tuple(n + 1 for n in counts))
        even = np.linalg.det(np.eye(3)[list(order)]) > 0
        cells.append(flat if even else flat[:, [0, 1, 3, 2]])
    return Mesh(points, np.concatenate(cells))


def uniform(mesh, sigma=SIGMA_I) -> np.ndarray:
    return np.broadcast_to(sigma, (len(mesh.cells), 3, 3))


def electrode(*position) -> Electrodes:
    return Electrodes(["A"], [position])


@pytest.fixture(scope="module")
def block() -> Mesh:
    """A block as large as a heart (about 225 mL)."""
    return box((56.0, 56.0, 72.0), 8.0)


@pytest.fixture(scope="module")
def strip() -> Mesh:
    return box((20.0, 4.0, 3.0), 0.5)


def wavefront(mesh, position, width=1.0):
    """Voltage of a plane wave that has run from low x to `position`, one frame a position."""
    x = mesh.points[:, 0]
    return RESTING + (PLATEAU - RESTING) / (1.0 + np.exp((x - position) / width))


# --- lead fields -----------------------------------------------------------------------------


@pytest.mark.parametrize("target", [(100.0, 0, 0), (0, 90.0, 0), (60.0, -50.0, 40.0)])
def test_far_field_is_that_of_a_dipole(target):
    mesh = box((6.0, 6.0, 6.0), 2.0)
    slope = np.array([4.0, -3.0, 2.0])  # mV/mm, the same everywhere
    field = unbounded_lead_field(mesh, uniform(mesh), electrode(*target), sigma_medium=0.2)
    dipole = -SIGMA_I @ slope * 6.0**3
    expected = dipole @ target / (4 * np.pi * 0.2 * np.linalg.norm(target) ** 3)
    assert field[0] @ (mesh.points @ slope) == pytest.approx(expected, rel=0.01)


def test_quadrature_beats_the_nodal_green_function_on_a_coarse_mesh():
    near = electrode(25.0, 3.0, 4.0)
    errors = {}
    for edge in (5.0, 2.5, 1.25):
        mesh = box((20.0, 20.0, 20.0), edge)
        field = unbounded_lead_field(mesh, uniform(mesh), near)[0]
        green = 1 / (4 * np.pi * 0.2 * np.linalg.norm(near.positions[0] - mesh.points, axis=1))
        nodal = -stiffness_matrix(mesh.points, mesh.cells, uniform(mesh)) @ green
        errors[edge] = np.array([field, nodal]) @ mesh.points[:, 0]
    truth = errors[1.25][0]
    assert abs(errors[5.0][0] / truth - 1) < 1e-4
    assert abs(errors[2.5][0] / truth - 1) < 1e-5
    assert abs(errors[5.0][1] / truth - 1) > 1e-2
    assert errors[1.25][1] == pytest.approx(truth, rel=2e-3)  # both converge to the same field


@pytest.mark.parametrize("direction", [(1.0, 0, 0), (0, 1.0, 0), (0, 0, -1.0)])
def test_a_wave_towards_an_electrode_is_positive(direction):
    mesh = box((12.0, 12.0, 12.0), 1.0)
    direction = np.array(direction)
    pair = Electrodes(["ahead", "behind"], [40.0 * direction, -40.0 * direction])
    v = RESTING + 105.0 / (1.0 + np.exp(mesh.points @ direction))
    ahead, behind = unbounded_lead_field(mesh, uniform(mesh), pair) @ v
    assert ahead > 0 > behind
    assert ahead == pytest.approx(-behind, rel=1e-6)


def test_wavefront_on_a_strip(strip):
    pair = Electrodes(["start", "end", "side"], [[-30.0, 0, 0], [30.0, 0, 0], [0, 0, 20.0]])
    field = unbounded_lead_field(strip, uniform(strip), pair)
    potentials = np.array([field @ wavefront(strip, x) for x in np.arange(-8.0, 8.5, 0.5)])
    assert (potentials[:, 0] < 0).all()
    assert (potentials[:, 1] > 0).all()
    # over the side: positive as it comes, negative as it goes, through zero at the middle
    side = potentials[:, 2]
    assert side[4] > 0 > side[-5]
    assert abs(side[len(side) // 2]) < 0.02 * side.max()
    # a plane wave is a dipole layer: the potential is proportional to sigma_i along it
    twice = unbounded_lead_field(strip, uniform(strip, 2 * SIGMA_I), pair)
    np.testing.assert_allclose(twice, 2 * field, rtol=1e-12)


def test_rows_sum_to_zero(block):
    field = unbounded_lead_field(block, uniform(block), place_electrodes(block, frame=np.eye(3)))
    assert np.abs(field.sum(axis=1)).max() < 1e-13 * np.abs(field).sum(axis=1).max()


def test_chunks_change_nothing(block, monkeypatch):
    electrodes = place_electrodes(block, frame=np.eye(3))
    whole = unbounded_lead_field(block, uniform(block), electrodes)
    monkeypatch.setattr("cardiotwin.ecg.leadfield.ELEMENTS_AT_ONCE", 100)
    parts = unbounded_lead_field(block, uniform(block), electrodes)
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-14 * np.abs(whole).max())


def test_conductor_gives_a_named_lead_field(strip):
    lead_field = UnboundedConductor(sigma=0.4).lead_field(
        strip, uniform(strip), electrode(0, 0, 30)
    )
    expected = unbounded_lead_field(strip, uniform(strip), electrode(0, 0, 30), sigma_medium=0.4)
    np.testing.assert_array_equal(lead_field.field, expected)
    assert lead_field.names == ("A",)
    assert "0.4" in lead_field.method


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s[:-1], "one tensor an element"),
        (lambda s: np.where(np.arange(len(s))[:, None, None] == 3, np.nan, s), "element 3"),
        (lambda s: s - 0.2 * np.eye(3), "positive"),
        (lambda s: s + np.triu(np.ones((3, 3)), 1), "symmetric"),
    ],
)
def test_bad_conductivity_is_refused(strip, change, message):
    with pytest.raises(ValueError, match=message):
        unbounded_lead_field(strip, change(uniform(strip)), electrode(0, 0, 30))


def test_medium_must_conduct(strip):
    with pytest.raises(ValueError, match="sigma_medium"):
        unbounded_lead_field(strip, uniform(strip), electrode(0, 0, 30), sigma_medium=0.0)


# --- leads -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def potentials() -> np.ndarray:
    return np.random.default_rng(3).normal(0.0, 3.0, (50, 9))


def test_identities_of_the_twelve_leads(potentials):
    lead = dict(zip(LEAD_NAMES, twelve_leads(potentials, TWELVE_LEAD_ELECTRODES).T, strict=True))
    at = dict(zip(TWELVE_LEAD_ELECTRODES, potentials.T, strict=True))
    np.testing.assert_array_equal(lead["III"], lead["II"] - lead["I"])
    assert np.abs(lead["I"] + lead["III"] - lead["II"]).max() < 1e-6
    assert np.abs(lead["aVR"] + lead["aVL"] + lead["aVF"]).max() < 1e-6
    terminal = (at["RA"] + at["LA"] + at["LL"]) / 3
    for name in ("V1", "V6"):
        np.testing.assert_allclose(lead[name], at[name] - terminal, atol=1e-12)
    np.testing.assert_allclose(lead["aVL"], at["LA"] - (at["RA"] + at["LL"]) / 2, atol=1e-12)
    np.testing.assert_allclose(lead["aVF"], at["LL"] - (at["RA"] + at["LA"]) / 2, atol=1e-12)


def test_twelve_leads_ignore_the_reference_and_the_order(potentials):
    plain = twelve_leads(potentials, TWELVE_LEAD_ELECTRODES)
    shifted = twelve_leads(potentials + 500.0, TWELVE_LEAD_ELECTRODES)
    np.testing.assert_allclose(shifted, plain, atol=1e-6)
    order = np.random.default_rng(0).permutation(9)
    names = [TWELVE_LEAD_ELECTRODES[k] for k in order]
    np.testing.assert_array_equal(twelve_leads(potentials[:, order], names), plain)


def test_twelve_leads_in_jax(potentials):
    traced = jax.jit(lambda p: twelve_leads(p, TWELVE_LEAD_ELECTRODES))
    single = jnp.asarray(potentials, jnp.float32)
    expected = twelve_leads(potentials, TWELVE_LEAD_ELECTRODES)
    assert traced(single).dtype == jnp.float32
    np.testing.assert_allclose(traced(single), expected, atol=3e-6)
    np.testing.assert_allclose(traced(jnp.asarray(potentials)), expected, atol=1e-12)


def test_missing_electrodes_are_named(potentials):
    with pytest.raises(ValueError, match="lack the electrodes LL, V6"):
        twelve_leads(potentials[:, :7], ("RA", "LA", "V1", "V2", "V3", "V4", "V5"))
    with pytest.raises(ValueError, match="one name an electrode"):
        twelve_leads(potentials[:, :8], TWELVE_LEAD_ELECTRODES)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_leads_frame_and_dc_invariance(strip, dtype):
    names = ("start", "side")
    pair = Electrodes(names, [[-30.0, 0, 0], [0, 0, 20.0]])
    field = unbounded_lead_field(strip, uniform(strip), pair)
    leads = Leads(field, names)
    v = jnp.asarray(wavefront(strip, 2.0), dtype)
    assert leads.init(v) is None
    frame = eqx.filter_jit(lambda leads, v: leads.frame(None, v, jnp.zeros(())))
    values = frame(leads, v)
    assert values.dtype == jnp.float64  # where x64 is on, whatever the voltage's
    # float32 voltages are rounded by 4e-6 mV; the sum itself adds nothing to that
    tolerance = 1e-6 if dtype == jnp.float32 else 1e-12
    np.testing.assert_allclose(values, field @ np.asarray(wavefront(strip, 2.0)), atol=tolerance)
    for shift in (64.0, -1024.0):
        np.testing.assert_allclose(frame(leads, v + jnp.asarray(shift, dtype)), values, atol=1e-5)
    np.testing.assert_allclose(frame(leads, jnp.full_like(v, -85.23)), 0.0, atol=1e-12)


def test_single_precision_field_stays_within_a_microvolt_hundredth(strip):
    field = unbounded_lead_field(strip, uniform(strip), electrode(0, 3.0, 15.0))
    v = wavefront(strip, 4.0)
    leads = Leads(field.astype(np.float32))
    single = leads.frame(None, jnp.asarray(v, jnp.float32), jnp.zeros(()))
    assert single.dtype == jnp.float64  # the sum is not as coarse as its terms
    np.testing.assert_allclose(single, field @ v, atol=1e-5)
    # a shift of the whole voltage must not show: the rows of a rounded field do not sum to zero
    np.testing.assert_allclose(
        leads.frame(None, jnp.asarray(v + 1024.0, jnp.float32), jnp.zeros(())), single, atol=1e-4
    )


def test_leads_refuse_another_mesh(strip):
    leads = Leads(np.zeros((2, 7)))
    with pytest.raises(ValueError, match="7 nodes"):
        leads.init(jnp.zeros(8))
    with pytest.raises(ValueError, match="one name an electrode"):
        Leads(np.zeros((2, 7)), ("A",))


# --- electrodes ------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_electrode_files_round_trip_exactly(tmp_path, ending):
    positions = np.random.default_rng(1).normal(0.0, 100.0, (9, 3))
    path = tmp_path / f"electrodes.{ending}"
    write_electrodes(path, Electrodes(TWELVE_LEAD_ELECTRODES, positions))
    back = read_electrodes(path)
    assert back.names == TWELVE_LEAD_ELECTRODES
    np.testing.assert_array_equal(back.positions, positions)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_units_names_and_headings_of_electrode_files(tmp_path):
    path = tmp_path / "e.csv"
    path.write_text(" v1 , 1.5, 2, -3\nEsophagus,0,0,1\n")
    electrodes = read_electrodes(path, unit="cm")
    assert electrodes.names == ("V1", "Esophagus")
    np.testing.assert_allclose(electrodes.position("V1"), [15.0, 20.0, -30.0])
    with pytest.raises(ValueError, match="lack the electrodes RA, LA, LL, V2"):
        electrodes.require_twelve_leads()
    with pytest.raises(ValueError, match="no electrode 'V9'"):
        electrodes.position("V9")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("e.json", '{"V1": [1, 2, 3], "V1": [1, 2, 4]}', "V1 stand more than once"),
        ("e.json", '{"V1": [1, 2]}', "V1 has .*three numbers"),
        ("e.json", '{"V1": [1, 2, NaN]}', "V1 are not finite"),
        ("e.json", '{"V1": {"x": 1}}', "three numbers"),
        ("e.json", '{"V1": [1, 2', "not a JSON file"),
        ("e.json", "[[1, 2, 3]]", "expected an object"),
        ("e.json", "{}", "holds no electrodes"),
        ("e.csv", "name,x,y,z\nV1,1,2,three\n", "three numbers"),
        ("e.csv", "V1;1;2;3\n", "three numbers"),
        ("e.txt", "V1 1 2 3", ".json or .csv"),
    ],
)
def test_bad_electrode_files(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_electrodes(path)


def test_missing_electrode_file(tmp_path):
    with pytest.raises(ValueError, match=r"absent.json: there is no such file"):
        read_electrodes(tmp_path / "absent.json")


def test_unknown_unit_and_bad_shape():
    with pytest.raises(ValueError, match="furlong"):
        read_electrodes("nowhere.json", unit="furlong")
    with pytest.raises(ValueError, match="one name an electrode"):
        Electrodes(["A", "B"], np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"\.json or \.csv"):
        write_electrodes("e.txt", electrode(0, 0, 0))


def test_electrodes_in_or_near_the_heart_are_refused(block):
    surface = 28.0
    np.testing.assert_allclose(
        check_clearance(block, electrode(surface + 7.5, 3.3, 1.7)), 7.5, atol=1e-9
    )
    with pytest.raises(
        ValueError, match=r"A at .* inside the heart: 8\.0 mm .*\[28\. *3\. *1\.\] mm"
    ):
        check_clearance(block, electrode(surface - 8.0, 3.0, 1.0))
    with pytest.raises(ValueError, match=r"too near the heart: 4\.0 mm"):
        check_clearance(block, electrode(surface + 4.0, 3.0, 1.0))
    check_clearance(block, electrode(surface + 4.0, 3.0, 1.0), clearance=3.0)
    with pytest.raises(ValueError, match="unit"):
        check_clearance(block, electrode(1e5, 0, 0))
    with pytest.raises(ValueError, match="Electrode A"):
        unbounded_lead_field(block, uniform(block), electrode(0, 0, 0))
    inner = unbounded_lead_field(block, uniform(block), electrode(0.5, 1, 2), clearance=None)
    assert np.isfinite(inner).all()


def test_an_electrode_in_a_cavity_is_inside_the_heart():
    whole = box((60.0, 60.0, 60.0), 10.0)
    centres = np.abs(whole.points[whole.cells].mean(axis=1)).max(axis=1)
    shell = Mesh(*_compact(whole.points, whole.cells[centres > 20.0]))
    with pytest.raises(ValueError, match=r"inside the heart: 20\.0 mm"):
        check_clearance(shell, electrode(0, 0, 0))


def _compact(points, cells):
    used, cells = np.unique(cells, return_inverse=True)
    return points[used], cells.reshape(-1, 4)


# --- placement -------------------------------------------------------------------------------


def rotation(seed=5) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def axes_in_body(thorax=Thorax()):  # noqa: B008
    apex, right = thorax.heart_directions()
    return SimpleNamespace(apex_to_base=-apex, lv_to_rv=right)


def test_mean_orientation_of_the_heart():
    apex, right = Thorax().heart_directions()
    assert np.degrees(np.arctan2(-apex[2], apex[0])) == pytest.approx(38.0)
    assert np.degrees(np.arctan2(-apex[1], apex[0])) == pytest.approx(46.0)
    # inclination to the transverse and the frontal plane: Hoekema 1999, 27 +- 9 and 38 +- 5
    assert np.degrees(np.arcsin(-apex[2])) == pytest.approx(27.0, abs=3.0)
    assert np.degrees(np.arcsin(-apex[1])) == pytest.approx(38.0, abs=3.0)
    assert right @ apex == pytest.approx(0.0, abs=1e-12)
    assert right[0] < -0.5  # the right ventricle lies to the right and in front
    assert right[1] < -0.5
    lifted = Thorax(roll=30.0).heart_directions()[1]
    assert lifted[2] == pytest.approx(np.sin(np.pi / 6) * np.cos(np.arcsin(-apex[2])))


def test_electrodes_lie_where_they_belong(block):
    electrodes = place_electrodes(block, axes=axes_in_body())
    at = dict(zip(electrodes.names, electrodes.positions, strict=True))  # left, posterior, superior
    assert electrodes.names == TWELVE_LEAD_ELECTRODES
    assert at["V1"][0] < 0 < at["V4"][0]
    left = [at[f"V{k}"][0] for k in range(1, 7)]
    assert left == sorted(left)
    assert all(at[f"V{k}"][1] < -30 for k in range(1, 6))  # in front of the heart
    assert at["V6"][0] > 100
    assert at["V6"][1] > 0  # on the side of the chest, behind its front
    assert at["V1"][2] == pytest.approx(at["V2"][2])
    assert at["V4"][2] == pytest.approx(at["V6"][2])
    assert at["V4"][2] < at["V3"][2] < at["V2"][2]
    assert at["RA"][0] < -100
    assert at["LA"][0] > 100
    assert min(at["RA"][2], at["LA"][2]) > 150
    assert at["LL"][2] < -150
    # seen from the heart in the frontal plane: LA left and up, LL left and down, RA right and up
    angle = {n: np.degrees(np.arctan2(-at[n][2], at[n][0])) for n in ("LA", "RA", "LL")}
    assert -65 < angle["LA"] < -35
    assert -150 < angle["RA"] < -120
    assert 45 < angle["LL"] < 75


def test_placement_turns_moves_and_grows_with_the_heart(block):
    plain = place_electrodes(block, axes=axes_in_body())
    turn, shift, size = rotation(), np.array([10.0, -300.0, 42.0]), 0.6
    moved = Mesh(size * block.points @ turn.T + shift, block.cells)
    body = axes_in_body()
    axes = SimpleNamespace(
        # lengths do not matter, and the second direction need not be orthogonal to the first
        apex_to_base=3.0 * turn @ body.apex_to_base,
        lv_to_rv=turn @ (0.7 * body.lv_to_rv + 0.3 * body.apex_to_base),
    )
    electrodes = place_electrodes(moved, axes=axes)
    np.testing.assert_allclose(
        electrodes.positions, size * plain.positions @ turn.T + shift, atol=1e-9
    )
    by_frame = place_electrodes(moved, frame=turn.T)
    np.testing.assert_allclose(by_frame.positions, electrodes.positions, atol=1e-9)
    volume = 56.0 * 56.0 * 72.0
    scaled = place_electrodes(block, axes=body, scale=1.0)
    np.testing.assert_allclose(
        plain.positions, scaled.positions * np.cbrt(volume / Thorax().wall_volume), atol=1e-9
    )


def test_placement_on_an_idealised_heart():
    mesh = biventricle(3.0)
    electrodes = place_electrodes(mesh)
    axes = heart_axes(mesh)
    left, posterior, superior = Thorax().body_frame(axes)
    at = {name: electrodes.position(name) - mesh.points.mean(axis=0) for name in electrodes.names}
    # the apex points left, forward and down; the right ventricle right and forward
    assert max(axes.apex_to_base @ left, -axes.apex_to_base @ posterior) < 0
    assert axes.apex_to_base @ superior > 0
    assert max(axes.lv_to_rv @ left, axes.lv_to_rv @ posterior) < 0
    assert np.cross(left, posterior) @ superior == pytest.approx(1.0)
    assert at["V1"] @ axes.lv_to_rv > 0 > at["V6"] @ axes.lv_to_rv
    assert at["LL"] @ superior < 0 < at["RA"] @ superior
    clearance = dict(zip(electrodes.names, check_clearance(mesh, electrodes), strict=True))
    assert all(20 < clearance[f"V{k}"] < 70 for k in range(1, 6))
    tall = place_electrodes(mesh, thorax=Thorax(roll=40.0)).position("V1")
    assert np.linalg.norm(tall - electrodes.position("V1")) > 20


def test_leads_inside_a_loop():
    mesh = slab(size=(6.0, 2.0, 2.0), edge_length=0.5)
    sigma_i = uniform(mesh, 0.2 * np.eye(3))
    pair = Electrodes(["ahead", "behind"], [[30.0, 1.0, 1.0], [-30.0, 1.0, 1.0]])
    field = unbounded_lead_field(mesh, sigma_i, pair)
    v = jnp.asarray(wavefront(mesh, 2.0), jnp.float32)

    assert isinstance(Leads(field), AbstractObservable)
    leads = Leads(field, pair.names)
    scan = eqx.filter_jit(
        lambda leads, v: jax.lax.scan(
            lambda carry, t: (leads.update(carry, v, v, t, t), leads.frame(carry, v, t)),
            leads.init(v),
            jnp.arange(3.0),
        )
    )
    _, frames = scan(leads, v)
    assert frames.shape == (3, 2)
    assert (frames[:, 0] > 0).all()
    assert (frames[:, 1] < 0).all()


def test_bad_placement(block):
    with pytest.raises(ValueError, match="nearly parallel"):
        place_electrodes(
            block, axes=SimpleNamespace(apex_to_base=[1.0, 0, 0], lv_to_rv=[1.0, 0.1, 0])
        )
    with pytest.raises(ValueError, match="not zero"):
        place_electrodes(
            block, axes=SimpleNamespace(apex_to_base=[0.0, 0, 0], lv_to_rv=[1.0, 0.1, 0])
        )
    with pytest.raises(ValueError, match="right-handed"):
        place_electrodes(block, frame=np.diag([1.0, 1.0, -1.0]))
    with pytest.raises(ValueError, match="width is -1"):
        Thorax(width=-1.0)
    with pytest.raises(ValueError, match="frontal_angle"):
        Thorax(frontal_angle=120.0)
    with pytest.raises(ValueError, match=r"Electrode V\d .* the heart"):
        place_electrodes(block, frame=np.eye(3), scale=0.3)


# --- measurements ----------------------------------------------------------------------------


@pytest.mark.parametrize("onset", [0.0, 200.0])
@pytest.mark.parametrize("step", [0.5, 1.0, 2.0])
def test_intervals_of_a_known_beat(onset, step):
    t = np.arange(0.0, onset + 600.0, step)
    found = measurements(t, beat(t, onset=onset), rr_ms=1000.0)
    assert found["qrs_onset_ms"] == pytest.approx(onset, abs=5.0)
    assert found["qrs_duration_ms"] == pytest.approx(90.0, abs=8.0)
    assert found["t_peak_ms"] == pytest.approx(onset + 310.0, abs=2.0)
    # the tangent at the inflection of a raised cosine meets zero at 3/4 + 1/(2 pi) of it
    assert found["t_end_ms"] == pytest.approx(onset + 230 + 160 * (0.75 + 0.5 / np.pi), abs=4.0)
    assert found["qt_ms"] == pytest.approx(375.0, abs=9.0)
    assert found["heart_rate_bpm"] == pytest.approx(60.0)
    assert found["qtc_bazett_ms"] == found["qt_ms"] == found["qtc_fridericia_ms"]
    assert found["not_measured"] == {}
    assert found["outside_normal"] == []


@pytest.mark.parametrize("axis", [-150.0, -60.0, 0.0, 38.0, 90.0, 135.0])
def test_frontal_axis(axis):
    t = np.arange(0.0, 500.0)
    found = measurements(t, beat(t, axis=axis))
    assert found["qrs_axis_deg"] == pytest.approx(axis, abs=0.5)
    assert found["t_axis_deg"] == pytest.approx(axis, abs=0.5)


def test_waves_of_the_leads():
    t = np.arange(0.0, 500.0)
    leads = measurements(t, beat(t))["leads"]
    polarity = {name: waves["t_polarity"] for name, waves in leads.items()}
    assert polarity["V1"] == "inverted"
    assert polarity["aVR"] == "inverted"
    assert {polarity[name] for name in ("I", "II", "V2", "V3", "V4", "V5", "V6")} == {"upright"}
    assert leads["V5"]["t_mv"] == pytest.approx(0.3, abs=0.01)
    assert leads["V6"]["r_mv"] == pytest.approx(1.0, abs=0.01)
    assert leads["V6"]["s_mv"] == 0.0
    assert leads["V2"]["s_mv"] == pytest.approx(1.2, abs=0.02)
    assert leads["aVR"]["q_mv"] == 0.0
    assert leads["aVR"]["r_mv"] == 0.0  # QS
    assert leads["V1"]["st60_mv"] == pytest.approx(0.0, abs=0.01)


def test_r_wave_progression():
    t = np.arange(0.0, 500.0)
    progression = measurements(t, beat(t))["r_wave_progression"]
    share = list(progression["r_share"].values())
    assert share == sorted(share)
    assert share[0] < 0.2
    assert share[-1] == 1.0
    assert 2.0 < progression["transition"] < 4.0
    assert progression["pattern"] == "normal"
    flipped = beat(t)
    flipped[:, 6:] *= -1.0
    assert measurements(t, flipped)["r_wave_progression"]["pattern"] == "early"


def test_rate_correction():
    assert corrected_qt(400.0, 640.0) == pytest.approx((500.0, 400.0 / 0.64 ** (1 / 3)))


def test_what_cannot_be_measured_is_none_with_a_reason():
    t = np.arange(0.0, 400.0)
    flat = measurements(t, np.zeros((400, 12)))
    assert flat["qrs_duration_ms"] is None
    assert "flat" in flat["not_measured"]["qrs_duration_ms"]
    assert flat["qtc_bazett_ms"] is None
    assert "RR" in flat["not_measured"]["qtc_bazett_ms"]
    for end, reason in ((60, "QRS"), (120, "before the T wave"), (290, "peak"), (330, "baseline")):
        cut = measurements(t[:end], beat(t)[:end], rr_ms=900.0)
        assert cut["qt_ms"] is None
        assert reason in cut["not_measured"]["qt_ms"]
        json.dumps(cut, allow_nan=False)
    only = measurements(t, beat(t)[:, :6], LEAD_NAMES[:6])
    assert only["r_wave_progression"] is None
    assert "V1" in only["not_measured"]["r_wave_progression"]
    chest = measurements(t, beat(t)[:, 6:], LEAD_NAMES[6:])
    assert "lead I is not there" in chest["not_measured"]["qrs_axis_deg"]
    json.dumps([flat, only, chest], allow_nan=False)


def test_measurements_of_noise_and_no_t_wave():
    t = np.arange(0.0, 500.0)
    noise = np.random.default_rng(2).normal(0.0, 0.01, (500, 12))
    noisy = measurements(t, beat(t, onset=60.0) + noise)
    assert noisy["qrs_duration_ms"] == pytest.approx(90.0, abs=12.0)
    assert noisy["t_peak_ms"] == pytest.approx(370.0, abs=12.0)
    with pytest.raises(NotMeasurable, match="no T wave"):
        t_wave(t, beat(t) * (t < 150)[:, None], qrs(t, beat(t)))


@pytest.mark.parametrize(
    ("t", "ecg", "message"),
    [
        (np.arange(10.0), np.zeros((9, 12)), "times of shape"),
        (np.arange(0.0, 500.0, 5.0), np.zeros((100, 12)), "4 ms apart"),
        (np.zeros(100), np.zeros((100, 12)), "increasing"),
        (np.arange(100.0), np.full((100, 12), np.nan), "finite"),
        (np.arange(100.0), np.zeros((100, 11)), "11 leads and 12 names"),
    ],
)
def test_bad_ecgs_are_refused(t, ecg, message):
    with pytest.raises(ValueError, match=message):
        measurements(t, ecg)


# --- recordings ------------------------------------------------------------------------------


def test_median_beat_of_a_noisy_recording():
    t, ecg = recording()
    single = median_beat(t, ECGFilter()(t, ecg))
    assert single.rr_ms == pytest.approx(800.0, abs=2.0)
    assert single.beats >= 6
    found = measurements(single.t_ms, single.ecg, rr_ms=single.rr_ms)
    assert found["qrs_duration_ms"] == pytest.approx(90.0, abs=12.0)
    assert found["qt_ms"] == pytest.approx(375.0, abs=15.0)
    assert found["qrs_axis_deg"] == pytest.approx(40.0, abs=3.0)


def test_too_short_recordings_and_csv(tmp_path):
    t = np.arange(0.0, 700.0, 2.0)
    with pytest.raises(ValueError, match="at least two"):
        median_beat(t, beat(t, onset=200.0))
    path = tmp_path / "ecg.csv"
    rows = ["# time in ms, leads in mV", "time_ms,V1,i,other", *(f"{x},{x / 10},{-x},0" for x in t)]
    path.write_text("\n".join(rows))
    read = read_recording(path)
    assert read.names == ("I", "V1")
    np.testing.assert_allclose(read.ecg[:, 0], -t)
    path.write_text("t_ms,A\n0,1\n1,2\n")
    with pytest.raises(ValueError, match="expected some of I"):
        read_recording(path)
    path.write_text("t_ms,I\n0,one\n1,2\n")
    with pytest.raises(ValueError, match="numbers"):
        read_recording(path)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("folder", "pattern", "duration"),
    [
        ("ecg-cinc2021", "HR*.hea", (72, 115)),
        ("ecg-cinc2021", "E07513.hea", (72, 115)),
        ("ecg-cinc2021", "E07510.hea", (120, 175)),  # right bundle branch block
        ("ecg-cinc2021", "JS*.hea", (80, 130)),
        ("ecg-ptb-s0010", "*.hea", (100, 150)),
    ],
)
def test_recorded_ecgs_are_plausible(data, folder, pattern, duration):
    paths = sorted((data / folder).glob(pattern))
    assert paths
    for path in paths:
        recorded = read_recording(path)
        assert recorded.names == LEAD_NAMES
        single = median_beat(recorded.t_ms, ECGFilter()(recorded.t_ms, recorded.ecg))
        found = measurements(single.t_ms, single.ecg, recorded.names, single.rr_ms)
        json.dumps(found, allow_nan=False)
        assert duration[0] <= found["qrs_duration_ms"] <= duration[1], path.name
        assert 40 <= found["heart_rate_bpm"] <= 140
        if found["qt_ms"] is not None:
            assert 340 <= found["qtc_fridericia_ms"] <= 480, path.name
        if path.name.startswith("HR"):
            assert -40 <= found["qrs_axis_deg"] <= 91
            assert found["leads"]["aVR"]["t_polarity"] != "upright"
            share = list(found["r_wave_progression"]["r_share"].values())
            assert share[0] < 0.5 < share[5]


# --- the CRT patient ---------------------------------------------------------------------------


def crt_mesh(folder) -> tuple[Mesh, np.ndarray]:
    import meshio

    grid = meshio.read(folder / "True_endo.vtu")
    activation = np.asarray(grid.point_data["activation"], np.float64).ravel()
    return Mesh(grid.points, grid.cells_dict["tetra"]), activation - activation.min()


def endocardium(path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices of a surface, and the centre of its open rim."""
    lines = [line.split() for line in path.read_text().splitlines()]
    points = np.array([line[1:4] for line in lines if line[:1] == ["v"]], float)
    corners = [[int(e.split("/")[0]) - 1 for e in line[1:4]] for line in lines if line[:1] == ["f"]]
    edges = np.sort(np.concatenate([np.roll(corners, k, axis=1)[:, :2] for k in range(3)]), axis=1)
    unique, count = np.unique(edges, axis=0, return_counts=True)
    return points, points[np.unique(unique[count == 1])].mean(axis=0)


@pytest.mark.realdata
def test_placement_against_recorded_electrodes(data):
    folder = data / "crtdemo"
    mesh, _ = crt_mesh(folder)
    left, rim = endocardium(folder / "crtdemo_LVendo_heart_cut.obj")
    right, _ = endocardium(folder / "crtdemo_RVendo_heart_cut.obj")
    apex = left[np.argmax(np.linalg.norm(left - rim, axis=1))]
    axes = SimpleNamespace(apex_to_base=rim - apex, lv_to_rv=right.mean(axis=0) - left.mean(axis=0))
    recorded = read_electrodes(folder / "electrodes_mm.json")
    recorded.require_twelve_leads()

    def residual(**options):
        placed = place_electrodes(mesh, **options)
        expected = np.array([recorded.position(name) for name in placed.names])
        return np.linalg.norm(placed.positions - expected, axis=1)

    # the body frame from the heart's axes is that of the scanner (left, posterior, superior)
    angle = np.degrees(np.arccos((np.trace(Thorax().body_frame(axes)) - 1) / 2))
    assert angle < 20
    # an average thorax against a stout patient whose heart lies 76 mm off the midline
    assert residual(axes=axes)[3:].mean() < 50
    stout = Thorax(
        width=396.0,
        depth=280.0,
        heart_left=76.0,
        heart_anterior=85.0,
        shoulder_height=206.0,
        hip_depth=166.0,
        fourth_space_height=50.0,
        fifth_space_height=25.0,
    )
    assert residual(frame=np.eye(3), thorax=stout).mean() < 25


@pytest.mark.realdata
def test_left_bundle_branch_block_of_the_crt_patient(data):
    mesh, activation = crt_mesh(data / "crtdemo")
    electrodes = read_electrodes(data / "crtdemo" / "electrodes_mm.json")
    field = unbounded_lead_field(mesh, uniform(mesh, 0.2 * np.eye(3)), electrodes)
    t = np.arange(0.0, 230.0)
    # edges of 5 mm ask for a wide upstroke
    v = RESTING + 105.0 / (1.0 + np.exp((activation - t[:, None]) / 5.0))
    found = measurements(t, twelve_leads(v @ field.T, electrodes.names))
    assert found["qrs_duration_ms"] == pytest.approx(activation.max(), abs=10.0)
    leads = found["leads"]
    for name in ("V1", "V2"):
        assert leads[name]["r_mv"] < 0.1 * leads[name]["s_mv"]
    for name in ("I", "V6"):
        assert leads[name]["s_mv"] < 0.1 * leads[name]["r_mv"]
    share = list(found["r_wave_progression"]["r_share"].values())
    assert share == sorted(share)


def test_surface_factor_scales_the_field_and_says_so():
    mesh = slab((4.0, 4.0, 4.0), 2.0)
    sigma = np.tile(0.2 * np.eye(3), (len(mesh.cells), 1, 1))
    names = ("A", "B")
    electrodes = Electrodes(names, np.array([[40.0, 0.0, 0.0], [0.0, 40.0, 0.0]]))
    plain = UnboundedConductor().lead_field(mesh, sigma, electrodes)
    tripled = UnboundedConductor(surface_factor=3.0).lead_field(mesh, sigma, electrodes)
    np.testing.assert_allclose(tripled.field, 3.0 * plain.field, rtol=1e-12)
    assert "times 3" in tripled.method
    assert "times" not in plain.method
    with pytest.raises(ValueError, match="surface_factor"):
        UnboundedConductor(surface_factor=0.0)
