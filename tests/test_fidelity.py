"""One twin by eikonal, reaction-eikonal and monodomain: matched, and what is refused."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiotwin.anatomy.idealised import slab
from cardiotwin.anatomy.purkinje import PurkinjeNetwork
from cardiotwin.ionic import MitchellSchaeffer, TenTusscherPanfilov2006
from cardiotwin.propagation.eikonal import EikonalMesh
from cardiotwin.propagation.velocity import VelocityTarget
from cardiotwin.run import Experiment, Output, Solver, simulate
from cardiotwin.run.fidelity import read_activation
from cardiotwin.tissue.purkinje import ConductionSystem
from cardiotwin.tissue.purkinje_stimulus import PurkinjeStimulus
from cardiotwin.tissue.stimulus import BoxStimulus, NodalStimulus
from cardiotwin.twin import Anatomy, Cells, MeshFibres, Myocardium
from cardiotwin.twin.action import cell_actions
from cardiotwin.twin.beginnings import Junctions
from cardiotwin.twin.eikonal import EikonalHeart, compare_times
from cardiotwin.twin.matching import match

MESH = slab((24.0, 8.0, 4.0), 1.0, pattern="bcc")
HALF = np.asarray(MESH.points[MESH.cells].mean(axis=1)[:, 2] < 1.0)
LAYERS = {
    "myocardium": (np.ones(len(MESH.cells), bool), VelocityTarget(0.6, 0.3, 0.3)),
    "endocardium": (HALF, VelocityTarget(1.5, 1.5, 1.5)),
}


def heart(layers=None, stimulus=None) -> EikonalHeart:
    anatomy = Anatomy(MESH)
    stimulus = BoxStimulus([0, 0, 0], [2, 2, 1]) if stimulus is None else stimulus
    return EikonalHeart.stimulated(
        anatomy, MeshFibres().on(anatomy), LAYERS if layers is None else layers, stimulus
    )


def test_layers_keep_their_velocities_however_they_are_handed_on():
    """Mappings come back sorted from whatever transforms them."""
    made = heart()
    turned = eqx.tree_at(
        lambda h: h.velocity, made, {name: made.velocity[name] for name in reversed(made.velocity)}
    )
    metric = np.asarray(made.metric())
    np.testing.assert_allclose(metric[HALF], np.eye(3)[None] / 1.5**2 + 0 * metric[HALF])
    np.testing.assert_allclose(np.linalg.eigvalsh(metric[~HALF])[:, 0], 0.6**-2)
    for other in (turned, jax.tree.map(jnp.asarray, made), made.astype(np.float32)):
        np.testing.assert_allclose(other.metric(), metric, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(jax.jit(lambda h: h.metric())(made), metric, atol=1e-12)


def test_a_stimulus_begins_where_and_when_it_acts():
    two = NodalStimulus([0], 3.0) + NodalStimulus([len(MESH.points) - 1], 1.0)
    times = heart(stimulus=two).times()
    assert times[0] == 3.0
    assert times[-1] == 1.0
    with pytest.raises(ValueError, match=r"knows one beat and the stimulus has 2"):
        heart(stimulus=NodalStimulus([0], count=2))


def test_matching_finds_the_velocities_behind_a_map():
    made = heart()
    truth = eqx.tree_at(
        lambda h: (h.velocity["endocardium"], h.velocity["myocardium"], h.capture),
        made,
        (
            VelocityTarget(*(0.7 * v for v in made.velocity["endocardium"])),
            VelocityTarget(*jnp.array([0.5, 0.33, 0.33])),
            jnp.asarray(2.0),
        ),
    )
    times = np.array(truth.times())
    times[5] = np.nan  # a node that the run did not activate says nothing
    found = match(made, times)
    assert found.before.rmse > 2.0
    assert found.fit.rmse < 0.02
    assert found.capture == pytest.approx(2.0, abs=0.02)
    assert found.factors["endocardium"] == pytest.approx((0.7, 0.7), rel=5e-3)
    assert found.factors["myocardium"] == pytest.approx((0.5 / 0.6, 1.1), rel=5e-3)
    assert compare_times(np.asarray(found.heart.times()), times) == found.fit
    with pytest.raises(ValueError, match=r"of shape \(3,\) for a heart of"):
        match(made, np.zeros(3))
    with pytest.raises(ValueError, match="too few to fit"):
        match(made, np.full(len(MESH.points), np.nan))


def test_cells_alone_have_the_durations_that_they_are_given():
    kinds = np.linspace(6.0, 9.0, 500)
    cell = MitchellSchaeffer(tau_out=kinds)
    found = cell_actions(cell, 500)
    assert np.all(np.diff(found.duration) > 0)
    # one that was not among the forty, paced alone
    lone = cell_actions(MitchellSchaeffer(tau_out=kinds[123]), 1)
    assert found.duration[123] == pytest.approx(lone.duration[0], abs=0.3)
    assert 0.0 < found.latency < 5.0
    with pytest.raises(ValueError, match="do not fire and repolarise"):
        cell_actions(TenTusscherPanfilov2006.epi(g_Na=0.0, g_CaL=0.0), 3)


def experiment(method, *, stimulus=None, t1=400.0, **solver) -> Experiment:
    return Experiment(
        MESH,
        fibres=MeshFibres(),
        ionic=Cells("mitchell_schaeffer"),
        tissue=Myocardium(velocity=(0.8, 0.6, 0.6)),
        stimulus=BoxStimulus([0, 0, 0], [2, 8, 4]) if stimulus is None else stimulus,
        solver=Solver(t1=t1, dt=0.1, every=1.0, method=method, **solver),
        output=Output(figures=False, film=False, report=False, frames_every=20.0),
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One experiment by every method, a plane wave along the fibres."""
    folder = tmp_path_factory.mktemp("fidelity")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARDIOTWIN_CACHE", str(folder / "cache"))
        found = {}
        for name, method, words in (
            ("monodomain", "monodomain", {}),
            ("matched", "eikonal", {"match": str(folder / "monodomain")}),
            ("coupled", "reaction_eikonal", {}),
            ("alone", "reaction_eikonal", {"coupled": False}),
        ):
            found[name] = simulate(experiment(method, **words), folder / name, progress=False)
    return folder, found


