"""Conductivities, diffusion tensors and stimuli."""

import jax.numpy as jnp
import numpy as np
import pytest
from blocks import block
from scipy.spatial.transform import Rotation
from tissues import uniform_tissue

from cardiotwin.anatomy.fibres import Fibres
from cardiotwin.anatomy.idealised import slab
from cardiotwin.tissue.conductivity import Conductivity, Tissue
from cardiotwin.tissue.stimulus import (
    BoxStimulus,
    FocalStimulus,
    NodalStimulus,
    last_onset,
    reorder,
    total,
)

MESH = block()  # regions "lv" and "septum"


def random_fibres(elements):
    axes = Rotation.random(elements, random_state=0).as_matrix()
    return Fibres(axes[:, 0], axes[:, 1], axes[:, 2])


FIBRES = random_fibres(len(MESH.cells))
ORTHOTROPIC = Conductivity(0.2, 0.05, 0.02, 0.7, 0.3, 0.1)


# tissue


def test_tensors_are_symmetric_positive_definite_with_the_fibres_as_eigenvectors():
    tissue = Tissue.by_region(MESH, FIBRES, ORTHOTROPIC)
    principal = tissue.principal_diffusivity()
    for tensor, values in (
        (tissue.diffusion(), principal),
        (tissue.intracellular_tensor(), tissue.intracellular),
    ):
        np.testing.assert_allclose(tensor, np.swapaxes(tensor, 1, 2), atol=1e-17)
        assert np.all(np.linalg.eigvalsh(tensor) > 0)
        for k, axis in enumerate((FIBRES.fibre, FIBRES.sheet, FIBRES.normal)):
            np.testing.assert_allclose(
                np.einsum("eij,ej->ei", tensor, axis), values[:, k : k + 1] * axis, atol=1e-15
            )


def test_monodomain_conductivity_is_harmonic():
    tissue = Tissue.by_region(MESH, FIBRES, ORTHOTROPIC, chi=140.0, c_m=0.01)
    # series conductors: 1 / sigma_m = 1 / sigma_i + 1 / sigma_e
    resistance = 1 / np.array([0.2, 0.05, 0.02]) + 1 / np.array([0.7, 0.3, 0.1])
    expected = 1 / resistance / 1.4
    np.testing.assert_allclose(
        tissue.principal_diffusivity(), np.tile(expected, (len(MESH.cells), 1)), rtol=1e-14
    )


def test_defaults_are_those_of_the_benchmark_and_transversely_isotropic():
    default = Conductivity()
    np.testing.assert_array_equal(default.intracellular, [0.17, 0.019, 0.019])
    np.testing.assert_array_equal(default.extracellular, [0.62, 0.24, 0.24])
    diffusivity = Tissue.by_region(MESH, FIBRES).principal_diffusivity()[0]
    # Niederer et al. 2011: 0.1334 and 0.0176 S/m over chi C_m = 1.4 uF/mm3
    np.testing.assert_allclose(diffusivity * 1.4, [0.1334, 0.0176, 0.0176], rtol=2e-3)


def test_regions():
    tissue = Tissue.by_region(MESH, FIBRES, {"septum": ORTHOTROPIC, "default": Conductivity()})
    septum = MESH.regions == 7
    assert septum.any()
    assert not septum.all()
    np.testing.assert_array_equal(
        tissue.intracellular[septum], np.tile([0.2, 0.05, 0.02], (septum.sum(), 1))
    )
    np.testing.assert_array_equal(tissue.extracellular[~septum, 0], 0.62)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lv": Conductivity()}, "No conductivity is given for region 'septum'. Add it"),
        (
            {"default": Conductivity(), "scar": Conductivity()},
            r"given for \['scar'\], but the mesh has the regions \['lv', 'septum'\]",
        ),
    ],
)
def test_regions_that_do_not_fit(given, message):
    with pytest.raises(ValueError, match=message):
        Tissue.by_region(MESH, FIBRES, given)


def test_regions_without_a_name_go_by_their_number():
    mesh = slab((2.0, 1.0, 1.0), 1.0)
    tissue = Tissue.by_region(mesh, random_fibres(len(mesh.cells)), {"1": ORTHOTROPIC})
    assert np.all(tissue.intracellular[:, 0] == 0.2)


