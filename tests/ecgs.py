"""Synthetic beats and recordings of twelve leads, whose intervals are known."""

import numpy as np


def bump(t, start, end):
    inside = (t >= start) & (t <= end)
    return np.where(inside, 0.5 - 0.5 * np.cos(2 * np.pi * (t - start) / (end - start)), 0.0)


def beat(t, *, onset=0.0, axis=40.0):
    """A beat whose QRS lasts 90 ms and whose T wave runs from 230 to 390 ms after its onset."""
    early, late = bump(t, onset, onset + 50), bump(t, onset + 30, onset + 90)
    wave = bump(t, onset + 230, onset + 390)
    size = np.cos(np.deg2rad(axis)), np.sin(np.deg2rad(axis))
    one, foot = size[0], size[1] * np.sqrt(3) / 2
    two = foot + one / 2
    limb = [one, two, two - one, -(one + two) / 2, one - two / 2, foot]
    r, s = [0.2, 0.4, 0.8, 1.2, 1.4, 1.0], [1.0, 1.2, 1.0, 0.5, 0.2, 0.0]
    t_size = [-0.1, 0.3, 0.4, 0.4, 0.3, 0.2]
    ecg = [a * early + 0.3 * a * wave for a in limb]
    ecg += [a * early - b * late + c * wave for a, b, c in zip(r, s, t_size, strict=True)]
    return np.stack(ecg, axis=1)


def recording(beats=8, rr=800.0):
    t = np.arange(0.0, beats * rr, 2.0)
    noise = np.random.default_rng(4).normal(0.0, 0.02, (len(t), 12))
    wander = 0.3 * np.sin(2 * np.pi * 0.2 * t / 1000)[:, None]
    return t, sum(beat(t, onset=300 + k * rr) for k in range(beats - 1)) + noise + wander