def test_every_method_writes_the_same_and_says_which_it_is(runs):
    folder, found = runs
    said = {name: summary["solver"]["model"] for name, summary in found.items()}
    assert said["monodomain"] == "monodomain"
    assert said["matched"] == "eikonal, action potentials of the cells"
    assert said["coupled"] == "reaction-eikonal with diffusion"
    assert said["alone"] == "reaction-eikonal without diffusion"
    written = sorted(path.name for path in (folder / "monodomain").iterdir())
    for name, summary in found.items():
        assert sorted(path.name for path in (folder / name).iterdir()) == written
        kept = json.loads((folder / name / "summary.json").read_text())
        assert kept["status"] == "finished"
        assert kept["activation"]["all"]["activated_share"] == 1.0
        assert kept["activation"]["all"]["repolarised_share"] == 1.0
        assert summary["solver"]["nodes"] == len(MESH.points)


def test_eikonal_methods_agree_with_the_monodomain(runs, tabulate):
    folder, found = runs
    truth = read_activation(str(folder / "monodomain"))
    for name in ("matched", "coupled", "alone"):
        fit = compare_times(read_activation(str(folder / name)), truth)
        mean = [found[key]["activation"]["all"]["apd_mean_ms"] for key in (name, "monodomain")]
        tabulate("Methods on a slab", name=name, rmse=fit.rmse, r=fit.correlation, apd=mean[0])
        assert fit.correlation > 0.99, name
        assert fit.rmse < (0.7 if name == "matched" else 3.0), name
        assert mean[0] == pytest.approx(mean[1], rel=0.05), name
    assert found["matched"]["match"]["rmse_ms"] < found["matched"]["match"]["rmse_before_ms"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"method": "bidomain"}, "method is 'bidomain'; give one of monodomain"),
        ({"method": "eikonal", "devices": 1}, "solved on one device"),
        ({"method": "eikonal", "coupled": False}, "is R-E-, of method=reaction_eikonal"),
        ({"match": "run"}, "Leave solver.match out"),
    ],
)
def test_what_a_method_cannot_do_is_refused(words, message):
    with pytest.raises(ValueError, match=message):
        Solver(**words)


