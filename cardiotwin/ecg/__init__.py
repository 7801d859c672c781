"""From the transmembrane voltage to the twelve-lead ECG and what is measured on it."""

from cardiotwin.ecg.clearance import check_clearance as check_clearance
from cardiotwin.ecg.electrodes import TWELVE_LEAD_ELECTRODES as TWELVE_LEAD_ELECTRODES
from cardiotwin.ecg.electrodes import Electrodes as Electrodes
from cardiotwin.ecg.electrodes import read_electrodes as read_electrodes
from cardiotwin.ecg.electrodes import write_electrodes as write_electrodes
from cardiotwin.ecg.features import NORMAL_LIMITS as NORMAL_LIMITS
from cardiotwin.ecg.features import measurements as measurements
from cardiotwin.ecg.features import qrs as qrs
from cardiotwin.ecg.leadfield import AbstractVolumeConductor as AbstractVolumeConductor
from cardiotwin.ecg.leadfield import LeadField as LeadField
from cardiotwin.ecg.leadfield import UnboundedConductor as UnboundedConductor
from cardiotwin.ecg.leadfield import unbounded_lead_field as unbounded_lead_field
from cardiotwin.ecg.leads import LEAD_NAMES as LEAD_NAMES
from cardiotwin.ecg.leads import Leads as Leads
from cardiotwin.ecg.leads import twelve_leads as twelve_leads
from cardiotwin.ecg.signals import median_beat as median_beat
from cardiotwin.ecg.signals import read_recording as read_recording
from cardiotwin.ecg.thorax import Thorax as Thorax
from cardiotwin.ecg.thorax import place_electrodes as place_electrodes
