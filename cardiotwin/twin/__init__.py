"""The twin: a heart with its fibres, tissue, cells and stimulus, ready to be solved.

The small classes here say how each part is made on a mesh that is not known yet; `Twin.assemble`
makes them all.
"""

from cardiotwin.twin.anatomy import Anatomy as Anatomy
from cardiotwin.twin.assembly import Twin as Twin
from cardiotwin.twin.cells import MODELS as MODELS
from cardiotwin.twin.cells import Cells as Cells
from cardiotwin.twin.fibres import AnyFibres as AnyFibres
from cardiotwin.twin.fibres import AtrialRuleFibres as AtrialRuleFibres
from cardiotwin.twin.fibres import FibresFromFile as FibresFromFile
from cardiotwin.twin.fibres import FibresFromHeart as FibresFromHeart
from cardiotwin.twin.fibres import MeshFibres as MeshFibres
from cardiotwin.twin.fibres import RuleBasedFibres as RuleBasedFibres
from cardiotwin.twin.fibres import UniformFibres as UniformFibres
from cardiotwin.twin.fibres import has_walls as has_walls
from cardiotwin.twin.fibres import wall_angles as wall_angles
from cardiotwin.twin.folder import load_twin as load_twin
from cardiotwin.twin.folder import save_twin as save_twin
from cardiotwin.twin.myocardium import FastEndocardium as FastEndocardium
from cardiotwin.twin.myocardium import Myocardium as Myocardium
from cardiotwin.twin.rhythms import AnyRhythm as AnyRhythm
from cardiotwin.twin.rhythms import PlacedStimulus as PlacedStimulus
from cardiotwin.twin.rhythms import PurkinjeRhythm as PurkinjeRhythm
from cardiotwin.twin.rhythms import SinusNode as SinusNode
from cardiotwin.twin.rhythms import SinusRhythm as SinusRhythm
from cardiotwin.twin.zones import BundleZone as BundleZone
from cardiotwin.twin.zones import CellZone as CellZone
from cardiotwin.twin.zones import ConductionZone as ConductionZone
