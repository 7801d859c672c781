"""Cardiac electrophysiology in JAX: from a heart mesh to a beat, activation map and 12-lead ECG.

Research software, not a medical device.
"""

from cardiotwin._version import __version__ as __version__
from cardiotwin.anatomy.coordinates import heart_axes as heart_axes
from cardiotwin.anatomy.coordinates import ventricular_fields as ventricular_fields
from cardiotwin.anatomy.fibres import Fibres as Fibres
from cardiotwin.anatomy.fibres import fibres_from_mesh as fibres_from_mesh
from cardiotwin.anatomy.fibres import ldrb as ldrb
from cardiotwin.anatomy.formats import read_mesh as read_mesh
from cardiotwin.anatomy.formats import write_mesh as write_mesh
from cardiotwin.anatomy.idealised import biventricle as biventricle
from cardiotwin.anatomy.idealised import slab as slab
from cardiotwin.anatomy.mesh import Mesh as Mesh
from cardiotwin.ecg.electrodes import read_electrodes as read_electrodes
from cardiotwin.ecg.features import measurements as measurements
from cardiotwin.ecg.leadfield import unbounded_lead_field as unbounded_lead_field
from cardiotwin.ecg.leads import Leads as Leads
from cardiotwin.ecg.leads import twelve_leads as twelve_leads
from cardiotwin.ecg.thorax import place_electrodes as place_electrodes
from cardiotwin.ionic import BuenoOrovio as BuenoOrovio
from cardiotwin.ionic import MitchellSchaeffer as MitchellSchaeffer
from cardiotwin.ionic import TenTusscherPanfilov2006 as TenTusscherPanfilov2006
from cardiotwin.ionic import blend as blend
from cardiotwin.propagation.observe import ActivationTime as ActivationTime
from cardiotwin.propagation.observe import Probe as Probe
from cardiotwin.propagation.observe import RepolarisationTime as RepolarisationTime
from cardiotwin.propagation.observe import Snapshots as Snapshots
from cardiotwin.propagation.problem import Monodomain as Monodomain
from cardiotwin.propagation.scheme import ExplicitDiffusion as ExplicitDiffusion
from cardiotwin.propagation.scheme import Godunov as Godunov
from cardiotwin.propagation.scheme import ImplicitDiffusion as ImplicitDiffusion
from cardiotwin.propagation.scheme import Strang as Strang
from cardiotwin.propagation.solve import NonFiniteError as NonFiniteError
from cardiotwin.propagation.solve import solve as solve
from cardiotwin.propagation.velocity import VelocityTarget as VelocityTarget
from cardiotwin.propagation.velocity import tune as tune
from cardiotwin.tissue.conductivity import Conductivity as Conductivity
from cardiotwin.tissue.conductivity import Tissue as Tissue
from cardiotwin.tissue.sites import EndocardialSite as EndocardialSite
from cardiotwin.tissue.sites import sinus_rhythm as sinus_rhythm
from cardiotwin.tissue.stimulus import BoxStimulus as BoxStimulus
from cardiotwin.tissue.stimulus import FocalStimulus as FocalStimulus
from cardiotwin.tissue.stimulus import NodalStimulus as NodalStimulus
from cardiotwin.twin import Cells as Cells
from cardiotwin.twin import Twin as Twin
