"""Conductivities of the layers of a heart."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import equinox as eqx
import numpy as np

from cardiotwin._types import MetresPerSecond as Velocity
from cardiotwin._types import Millimetres
from cardiotwin.anatomy.fibres import Fibres
from cardiotwin.propagation.velocity import VelocityTarget
from cardiotwin.tissue.conductivity import Conductivity, Tissue
from cardiotwin.tissue.sites import endocardial_layer
from cardiotwin.tissue.substrate import ScarConduction

from .anatomy import Anatomy
from .zones import BundleZone, ConductionZone


class FastEndocardium(eqx.Module):
    """A thin layer on the endocardium that conducts fast, in place of the Purkinje network.

    Args:
        velocity: of a plane wave in tissue like the layer's, in every direction; over slow
            tissue the thin layer carries the wave at about three quarters of it.
        thickness: elements whose centroid is nearer to the endocardium belong to the layer, as
            do all that touch it.
        up_to: apicobasal coordinate (0 apex, 1 base) where the layer ends.
    """

    velocity: float
    thickness: float
    up_to: float

    def __init__(
        self,
        velocity: Velocity = 2.2,
        thickness: Millimetres = 0.5,
        up_to: float = 1.0,
    ):
        if not (velocity > 0 and thickness >= 0 and 0 < up_to <= 1):
            raise ValueError(
                f"FastEndocardium: velocity {velocity} m/s and thickness {thickness} mm must be "
                f"positive, and up_to ({up_to}) between 0 and 1."
            )
        self.velocity, self.thickness, self.up_to = velocity, thickness, up_to


class Myocardium(eqx.Module):
    """Conductivities, membrane and target velocities of the tissue.

    Args:
        conductivity: by region name; "default" covers the rest. Those of the N-version benchmark
            when left out.
        chi: membrane area per volume.
        c_m: membrane capacitance.
        velocity: target velocities along fibre, sheet and normal; None leaves the conductivities
            as they are, whatever velocity the mesh makes of them.
        endocardium: fast layer; None for none. It needs `velocity`.
        zones: regions with velocities of their own, later ones on top; they need `velocity` too,
            and lie above the fast layer.
        scar: how scar and border zone of the mesh conduct; None conducts as if there were none.
    """

    conductivity: dict[str, Conductivity]
    chi: float
    c_m: float
    velocity: VelocityTarget | None
    endocardium: FastEndocardium | None
    scar: ScarConduction | None
    zones: tuple[ConductionZone | BundleZone, ...]

    def __init__(
        self,
        conductivity: Mapping[str, Conductivity] | None = None,
        chi: Annotated[float, "1/mm"] = 140.0,
        c_m: Annotated[float, "uF/mm^2"] = 0.01,
        velocity: Sequence[Velocity] | None = (0.6, 0.3, 0.3),
        endocardium: FastEndocardium | None = None,
        scar: ScarConduction | None = None,
        zones: Sequence[ConductionZone | BundleZone] | None = None,
    ):
        self.conductivity = dict(conductivity or {"default": Conductivity()})
        self.chi, self.c_m = chi, c_m
        fits = velocity is None or (
            len(velocity) == 3 and all(np.isfinite(v) and v > 0 for v in velocity)
        )
        if not fits:
            raise ValueError(
                f"Myocardium: velocity is {velocity}; give three velocities in m/s, all positive, "
                "along fibre, sheet and normal, or null for untuned conductivities."
            )
        if velocity is None and endocardium is not None:
            raise ValueError(
                "Myocardium: a fast endocardium is tuned to its velocity, but velocity is null. "
                "Give target velocities, or leave the layer out."
            )
        self.velocity = None if velocity is None else VelocityTarget(*map(float, velocity))
        self.endocardium, self.scar = endocardium, scar
        self.zones = tuple(zones or ())
        if velocity is None and self.zones:
            raise ValueError(
                "Myocardium: zones are tuned to their velocities, but velocity is null. Give "
                "target velocities, or leave the zones out."
            )

    def on(self, anatomy: Anatomy, fibres: Fibres) -> Tissue:
        """Lay the conductivities out over a mesh, untuned and without scar."""
        if self.scar is not None:
            self.scar.factors(anatomy.mesh)  # a mesh without scar is refused now, not after tuning
        return Tissue.by_region(anatomy.mesh, fibres, self.conductivity, chi=self.chi, c_m=self.c_m)

    def scarred(self, anatomy: Anatomy, tissue: Tissue) -> Tissue:
        """The tuned tissue with the scar in it, where there is one."""
        return tissue if self.scar is None else self.scar.on(anatomy.mesh, tissue)

    def layers(self, anatomy: Anatomy) -> dict[str, tuple[np.ndarray, VelocityTarget]]:
        """Masks [elements] and target velocities, the later ones on top."""
        if self.velocity is None:
            return {}
        everywhere = np.ones(len(anatomy.mesh.cells), bool)
        layers = {"myocardium": (everywhere, self.velocity)}
        if self.endocardium is not None:
            fast = endocardial_layer(
                anatomy.mesh,
                anatomy.fields,
                thickness=self.endocardium.thickness,
                up_to=self.endocardium.up_to,
            )
            layers["endocardium"] = (fast, VelocityTarget(*[self.endocardium.velocity] * 3))
        for number, zone in enumerate(self.zones, 1):
            layers[f"zone {number}"] = (zone.elements(anatomy), zone.velocity)
        return layers
