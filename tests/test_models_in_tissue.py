"""Every ionic model carries a wave through a block of tissue."""

import numpy as np
import pytest

from cardiotwin.anatomy.fibres import fibres_from_mesh
from cardiotwin.anatomy.idealised import slab
from cardiotwin.propagation.observe import ActivationTime
from cardiotwin.propagation.problem import Monodomain
from cardiotwin.propagation.solve import solve
from cardiotwin.tissue.conductivity import Conductivity, Tissue
from cardiotwin.tissue.stimulus import BoxStimulus
from cardiotwin.twin import MODELS, Cells

SLAB = slab((7.0, 0.6, 0.6), 0.3)


@pytest.mark.parametrize("name", MODELS)
def test_wave_passes_through_tissue(name):
    cell = Cells(name).reference()
    tissue = Tissue.by_region(SLAB, fibres_from_mesh(SLAB), Conductivity())
    stimulus = BoxStimulus((0.0, 0.0, 0.0), (1.2, 0.6, 0.6), amplitude=60.0, duration=2.0)
    solution = solve(
        Monodomain(SLAB, tissue, cell, stimulus),
        160.0,  # dimensionless models have slow upstrokes, and slow waves
        dt=0.05,
        every=5.0,
        observe={"activation": ActivationTime(cell.activation_threshold)},
        on_frame=lambda frame: float(frame.outputs["activation"]) == 1.0,
    )
    times = np.asarray(solution.observed["activation"])
    assert np.isfinite(times).all()
    x = SLAB.points[:, 0]
    middle = (x > 2.0) & (x < 6.0)
    velocity = 1.0 / np.polyfit(x[middle], times[middle], 1)[0]
    assert 0.05 < velocity < 1.2  # m/s
