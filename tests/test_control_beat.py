"""The control beat of a human heart in a body, and the same heart with bundle branches blocked."""

import numpy as np
import pytest

from cardiotwin.config import build, load
from cardiotwin.run import simulate

pytestmark = [pytest.mark.slow, pytest.mark.realdata]


@pytest.fixture(scope="module")
def beats(data, tmp_path_factory):
    """The ECG measurements of the beats by experiment, each solved once."""
    assert data.is_dir()
    kept = {}

    def beat(name):
        if name not in kept:
            experiment = build(load([f"experiment={name}", "output=numbers"]))
            folder = tmp_path_factory.mktemp(name)
            kept[name] = simulate(experiment, folder, progress=False)["ecg"]
        return kept[name]

    return beat


def test_the_control_beat_is_normal(beats):
    # Mason 2007, https://doi.org/10.1016/j.jelectrocard.2006.09.003
    ecg = beats("control")
    assert 69.0 <= ecg["qrs_duration_ms"] <= 109.0
    assert -40.0 <= ecg["qrs_axis_deg"] <= 91.0
    assert ecg["heart_rate_bpm"] == pytest.approx(60.0)
    assert 359.0 <= ecg["qtc_fridericia_ms"] <= 445.0
    assert ecg["outside_normal"] == []
    leads = ecg["leads"]
    assert 0.1 < leads["V1"]["r_mv"] < 0.5 * leads["V1"]["s_mv"]  # rS
    assert leads["V5"]["r_mv"] > 2.0 * leads["V5"]["s_mv"]  # R
    assert ecg["r_wave_progression"]["pattern"] == "normal"
    for name in ("I", "II", "V4", "V5", "V6"):
        assert leads[name]["t_polarity"] == "upright"
    for block in ecg["bundle_branch_block"].values():
        assert not block["met"]
    for wave in ("r_mv", "t_mv"):  # of plausible size
        assert 0.1 < max(abs(leads[name][wave]) for name in ("I", "II")) < 2.0


def test_left_bundle_branch_block_has_the_signs_of_the_textbook(beats):
    control, block = beats("control"), beats("lbbb")
    assert block["qrs_duration_ms"] >= 130.0
    assert block["qrs_duration_ms"] >= control["qrs_duration_ms"] + 30.0
    strauss = block["bundle_branch_block"]["lbbb"]
    assert strauss["met"]
    assert {"I", "V5", "V6"} & set(strauss["notched"])
    assert not block["bundle_branch_block"]["rbbb"]["met"]
    leads = block["leads"]
    for name in ("I", "V5", "V6"):  # R alone: no septal q, no S
        assert leads[name]["q_mv"] == 0.0
        assert leads[name]["s_mv"] < 0.1 * leads[name]["r_mv"]
    assert leads["V1"]["s_mv"] > 4.0 * leads["V1"]["r_mv"]  # QS or rS
    assert leads["V1"]["t_mv"] > 0.0  # against the QRS
    assert leads["V6"]["t_mv"] < 0.0


def test_right_bundle_branch_block_has_the_signs_of_the_textbook(beats):
    control, block = beats("control"), beats("rbbb")
    assert block["qrs_duration_ms"] >= max(120.0, control["qrs_duration_ms"] + 30.0)
    signs = block["bundle_branch_block"]["rbbb"]
    assert all(signs.values())  # rSR' in V1, wide S in I and V6
    assert not block["bundle_branch_block"]["lbbb"]["met"]
    assert np.sign(block["leads"]["V1"]["t_mv"]) < 0