def test_several_beats_and_a_missing_run_are_refused(tmp_path):
    train = BoxStimulus([0, 0, 0], [2, 8, 4], count=3)
    with pytest.raises(ValueError, match="knows one beat and the stimulus has 3"):
        simulate(experiment("eikonal", stimulus=train), tmp_path / "train", progress=False)
    lost = experiment("eikonal", match=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="does not exist; name the folder"):
        simulate(lost, tmp_path / "lost", progress=False)


@pytest.fixture(scope="module")
def networks():
    """A network that fires one end of a strip, and one along it whose bundle branch is blocked."""
    mesh = slab((64.0, 3.0, 2.0), 1.0)
    low = np.add(mesh.points.min(axis=0), [0, 1.5, 0])
    first = PurkinjeNetwork([low, np.add(low, [2, 0, 0])], [[0, 1]], 0, junctions=[1])
    line = np.linspace([15.0, 0, 0], [60.0, 0, 0], 31) + low
    edges = np.stack([np.arange(30), np.arange(1, 31)], axis=1)
    second = PurkinjeNetwork(line, edges, 15, junctions=[0, 30])
    system = ConductionSystem([first, second], his_delay=[2.0, np.inf])
    return mesh, PurkinjeStimulus(mesh, system, his=1.0, radius=2.0)


def test_junctions_fire_when_the_networks_do(networks):
    mesh, stimulus = networks
    made = Junctions.of(stimulus, mesh)
    element = EikonalMesh.of(mesh)
    expected = np.full(len(mesh.points), np.inf)
    expected[stimulus.nodes] = stimulus.onsets()
    np.testing.assert_allclose(made.initial(element), np.where(expected < 1e6, expected, np.inf))
    # muscle at the near end of the silent network has fired, and enters it
    fired = np.full(len(mesh.points), np.inf)
    fired[made.centre[1]] = 20.0
    answer = np.asarray(made.answered(element, jnp.asarray(fired)))
    again = stimulus.system.excite(1.0, fired[made.centre]).junctions + 3.0
    assert again[2] == pytest.approx(20.0 + 1.0 + 45.0 / 3.0 + 3.0)
    assert answer[made.centre] == pytest.approx(again)

    def late(speed):
        sped = eqx.tree_at(lambda j: j.speed, made, speed)
        return sped.answered(element, jnp.asarray(fired))[made.centre[2]]

    assert jax.grad(late)(jnp.asarray(3.0)) == pytest.approx(-45.0 / 3.0**2)


def test_muscle_enters_the_networks(networks):
    mesh, stimulus = networks
    anatomy = Anatomy(mesh)
    everywhere = np.ones(len(mesh.cells), bool)
    made = EikonalHeart.stimulated(
        anatomy,
        MeshFibres().on(anatomy),
        {"muscle": (everywhere, VelocityTarget(0.6, 0.6, 0.6))},
        stimulus,
    )
    times = np.asarray(made.times())
    roots = made.roots
    assert isinstance(roots, Junctions)
    near, far = times[np.asarray(roots.centre)[1:]]
    assert near == pytest.approx(1.0 + 2.0 + 2.0 / 3.0 + 3.0 + 11.0 / 0.6, abs=2.0)
    assert far == pytest.approx(near + 1.0 + 45.0 / 3.0 + 3.0, abs=1e-3)
    with pytest.raises(ValueError, match="which are no places"):
        made.sites()
