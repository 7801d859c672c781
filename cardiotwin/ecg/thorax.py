"""A typical thorax around a heart: where the nine electrodes go when none were recorded."""

import equinox as eqx
import numpy as np
from jaxtyping import Float

from cardiotwin.anatomy.coordinates import HeartAxes, heart_axes
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.ecg.clearance import check_clearance
from cardiotwin.ecg.electrodes import TWELVE_LEAD_ELECTRODES, Electrodes

# Position across the chest as a fraction of its half width, the left positive.
ACROSS = {
    "RA": -0.95,  # shoulder
    "LA": 0.95,
    "LL": 0.95,  # left hip
    "V1": -0.15,  # right border of the sternum
    "V2": 0.15,  # left border of the sternum
    "V3": 0.365,  # midway between V2 and V4
    "V4": 0.58,  # midclavicular line
    "V5": 0.80,  # anterior axillary line
    "V6": 1.0,  # midaxillary line
}


class Thorax(eqx.Module):
    """The trunk around the heart, and the heart's position and orientation in it.

    The cross-section is a superellipse |x|^n + |y|^n = 1. Lengths are for a heart with a
    ventricular wall of `wall_volume`; a smaller or larger heart gets a thorax scaled with the cube
    root of its volume, since heart mass is close to proportional to body mass.

    Width, depth and the heart's offsets are those of the Dalhousie torso at the level of the heart;
    the angles of the long axis are the means over 94 healthy volunteers of Engblom et al., Am
    Heart J 150:507-512 (2005), with standard deviations of 10 and 7 degrees. Together they incline
    the axis by 28 degrees to the transverse and 39 degrees to the frontal plane; Hoekema et al.,
    J Electrocardiol 32:137-148 (1999), measured 27 +- 9 and 38 +- 5.

    Attributes:
        width: left to right, mm.
        depth: front to back, mm.
        exponent: n of the superellipse; 2 is an ellipse, real chests are flatter in front.
        shoulder_height: of RA and LA above the heart's centre, mm.
        hip_depth: of LL below the heart's centre, mm.
        fourth_space_height: of the fourth intercostal space (V1, V2) above the heart's centre, mm.
        fifth_space_height: of the fifth intercostal space (V4 to V6) above the heart's centre, mm.
        heart_left: offset of the heart's centre to the left of the midline, mm.
        heart_anterior: offset of the heart's centre forward of the middle of the chest, mm.
        frontal_angle: of the long axis (base to apex) in the frontal plane, degrees below the
            horizontal towards the left, the convention of the electrical axis.
        transverse_angle: of the long axis in the transverse plane, degrees forward of the left.
        roll: turn of the right ventricle upwards about the long axis, degrees; at 0 the direction
            from the left to the right ventricle is horizontal.
        wall_volume: of the ventricles for which the lengths hold, mm3.
    """

    width: float = 330.0
    depth: float = 224.0
    exponent: float = 2.5
    shoulder_height: float = 180.0
    hip_depth: float = 170.0
    fourth_space_height: float = 42.0
    fifth_space_height: float = 18.0
    heart_left: float = 30.0
    heart_anterior: float = 37.0
    frontal_angle: float = 38.0
    transverse_angle: float = 46.0
    roll: float = 0.0
    wall_volume: float = 225e3

    def __check_init__(self):
        for name in ("width", "depth", "exponent", "wall_volume"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0.0):
                raise ValueError(f"Thorax: {name} is {value}; expected a positive number.")
        for name in ("frontal_angle", "transverse_angle"):
            value = getattr(self, name)
            if not abs(value) < 90.0:
                raise ValueError(
                    f"Thorax: {name} is {value}; expected degrees between -90 and 90, the apex "
                    "pointing left."
                )

    def heart_directions(self) -> Float[np.ndarray, "2 3"]:
        """Unit vectors base to apex and LV to RV along left, posterior and superior."""
        frontal, transverse, roll = np.deg2rad(
            [self.frontal_angle, self.transverse_angle, self.roll]
        )
        apex = np.array([1.0, -np.tan(transverse), -np.tan(frontal)])
        apex /= np.linalg.norm(apex)
        horizontal = np.cross(apex, [0.0, 0.0, 1.0])  # to the right and forward
        horizontal /= np.linalg.norm(horizontal)
        upwards = np.cross(horizontal, apex)
        return np.stack([apex, np.cos(roll) * horizontal + np.sin(roll) * upwards])

    def body_frame(self, axes: HeartAxes) -> Float[np.ndarray, "3 3"]:
        """Rows left, posterior and superior as unit vectors in the coordinates of the mesh."""
        apex, right = -_unit(axes.apex_to_base), _unit(axes.lv_to_rv)
        if abs(apex @ right) > 0.9:
            raise ValueError(
                "The heart's axes are nearly parallel: apex_to_base and lv_to_rv enclose "
                f"{np.rad2deg(np.arccos(abs(apex @ right))):.0f} degrees; expected about 90."
            )
        return _orthonormal(*self.heart_directions()).T @ _orthonormal(apex, right)

    def electrodes(self) -> Float[np.ndarray, "9 3"]:
        """Positions of RA, LA, LL, V1 to V6 from the heart's centre, in body coordinates, mm."""
        heights = {"RA": self.shoulder_height, "LA": self.shoulder_height, "LL": -self.hip_depth}
        heights |= dict.fromkeys(("V1", "V2"), self.fourth_space_height)
        heights |= dict.fromkeys(("V4", "V5", "V6"), self.fifth_space_height)
        heights["V3"] = (self.fourth_space_height + self.fifth_space_height) / 2.0
        positions = []
        for name in TWELVE_LEAD_ELECTRODES:
            across = ACROSS[name]
            on_front = name != "LL"  # the hip's electrode lies in the middle of the depth
            forward = (1.0 - abs(across) ** self.exponent) ** (1.0 / self.exponent)
            left = across * self.width / 2.0 - self.heart_left
            posterior = self.heart_anterior - forward * on_front * self.depth / 2.0
            positions.append([left, posterior, heights[name]])
        return np.array(positions)


