"""Ionic models of cardiac cells, time steps that suit them all, and pacing of single cells."""

from cardiotwin._types import param as param
from cardiotwin.ionic._base import AbstractIonicModel as AbstractIonicModel
from cardiotwin.ionic._base import Parameter as Parameter
from cardiotwin.ionic._base import blend as blend
from cardiotwin.ionic._base import heaviside as heaviside
from cardiotwin.ionic.aliev_panfilov import AlievPanfilov as AlievPanfilov
from cardiotwin.ionic.beeler_reuter_1977 import BeelerReuter1977 as BeelerReuter1977
from cardiotwin.ionic.biomarkers import MEASURES as MEASURES
from cardiotwin.ionic.biomarkers import action_potential_duration as action_potential_duration
from cardiotwin.ionic.biomarkers import biomarkers as biomarkers
from cardiotwin.ionic.bueno_orovio import BuenoOrovio as BuenoOrovio
from cardiotwin.ionic.courtemanche_1998 import Courtemanche1998 as Courtemanche1998
from cardiotwin.ionic.fenton_karma import FentonKarma as FentonKarma
from cardiotwin.ionic.fitzhugh_nagumo import FitzHughNagumo as FitzHughNagumo
from cardiotwin.ionic.generalised import generalised_rush_larsen as generalised_rush_larsen
from cardiotwin.ionic.luo_rudy_1991 import LuoRudy1991 as LuoRudy1991
from cardiotwin.ionic.mitchell_schaeffer import MitchellSchaeffer as MitchellSchaeffer
from cardiotwin.ionic.modified_mitchell_schaeffer import (
    ModifiedMitchellSchaeffer as ModifiedMitchellSchaeffer,
)
from cardiotwin.ionic.ohara_rudy_2011 import OHaraRudy2011 as OHaraRudy2011
from cardiotwin.ionic.ohara_rudy_cipa import OHaraRudyCiPA as OHaraRudyCiPA
from cardiotwin.ionic.pacing import pace as pace
from cardiotwin.ionic.pacing import record as record
from cardiotwin.ionic.pacing import single_cell as single_cell
from cardiotwin.ionic.pacing import steady_state as steady_state
from cardiotwin.ionic.stepping import rush_larsen as rush_larsen
from cardiotwin.ionic.stewart_2009 import Stewart2009 as Stewart2009
from cardiotwin.ionic.ten_tusscher_2006 import NIEDERER_STATE as NIEDERER_STATE
from cardiotwin.ionic.ten_tusscher_2006 import TenTusscherPanfilov2006 as TenTusscherPanfilov2006
from cardiotwin.ionic.ten_tusscher_restitution import (
    TenTusscherRestitution as TenTusscherRestitution,
)
from cardiotwin.ionic.tor_ord import ToRORdDynCl as ToRORdDynCl
