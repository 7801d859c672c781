"""What is wrong with a recording, each flaw by its name, before anything is measured on it."""

from typing import NamedTuple

import numpy as np

from cardiotwin.ecg.delineation import COARSEST_STEP
from cardiotwin.ecg.features import measurements
from cardiotwin.ecg.filters import BANDS, ECGFilter
from cardiotwin.ecg.leads import LEAD_NAMES
from cardiotwin.ecg.recordings import Recording
from cardiotwin.ecg.signals import median_beat, r_peaks
from cardiotwin.units import MS_PER_MIN, MS_PER_S

FLAT_RANGE = 0.02  # mV peak to peak between beats and over beats: below it a lead is not connected
LEAST_RANGE, MOST_RANGE = 0.1, 15.0  # mV, of the greatest lead without its wander
RAIL = 0.1  # of a lead's range, by which the limit of an amplifier lies off the lead's median
SATURATED_MS = 12.0  # at one extreme value without a change
SILENCE = 1e-3  # mV
HELD_MS = 40.0  # for which no lead changes: the device filled a gap
BALANCE = 0.15  # of the limb leads' own size, that may be left of I + III - II
LEAST_RR = 90.0  # ms between beats: shorter than any heart's, to see rates that are too high
RATES = (25.0, 250.0)  # beats a minute that a heart with a QRS can have
# Of a rate that is wrong by two. QRS and QTcF were 77 to 153 and 340 to 469 ms in 16 recordings.
SHORT_QRS, SHORT_QTC = 60.0, 310.0  # ms, either of them
LONG_QRS, LONG_QTC = 140.0, 510.0  # ms, both of them
OPPOSED = -0.35  # correlation of I with V5 + V6; 0.4 to 1 in 15 recordings with leads in place
MAINS = (50.0, 60.0)  # Hz
MAINS_SIZE = 0.03  # mV, amplitude of the mains from which on it is named


class Flaw(NamedTuple):
    """Something wrong with a recording.

    Attributes:
        kind: "missing leads", "gap", "sampling rate", "flat lead", "saturation", "unit",
            "limb leads", "arm leads swapped" or "mains".
        leads: the leads that have it; empty for all.
        message: what was found, what was expected, how to mend it.
        fatal: nothing should be measured before it is mended.
    """

    kind: str
    leads: tuple[str, ...]
    message: str
    fatal: bool


def check_recording(recording: Recording) -> list[Flaw]:
    """Name what is wrong with a recording.

    Args:
        recording: as `read_recording` gives it, unfiltered: filters hide saturation and flat leads.

    Returns:
        The flaws, the fatal ones first; none for a sound recording.
    """
    flaws = _missing(recording) + _gaps(recording)
    if not any(flaw.fatal for flaw in flaws):
        flaws += _rate(recording)
    if not any(flaw.fatal for flaw in flaws):
        flat = _flat(recording)
        flaws += flat + _held(recording) + _saturated(recording) + _units(recording)
        if not any(flaw.fatal for flaw in flaws):
            flaws += _limbs(recording) + _arms(recording) + _mains(recording) + _beats(recording)
    return sorted(flaws, key=lambda flaw: not flaw.fatal)


def require_sound(recording: Recording) -> list[Flaw]:
    """Refuse a recording that cannot be measured.

    Args:
        recording: unfiltered.

    Returns:
        The flaws that only need to be known.

    Raises:
        ValueError: with every fatal flaw.
    """
    flaws = check_recording(recording)
    fatal = [flaw for flaw in flaws if flaw.fatal]
    if fatal:
        raise ValueError("\n".join(f"{flaw.kind}: {flaw.message}" for flaw in fatal))
    return flaws


def _missing(recording: Recording) -> list[Flaw]:
    lacking = tuple(name for name in LEAD_NAMES if name not in recording.names)
    if not lacking:
        return []
    text = f"the recording lacks {', '.join(lacking)}. What needs them is not measured."
    return [Flaw("missing leads", lacking, text, False)]


def _gaps(recording: Recording) -> list[Flaw]:
    times, flaws = recording.t_ms, []
    for name, lead in zip(recording.names, recording.ecg.T, strict=True):
        gone = np.flatnonzero(~np.isfinite(lead))
        if len(gone):
            where = f"first at {times[gone[0]]:.0f} ms, last at {times[gone[-1]]:.0f} ms"
            text = f"{name} lacks {len(gone)} of {len(lead)} samples, {where}. Cut or mend them."
            flaws.append(Flaw("gap", (name,), text, True))
    steps = np.diff(times)
    if not np.isfinite(times).all() or steps.min() <= 0.0:
        return [*flaws, Flaw("gap", (), "the times do not increase; expected ms in order.", True)]
    usual = float(np.median(steps))
    wide = np.flatnonzero(steps > 1.5 * usual)
    if len(wide):
        text = (
            f"{len(wide)} gaps in time, first of {steps[wide[0]]:g} ms at {times[wide[0]]:.0f} ms "
            f"(samples are {usual:g} ms apart). Cut the recording there."
        )
        flaws.append(Flaw("gap", (), text, True))
    return flaws


