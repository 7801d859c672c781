"""A small cup-shaped heart with a plane wave over it, for the tests of the outputs."""

import numpy as np

from cardiotwin.anatomy.mesh import Mesh


def cup(around: int = 24, along: int = 14, through: int = 2) -> Mesh:
    """An ellipsoidal shell, open at the base and with a pinhole at the apex, base up along z."""
    r, t, p = np.meshgrid(
        np.linspace(0.0, 1.0, through + 1),
        np.linspace(0.05, 2.0, along + 1),
        np.linspace(0.0, 2 * np.pi, around, endpoint=False),
        indexing="ij",
    )
    radius, height = 22 + 10 * r, 42 + 10 * r
    points = np.stack(
        [radius * np.sin(t) * np.cos(p), radius * np.sin(t) * np.sin(p), -height * np.cos(t)], -1
    ).reshape(-1, 3)
    index = np.arange(len(points)).reshape(r.shape)
    index = np.concatenate([index, index[:, :, :1]], axis=2)
    corner = {
        (i, j, k): index[i : through + i, j : along + j, k : around + k].ravel()
        for i in (0, 1)
        for j in (0, 1)
        for k in (0, 1)
    }
    cells = []
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        at, path = [0, 0, 0], [corner[0, 0, 0]]
        for axis in order:
            at[axis] = 1
            path.append(corner[at[0], at[1], at[2]])
        cells.append(np.stack(path, 1))
    tets = np.concatenate(cells)
    edges = points[tets[:, 1:]] - points[tets[:, :1]]
    flip = np.linalg.det(edges) < 0
    tets[flip] = tets[flip][:, [0, 2, 1, 3]]
    regions = np.where(points[tets].mean(1)[:, 0] > 0, 1, 2)
    return Mesh(points, tets, regions, region_names={1: "lv", 2: "rv"})


def activation(mesh: Mesh) -> np.ndarray:
    """Times of a wave from one side of the apex, ms; NaN in a patch that never activates."""
    start = np.array([20.0, 0.0, -35.0])
    times = np.linalg.norm(mesh.points - start, axis=1) / 0.8
    patch = np.linalg.norm(mesh.points - np.array([0.0, -30.0, 0.0]), axis=1) < 9
    return np.where(patch, np.nan, times)


def voltage(times: np.ndarray, t: float) -> np.ndarray:
    """Transmembrane voltage at time t, mV: a smooth upstroke where the wave has passed."""
    since = np.clip((t - np.nan_to_num(times, nan=1e6)) / 1.5, -50.0, 50.0)
    return -85.0 + 115.0 / (1.0 + np.exp(-since))


LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def synthetic_ecg(t: np.ndarray, period: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
    """Times and twelve leads in mV: q, R, S and T waves of plausible size, every `period` ms."""
    waves = {  # time, width (ms), height in I, II, V1 ... V6
        "q": (12, 5, [-0.08, -0.05, 0.15, 0.2, 0.05, -0.05, -0.1, -0.1]),
        "R": (38, 11, [0.7, 1.1, 0.2, 0.45, 0.9, 1.6, 1.5, 1.1]),
        "S": (62, 10, [-0.1, -0.2, -1.0, -1.5, -1.0, -0.6, -0.25, -0.1]),
        "T": (300, 38, [0.2, 0.3, -0.05, 0.4, 0.45, 0.4, 0.3, 0.2]),
    }
    phase = np.mod(t, period)[:, None]
    independent = sum(
        np.array(height) * np.exp(-(((phase - at) / width) ** 2))
        for at, width, height in waves.values()
    )
    one, two = independent[:, 0], independent[:, 1]
    limb = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return t, np.column_stack([*limb, independent[:, 2:]])
