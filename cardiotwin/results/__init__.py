"""What a run leaves behind: data files, pictures, a film and a report. Arrays in, files out."""

from cardiotwin.results._files import DiskFull as DiskFull
from cardiotwin.results.fibre_figure import fibre_angles as fibre_angles
from cardiotwin.results.figures import action_potentials as action_potentials
from cardiotwin.results.figures import ecg_paper as ecg_paper
from cardiotwin.results.film import film as film
from cardiotwin.results.scene import View as View
from cardiotwin.results.scene import activation_map as activation_map
from cardiotwin.results.scene import default_views as default_views
from cardiotwin.results.scene import heart_views as heart_views
from cardiotwin.results.tables import write_ecg_csv as write_ecg_csv
from cardiotwin.results.tables import write_json as write_json
from cardiotwin.results.tables import write_probes_csv as write_probes_csv
from cardiotwin.results.tables import write_vtu as write_vtu
from cardiotwin.results.tables import write_wfdb as write_wfdb
from cardiotwin.results.vtkhdf import Steps as Steps
from cardiotwin.results.vtkhdf import VTKHDFWriter as VTKHDFWriter
from cardiotwin.results.vtkhdf import read_steps as read_steps
