"""A small wave to solve on one device and on several."""

import numpy as np
from tissues import SmoothStimulus, uniform_tissue

from cardiotwin.anatomy.idealised import slab
from cardiotwin.ionic import MitchellSchaeffer
from cardiotwin.propagation.observe import ActivationTime, Probe
from cardiotwin.propagation.problem import Monodomain

OPTIONS = {
    "t1": 12.0,
    "dt": 0.05,
    "every": 2.0,
    "precision": "float64",
    "observe": {"activation": ActivationTime(-20.0), "probe": Probe([0, 150])},
}


def problem() -> Monodomain:
    """A wave along x through cells that differ, in tissue that differs along the axes."""
    mesh = slab((6.0, 1.0, 1.5), 0.5)  # 156 nodes: three devices have unequal parts of 13 x 3 x 4
    tau_in = np.random.default_rng(0).uniform(0.28, 0.32, len(mesh.points))
    tissue = uniform_tissue(mesh, (0.2, 0.1, 0.15))
    return Monodomain(mesh, tissue, MitchellSchaeffer(tau_in=tau_in), SmoothStimulus())
