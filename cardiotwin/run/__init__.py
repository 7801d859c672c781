"""Whole runs: from an experiment to a folder of results."""

from .calibrate import calibrate as calibrate
from .calibration import QRSCalibration as QRSCalibration
from .experiment import Experiment as Experiment
from .experiment import Output as Output
from .experiment import Recording as Recording
from .experiment import Solver as Solver
from .simulate import simulate as simulate
from .tuning import tune as tune