def _rate(recording: Recording) -> list[Flaw]:
    step = float(np.median(np.diff(recording.t_ms)))
    if 0.05 <= step <= COARSEST_STEP * (1.0 + 1e-6):
        return []
    text = (
        f"{MS_PER_S / step:g} samples a second; expected 250 to 20000. Are the times in ms, and is "
        "the rate in the header right?"
    )
    return [Flaw("sampling rate", (), text, True)]


def _wander_free(recording: Recording) -> np.ndarray:
    """Signals without their slow wander, which would hide that a lead is flat."""
    from scipy.ndimage import median_filter  # slow to import

    step = float(np.median(np.diff(recording.t_ms)))
    stride = max(1, round(20.0 / step))
    coarse = recording.ecg[::stride]
    slow = median_filter(coarse, size=(max(3, round(600.0 / (stride * step)) | 1), 1))
    at = np.arange(len(recording.ecg))
    places = at[::stride]
    return recording.ecg - np.stack([np.interp(at, places, lead) for lead in slow.T], axis=1)


def _flat(recording: Recording) -> list[Flaw]:
    size = np.ptp(_wander_free(recording), axis=0)
    flat = tuple(
        name for name, value in zip(recording.names, size, strict=True) if value < FLAT_RANGE
    )
    # all leads small is another flaw: the unit
    if not flat or ((size < FLAT_RANGE).all() and (size > 0.0).all()):
        return []
    text = (
        f"{', '.join(flat)} varies by less than {FLAT_RANGE:g} mV. The electrode was off: leave "
        "the lead out."
    )
    return [Flaw("flat lead", flat, text, True)]


def _held(recording: Recording) -> list[Flaw]:
    """Stretches in which every lead keeps its value."""
    silent = (np.abs(recording.ecg) < SILENCE).all(axis=1)  # a simulated heart at rest
    first, last = _runs(_unchanged(recording) & ~silent)
    step = float(np.median(np.diff(recording.t_ms)))
    long = (last - first) * step >= HELD_MS
    flaws = []
    for start, end in zip(first[long], last[long], strict=True):
        inside = start > 0 and end < len(recording.t_ms)
        at = f"from {recording.t_ms[start]:.0f} ms for {(end - start) * step:.0f} ms"
        text = f"no lead changes {at}: the device filled a gap with its last value. " + (
            "Cut the recording there." if inside else "It lies at the end and does no harm."
        )
        flaws.append(Flaw("gap", (), text, bool(inside)))
    return flaws


def _unchanged(recording: Recording) -> np.ndarray:
    """Where all leads equal a neighbouring sample."""
    same = (np.diff(recording.ecg, axis=0) == 0.0).all(axis=1)
    return np.append(same, False) | np.append(False, same)


def _saturated(recording: Recording) -> list[Flaw]:
    step = float(np.median(np.diff(recording.t_ms)))
    moving = ~_unchanged(recording)
    flaws = []
    for name, lead in zip(recording.names, recording.ecg.T, strict=True):
        if np.ptp(lead) < FLAT_RANGE:
            continue
        far = RAIL * np.ptp(lead)  # what lies at the level of rest is no limit
        rails = [x for x in (lead.max(), lead.min()) if abs(x - np.median(lead)) > far]
        runs = [_runs((lead == extreme) & moving) for extreme in rails]
        longest = max((int((last - first).max(initial=0)) for first, last in runs), default=0)
        if longest * step >= SATURATED_MS:
            text = (
                f"{name} stays at its extreme value for {longest * step:.0f} ms: the amplifier was "
                "at its limit. Cut the recording or leave the lead out."
            )
            flaws.append(Flaw("saturation", (name,), text, True))
    return flaws


def _runs(hit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First index of each run of True, and the index after its last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], hit.astype(np.int8), [0]])))
    return edges[::2], edges[1::2]


def _units(recording: Recording) -> list[Flaw]:
    size = float(np.percentile(np.ptp(_wander_free(recording), axis=0), 75.0))
    if LEAST_RANGE <= size <= MOST_RANGE:
        return []
    guess = "uV read as mV" if size > MOST_RANGE else "V or mV read as uV or mV"
    text = (
        f"leads vary by {size:.3g} mV; expected {LEAST_RANGE:g} to {MOST_RANGE:g}. This looks like "
        f"{guess}: say the unit when reading (unit='uV')."
    )
    return [Flaw("unit", (), text, True)]