def place_electrodes(
    mesh: Mesh | Voxels,
    *,
    axes: HeartAxes | None = None,
    thorax: Thorax | None = None,
    frame: Float[np.ndarray, "3 3"] | None = None,
    scale: float | None = None,
    clearance: float = 5.0,
) -> Electrodes:
    """Place the nine electrodes of the twelve leads around a heart that came without a torso.

    The heart's own axes are turned into the mean orientation of the human heart, which says where
    left, posterior and superior are; a typical thorax around the heart's centre does the rest.

    Args:
        mesh: the ventricles; their volume centroid is the heart's centre.
        axes: of the heart; by default `heart_axes(mesh)`, which asks for its labelled endocardia.
        thorax: size of the thorax and pose of the heart in it; by default a typical adult's.
        frame: rows left, posterior, superior in the coordinates of the mesh, for a mesh whose
            orientation in the body is known (the identity for CT coordinates LPS); `axes` is then
            not needed.
        scale: of all lengths of the thorax; by default the cube root of the ratio of the mesh's
            volume to `thorax.wall_volume`.
        clearance: least distance of an electrode from the tissue in mm.

    Returns:
        RA, LA, LL, V1 to V6 in the coordinates of the mesh.

    Raises:
        ValueError: for a frame that is not a rotation, axes that are parallel, and an electrode
            that would lie in or too near the heart.
    """
    thorax = Thorax() if thorax is None else thorax
    centre, frame, scale = heart_pose(mesh, thorax, axes=axes, frame=frame, scale=scale)
    electrodes = Electrodes(TWELVE_LEAD_ELECTRODES, centre + scale * thorax.electrodes() @ frame)
    check_clearance(mesh, electrodes, clearance)
    return electrodes


def heart_pose(
    mesh: Mesh | Voxels,
    thorax: Thorax,
    *,
    axes: HeartAxes | None = None,
    frame: Float[np.ndarray, "3 3"] | None = None,
    scale: float | None = None,
) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, "3 3"], float]:
    """Where the body lies around a heart; arguments as for `place_electrodes`.

    Returns:
        The heart's centre [3] in mm, the rows left, posterior and superior [3, 3], both in the
        coordinates of the mesh, and the scale of the thorax.
    """
    if frame is None:
        frame = thorax.body_frame(heart_axes(mesh) if axes is None else axes)
    else:
        frame = np.asarray(frame, np.float64)
        rotation = frame.shape == (3, 3) and np.allclose(frame @ frame.T, np.eye(3), atol=1e-6)
        if not rotation or np.linalg.det(frame) < 0.0:
            raise ValueError(
                f"The body's frame is {frame.tolist()}; expected a rotation whose rows are "
                "left, posterior and superior (a right-handed frame)."
            )
    volumes = mesh.volumes()
    centre = np.average(mesh.centroids(), axis=0, weights=volumes)
    if scale is None:
        scale = float(np.cbrt(volumes.sum() / thorax.wall_volume))
    return centre, frame, scale


def _unit(vector) -> np.ndarray:
    vector = np.asarray(vector, np.float64)
    length = np.linalg.norm(vector)
    if vector.shape != (3,) or not np.isfinite(length) or length == 0.0:
        raise ValueError(
            f"The heart's axes hold {vector.tolist()}; expected a vector [3] not zero."
        )
    return vector / length


def _orthonormal(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Rows: `first`, `second` made orthogonal to it, and their cross product."""
    second = second - (second @ first) * first
    second = second / np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)])
