"""Cardiac electrophysiology in JAX: from a heart mesh to a beat, activation map and 12-lead ECG.

Research software, not a medical device.

Names are imported when they are first used, so that `cardiotwin --help` need not wait for JAX.
"""

from typing import TYPE_CHECKING, Any

from cardiotwin._version import __version__ as __version__

if TYPE_CHECKING:
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
    from cardiotwin.anatomy.purkinje import PurkinjeNetwork as PurkinjeNetwork
    from cardiotwin.anatomy.purkinje_files import read_purkinje as read_purkinje
    from cardiotwin.anatomy.purkinje_growth import grow_purkinje as grow_purkinje
    from cardiotwin.anatomy.voxels import Voxels as Voxels
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
    from cardiotwin.ionic.imported import read_cell_model as read_cell_model
    from cardiotwin.propagation.adjoint import Checkpointed as Checkpointed
    from cardiotwin.propagation.adjoint import Stored as Stored
    from cardiotwin.propagation.corrected import CorrectedDiffusion as CorrectedDiffusion
    from cardiotwin.propagation.ensemble import ensemble as ensemble
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
    from cardiotwin.tissue.purkinje import ConductionSystem as ConductionSystem
    from cardiotwin.tissue.sites import EndocardialSite as EndocardialSite
    from cardiotwin.tissue.sites import sinus_rhythm as sinus_rhythm
    from cardiotwin.tissue.stimulus import BoxStimulus as BoxStimulus
    from cardiotwin.tissue.stimulus import FocalStimulus as FocalStimulus
    from cardiotwin.tissue.stimulus import NodalStimulus as NodalStimulus
    from cardiotwin.twin import Cells as Cells
    from cardiotwin.twin import Twin as Twin

_HOMES = {
    "heart_axes": "cardiotwin.anatomy.coordinates",
    "ventricular_fields": "cardiotwin.anatomy.coordinates",
    "Fibres": "cardiotwin.anatomy.fibres",
    "fibres_from_mesh": "cardiotwin.anatomy.fibres",
    "ldrb": "cardiotwin.anatomy.fibres",
    "read_mesh": "cardiotwin.anatomy.formats",
    "write_mesh": "cardiotwin.anatomy.formats",
    "biventricle": "cardiotwin.anatomy.idealised",
    "slab": "cardiotwin.anatomy.idealised",
    "Mesh": "cardiotwin.anatomy.mesh",
    "PurkinjeNetwork": "cardiotwin.anatomy.purkinje",
    "read_purkinje": "cardiotwin.anatomy.purkinje_files",
    "grow_purkinje": "cardiotwin.anatomy.purkinje_growth",
    "Voxels": "cardiotwin.anatomy.voxels",
    "read_electrodes": "cardiotwin.ecg.electrodes",
    "measurements": "cardiotwin.ecg.features",
    "unbounded_lead_field": "cardiotwin.ecg.leadfield",
    "Leads": "cardiotwin.ecg.leads",
    "twelve_leads": "cardiotwin.ecg.leads",
    "place_electrodes": "cardiotwin.ecg.thorax",
    "BuenoOrovio": "cardiotwin.ionic",
    "MitchellSchaeffer": "cardiotwin.ionic",
    "TenTusscherPanfilov2006": "cardiotwin.ionic",
    "blend": "cardiotwin.ionic",
    "read_cell_model": "cardiotwin.ionic.imported",
    "Checkpointed": "cardiotwin.propagation.adjoint",
    "Stored": "cardiotwin.propagation.adjoint",
    "ensemble": "cardiotwin.propagation.ensemble",
    "ActivationTime": "cardiotwin.propagation.observe",
    "Probe": "cardiotwin.propagation.observe",
    "RepolarisationTime": "cardiotwin.propagation.observe",
    "Snapshots": "cardiotwin.propagation.observe",
    "Monodomain": "cardiotwin.propagation.problem",
    "CorrectedDiffusion": "cardiotwin.propagation.corrected",
    "ExplicitDiffusion": "cardiotwin.propagation.scheme",
    "Godunov": "cardiotwin.propagation.scheme",
    "ImplicitDiffusion": "cardiotwin.propagation.scheme",
    "Strang": "cardiotwin.propagation.scheme",
    "NonFiniteError": "cardiotwin.propagation.solve",
    "solve": "cardiotwin.propagation.solve",
    "VelocityTarget": "cardiotwin.propagation.velocity",
    "tune": "cardiotwin.propagation.velocity",
    "Conductivity": "cardiotwin.tissue.conductivity",
    "Tissue": "cardiotwin.tissue.conductivity",
    "ConductionSystem": "cardiotwin.tissue.purkinje",
    "EndocardialSite": "cardiotwin.tissue.sites",
    "sinus_rhythm": "cardiotwin.tissue.sites",
    "BoxStimulus": "cardiotwin.tissue.stimulus",
    "FocalStimulus": "cardiotwin.tissue.stimulus",
    "NodalStimulus": "cardiotwin.tissue.stimulus",
    "Cells": "cardiotwin.twin",
    "Twin": "cardiotwin.twin",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cardiotwin' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