def _limbs(recording: Recording) -> list[Flaw]:
    if not {"I", "II", "III"} <= set(recording.names):
        return []
    one, two, three = (recording.ecg[:, recording.names.index(n)] for n in ("I", "II", "III"))
    left = float(np.std(one + three - two))
    own = float(np.std(np.stack([one, two, three]) - np.mean([one, two, three], axis=1)[:, None]))
    if left <= BALANCE * own:
        return []
    text = (
        f"I + III - II leaves {left / own:.0%} of the limb leads; it is zero by definition. Are "
        "the leads named rightly, recorded at once and in one unit?"
    )
    return [Flaw("limb leads", ("I", "II", "III"), text, False)]


def _arms(recording: Recording) -> list[Flaw]:
    """Right and left arm exchanged: I upside down against V5 and V6, aVR then upright."""
    if not {"I", "V5", "V6"} <= set(recording.names):
        return []
    level = _wander_free(recording)
    one, five, six = (level[:, recording.names.index(n)] for n in ("I", "V5", "V6"))
    likeness = float(np.corrcoef(one, five + six)[0, 1])
    if likeness > OPPOSED:
        return []
    skew = np.sum(level**3, axis=0)
    upright = "aVR" in recording.names and skew[recording.names.index("aVR")] > 0.0
    also = " and aVR upright" if upright else ""
    text = (
        f"I is upside down (correlation {likeness:.2f} with V5 + V6){also}: "
        "right and left arm are exchanged, or the heart is: dextrocardia, a large lateral infarct."
    )
    return [Flaw("arm leads swapped", ("I", "aVR"), text, False)]


def _mains(recording: Recording) -> list[Flaw]:
    step = float(np.median(np.diff(recording.t_ms)))
    count = len(recording.ecg)
    if count * step < MS_PER_S:
        return []
    # a window keeps the QRS, cut at the ends, from leaking into the line
    window = np.hanning(count)[:, None]
    spectrum = np.abs(np.fft.rfft(recording.ecg * window, axis=0)) * 2.0 / window.sum()
    frequency = np.fft.rfftfreq(count, step / MS_PER_S)
    flaws = []
    for mains in MAINS:
        near = np.abs(frequency - mains)
        if near.min() > 0.6:
            continue
        line = spectrum[near <= 0.6].max(axis=0)
        around = np.median(spectrum[(near > 1.5) & (near < 6.0)], axis=0)
        hit = (line > MAINS_SIZE) & (line > 6.0 * around)
        if hit.any():
            leads = tuple(name for name, bad in zip(recording.names, hit, strict=True) if bad)
            text = (
                f"{mains:g} Hz with up to {line.max():.2f} mV in {', '.join(leads)}. Filter it: "
                f"mains={mains:g}."
            )
            flaws.append(Flaw("mains", leads, text, False))
    return flaws


def _beats(recording: Recording) -> list[Flaw]:
    """Rates that no heart has: most often the sampling rate is wrong."""
    duration = float(recording.t_ms[-1] - recording.t_ms[0])
    peaks = r_peaks(recording.t_ms, recording.ecg, least_rr=LEAST_RR)
    if duration < 2.0 * MS_PER_S or len(peaks) < 3:
        return []
    rate = MS_PER_MIN / float(np.median(np.diff(peaks)))
    if RATES[0] <= rate <= RATES[1]:
        return _durations(recording)
    text = (
        f"{rate:.0f} beats a minute; expected {RATES[0]:g} to {RATES[1]:g}. Is the sampling rate "
        "in the header right?"
    )
    return [Flaw("sampling rate", (), text, False)]


def _durations(recording: Recording) -> list[Flaw]:
    """QRS and QT that hardly any heart has, as where the sampling rate is wrong by two."""
    low, high = BANDS["measurement"]
    step = float(np.median(np.diff(recording.t_ms)))
    band = ECGFilter(low, min(high, 0.4 * MS_PER_S / step))
    beat = median_beat(recording.t_ms, np.asarray(band(recording.t_ms, recording.ecg)))
    found = measurements(beat.t_ms, beat.ecg, recording.names, beat.rr_ms)
    qrs, qtc = found["qrs_duration_ms"], found["qtc_fridericia_ms"]
    if qrs is None or qtc is None:
        return []
    if qrs < SHORT_QRS or qtc < SHORT_QTC:
        way, cause = "short", "too high"
    elif qrs > LONG_QRS and qtc > LONG_QTC:
        way, cause = "long", "too low"
    else:
        return []
    text = (
        f"QRS {qrs:.0f} ms and QTc {qtc:.0f} ms (Fridericia) at {found['heart_rate_bpm']:.0f} "
        f"beats a minute are very {way}: is the sampling rate in the header {cause}, or is it the "
        "heart?"
    )
    return [Flaw("sampling rate", (), text, False)]