@pytest.mark.parametrize("value", [0.0, -0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["intra_fibre", "extra_normal"])
def test_conductivity_must_be_positive(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value} S/m; every conductivity must be"):
        Conductivity(**{name: value})


def test_arrays_of_a_tissue():
    good = np.ones((len(MESH.cells), 3))
    bad = good.copy()
    bad[5, 1] = 0.0
    with pytest.raises(ValueError, match=r"intracellular .* of 1 elements .* first element 5"):
        Tissue(FIBRES, bad, good)
    with pytest.raises(ValueError, match=r"extracellular .* of 1 elements"):
        Tissue(FIBRES, good, bad)
    with pytest.raises(ValueError, match=r"tuning of 1 elements"):
        Tissue(FIBRES, good, good, tuning=bad)
    with pytest.raises(ValueError, match=r"shape \(3,\), expected \(\d+, 3\)"):
        Tissue(FIBRES, np.ones(3), good)
    for name in ("chi", "c_m"):
        with pytest.raises(ValueError, match=f"Tissue: {name} is -1"):
            Tissue(FIBRES, good, good, **{name: -1.0})


def test_layer():
    tissue = Tissue.by_region(MESH, FIBRES)
    mask = np.zeros(len(MESH.cells), bool)
    mask[3:9] = True
    layered = tissue.with_layer(mask, ORTHOTROPIC)
    assert np.all(layered.intracellular[mask] == ORTHOTROPIC.intracellular)
    assert np.all(layered.extracellular[mask] == ORTHOTROPIC.extracellular)
    np.testing.assert_array_equal(layered.intracellular[~mask], tissue.intracellular[~mask])
    np.testing.assert_array_equal(layered.tuning, tissue.tuning)
    assert (layered.chi, layered.c_m) == (tissue.chi, tissue.c_m)
    assert np.all(tissue.intracellular[mask, 0] == 0.17)  # the first tissue is left as it was


def test_tuning_leaves_the_sources_of_the_ecg_alone():
    tissue = Tissue.by_region(MESH, FIBRES)
    factor = np.tile([2.0, 3.0, 0.5], (len(MESH.cells), 1))
    tuned = Tissue(FIBRES, tissue.intracellular, tissue.extracellular, tuning=factor)
    np.testing.assert_array_equal(tuned.intracellular_tensor(), tissue.intracellular_tensor())
    np.testing.assert_allclose(
        tuned.principal_diffusivity(), factor * tissue.principal_diffusivity(), rtol=1e-15
    )


def test_tensors_in_jax_and_numpy_agree():
    tissue = Tissue.by_region(MESH, FIBRES, ORTHOTROPIC)
    traced = Tissue(FIBRES, jnp.asarray(tissue.intracellular), jnp.asarray(tissue.extracellular))
    assert isinstance(tissue.diffusion(), np.ndarray)
    np.testing.assert_allclose(traced.diffusion(), tissue.diffusion(), rtol=1e-13, atol=1e-18)


def test_helper_of_these_tests_gives_the_diffusivity_it_promises():
    mesh = slab((2.0, 1.0, 1.0), 1.0)
    tensor = uniform_tissue(mesh, (0.3, 0.2, 0.1)).diffusion()
    np.testing.assert_allclose(tensor, np.tile(np.diag([0.3, 0.2, 0.1]), (len(tensor), 1, 1)))


# stimuli

POINTS = np.stack([np.arange(6.0), np.zeros(6), np.zeros(6)], axis=1)


def steps_on(stimulus, dt, end, node=0):
    """Numbers of the time steps in which a node is stimulated, asked at the middle of each."""
    values = [float(stimulus((step + 0.5) * dt, POINTS)[node]) for step in range(round(end / dt))]
    return np.flatnonzero(values), np.array(values)


def test_train_on_time_steps():
    # three pulses of 2 ms every 10 ms from 3 ms on: with dt = 0.25 each is exactly 8 steps
    stimulus = NodalStimulus([0], 3.0, amplitude=7.0, duration=2.0, period=10.0, count=3)
    on, values = steps_on(stimulus, 0.25, 40.0)
    expected = np.concatenate([np.arange(8) + round((3.0 + 10.0 * k) / 0.25) for k in range(3)])
    np.testing.assert_array_equal(on, expected)
    assert set(values) == {0.0, 7.0}
    assert last_onset(stimulus.pulses(POINTS)) == 23.0


def test_other_nodes_are_left_alone():
    stimulus = NodalStimulus([1, 4], amplitude=7.0)
    np.testing.assert_array_equal(stimulus(1.0, POINTS), [0, 7, 0, 0, 7, 0])
    assert not np.any(stimulus(2.5, POINTS))


def test_sums():
    first = NodalStimulus([0], amplitude=3.0, duration=4.0)
    second = NodalStimulus([0, 1], onset=2.0, amplitude=5.0, duration=4.0)
    third = BoxStimulus([-1, -1, -1], [0, 1, 1], amplitude=1.0, duration=1.0)
    both = first + second + third
    assert len(both.pulses(POINTS)) == 3
    for t in (0.5, 1.5, 3.0, 5.0, 7.0):
        expected = first(t, POINTS) + second(t, POINTS) + third(t, POINTS)
        np.testing.assert_array_equal(both(t, POINTS), expected)
    np.testing.assert_array_equal(both(3.0, POINTS)[:2], [8.0, 5.0])


def test_every_site_has_its_own_onset_and_the_earlier_one_wins():
    stimulus = FocalStimulus([[0, 0, 0], [2, 0, 0]], radius=1.0, onset=[5.0, 1.0], amplitude=2.0)
    (pulses,) = stimulus.pulses(POINTS)
    # node 1 is within 1 mm of both; node 4 and 5 of neither
    np.testing.assert_array_equal(pulses.onset[:4], [5.0, 1.0, 1.0, 1.0])
    np.testing.assert_array_equal(pulses.amplitude, [2, 2, 2, 2, 0, 0])
    np.testing.assert_array_equal(stimulus(2.0, POINTS), [0, 2, 2, 2, 0, 0])
    np.testing.assert_array_equal(stimulus(6.0, POINTS), [2, 0, 0, 0, 0, 0])


def test_nodal_onsets():
    stimulus = NodalStimulus([2, 3, 2], onset=[4.0, 8.0, 1.0])
    (pulses,) = stimulus.pulses(POINTS)
    np.testing.assert_array_equal(pulses.onset[[2, 3]], [1.0, 8.0])
    assert last_onset((pulses,)) == 8.0


def test_box_holds_its_faces():
    (pulses,) = BoxStimulus([1, -1, 0], [3, 1, 0], amplitude=1.0).pulses(POINTS)
    np.testing.assert_array_equal(pulses.amplitude, [0, 1, 1, 1, 0, 0])


def test_reordering_moves_nodes_and_casts():
    pulses = NodalStimulus([1], onset=3.0, amplitude=4.0).pulses(POINTS)
    order = np.array([5, 1, 0, 2, 3, 4])
    moved = reorder(pulses, order, jnp.float32)
    assert moved[0].onset.dtype == jnp.float32
    np.testing.assert_array_equal(
        total(moved, jnp.float32(4.0)), total(pulses, jnp.asarray(4.0))[order]
    )


def test_site_off_the_mesh_names_the_distance():
    stimulus = FocalStimulus([[0, 0, 0], [5, 3, 4]], radius=2.0)
    with pytest.raises(ValueError, match=r"site 1 at .*nearest node, 5 .* lies 5.00 mm away"):
        stimulus.pulses(POINTS)


def test_box_without_nodes():
    with pytest.raises(ValueError, match=r"no node lies between .* the mesh spans"):
        BoxStimulus([0.2, 0, 0], [0.8, 1, 1]).pulses(POINTS)


@pytest.mark.parametrize("nodes", [[6], [-1], []])
def test_nodes_that_are_not_there(nodes):
    with pytest.raises(ValueError, match="of a mesh with nodes 0 to 5"):
        NodalStimulus(nodes).pulses(POINTS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FocalStimulus([[0, 0]]), r"sites have shape \(1, 2\)"),
        (lambda: FocalStimulus([[0, 0, np.nan]]), "finite coordinates"),
        (lambda: FocalStimulus([[0, 0, 0]], amplitude=-1.0), "amplitude is -1.0; give a positive"),
        (lambda: FocalStimulus([[0, 0, 0]], duration=0.0), "duration is 0.0"),
        (lambda: FocalStimulus([[0, 0, 0]], onset=-2.0), "a run starts at 0 ms"),
        (lambda: FocalStimulus([[0, 0, 0]], count=0), "count is 0"),
        (lambda: BoxStimulus([1, 0, 0], [0, 1, 1]), "the lower one first"),
        (lambda: BoxStimulus([0, 0], [1, 1]), "two corners"),
        (lambda: NodalStimulus([0], period=1.0, duration=2.0, count=2), "must exceed the duration"),
        (lambda: NodalStimulus([0], onset=np.inf), "onset is"),
    ],
)
def test_stimuli_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()
