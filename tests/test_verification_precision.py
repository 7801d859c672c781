"""A beat of two ventricles in single and in double precision, and twice over."""

import equinox as eqx
import numpy as np
import pytest

from cardiotwin.anatomy.idealised import BiventricleShape, biventricle
from cardiotwin.ecg import Leads, place_electrodes, twelve_leads, unbounded_lead_field
from cardiotwin.propagation.observe import ActivationTime, RepolarisationTime
from cardiotwin.propagation.scheme import ExplicitDiffusion, Godunov, ImplicitDiffusion
from cardiotwin.propagation.solve import solve
from cardiotwin.twin import Twin

pytestmark = pytest.mark.convergence

# a thick right wall allows large elements; waves would die on them without more diffusion, along
# fibre, sheet and normal
SHAPE = BiventricleShape(rv_wall=8.0)
EDGE = 6.0  # mm
MORE_DIFFUSION = np.array([80.0, 320.0, 320.0])
END = 450.0  # ms


@pytest.fixture(scope="module")
def heart():
    """A heart with layers of ten Tusscher-Panfilov cells, sinus-like activation and electrodes."""
    mesh = biventricle(EDGE, shape=SHAPE)
    twin = Twin.assemble(mesh)
    tissue = eqx.tree_at(lambda t: t.tuning, twin.tissue, MORE_DIFFUSION * twin.tissue.tuning)
    electrodes = place_electrodes(mesh)
    sigma_i = np.asarray(tissue.intracellular_tensor())
    leads = Leads(unbounded_lead_field(mesh, sigma_i, electrodes), electrodes.names)
    return twin._replace(tissue=tissue), leads


def beat(heart, diffusion, precision):
    twin, leads = heart
    return solve(
        twin.problem(),
        END,
        dt=0.05,
        scheme=Godunov(diffusion),
        observe={
            "activation": ActivationTime(twin.cell.activation_threshold),
            "repolarisation": RepolarisationTime(twin.cell.repolarisation_threshold),
            "leads": leads,
        },
        every=1.0,
        quiet_dt=0.2,
        precision=precision,
    )


@pytest.mark.parametrize(
    "diffusion", [ImplicitDiffusion(), ExplicitDiffusion()], ids=["implicit", "explicit"]
)
def test_single_precision_of_a_beat(heart, diffusion, tabulate):
    single, again = (beat(heart, diffusion, "float32") for _ in range(2))
    double = beat(heart, diffusion, "float64")
    for one, other in zip(single.final.leaves, again.final.leaves, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    np.testing.assert_array_equal(single.frames["leads"], again.frames["leads"])
    a, b = (
        {name: np.asarray(value, float) for name, value in solution.observed.items()}
        for solution in (single, double)
    )
    assert np.isfinite(b["activation"]).all()
    assert np.isfinite(b["repolarisation"]).all()
    activation = np.abs(a["activation"] - b["activation"]).max()
    duration = np.abs(
        (a["repolarisation"] - a["activation"]) - (b["repolarisation"] - b["activation"])
    ).max()
    ecg, reference = (
        np.asarray(twelve_leads(s.frames["leads"], heart[1].names)) for s in (single, double)
    )
    relative = np.linalg.norm(ecg - reference) / np.linalg.norm(reference)
    tabulate(
        "8. A beat in float32 against float64",
        diffusion=type(diffusion).__name__,
        nodes=heart[0].mesh.nodes,
        **{"activation, ms": activation, "APD90, ms": duration, "ECG, relative L2": relative},
        repeated="bit for bit",
    )
    assert 0.0 < activation <= 0.1  # zero would mean that nothing was compared
    assert duration <= 0.5
    assert relative <= 1e-3
