"""Conductivities by region, and the diffusion tensor they give."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import equinox as eqx
import numpy as np
from jaxtyping import Float

from cardiotwin._types import MillisiemensPerMillimetre as Siemens
from cardiotwin._types import type_array
from cardiotwin.anatomy.fibres import Fibres
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.numerics.concrete import known, library, number, numbers


class Conductivity(eqx.Module):
    """Intra- and extracellular conductivities along fibre, sheet and normal, in S/m (= mS/mm).

    The defaults are those of the N-version benchmark (Niederer et al. 2011,
    doi 10.1098/rsta.2011.0139), transversely isotropic. Leave `*_normal` out for equal
    conductivities across the fibres.
    """

    intra_fibre: float | type_array
    intra_sheet: float | type_array
    intra_normal: float | type_array
    extra_fibre: float | type_array
    extra_sheet: float | type_array
    extra_normal: float | type_array

    def __init__(
        self,
        intra_fibre: Siemens = 0.17,
        intra_sheet: Siemens = 0.019,
        intra_normal: Siemens | None = None,
        extra_fibre: Siemens = 0.62,
        extra_sheet: Siemens = 0.24,
        extra_normal: Siemens | None = None,
    ):
        self.intra_fibre, self.intra_sheet = intra_fibre, intra_sheet
        self.intra_normal = intra_sheet if intra_normal is None else intra_normal
        self.extra_fibre, self.extra_sheet = extra_fibre, extra_sheet
        self.extra_normal = extra_sheet if extra_normal is None else extra_normal
        for name, given in vars(self).items():
            value = known(given)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise ValueError(
                    f"Conductivity: {name} is {value} S/m; every conductivity must be positive, or "
                    "the tensor is not positive definite. Take the region out of the mesh if it "
                    "does not conduct."
                )

    @property
    def intracellular(self) -> Float[type_array, " 3"]:
        """[3] mS/mm along fibre, sheet, normal."""
        return numbers([self.intra_fibre, self.intra_sheet, self.intra_normal])

    @property
    def extracellular(self) -> Float[type_array, " 3"]:
        """[3] mS/mm along fibre, sheet, normal."""
        return numbers([self.extra_fibre, self.extra_sheet, self.extra_normal])


class Tissue(eqx.Module):
    """Fibres, conductivities and membrane of a mesh.

    `tuning` multiplies the principal diffusivities and nothing else. It makes the conduction
    velocity right on a given mesh (see `cardiotwin.tune`), while the intracellular conductivity,
    and with it the strength of the ECG's sources, keeps its physical value.
    """

    fibres: Fibres
    intracellular: Float[type_array, "elements 3"]  # mS/mm along fibre, sheet, normal
    extracellular: Float[type_array, "elements 3"]
    tuning: Float[type_array, "elements 3"]
    chi: float | type_array  # membrane area per volume, 1/mm
    c_m: float | type_array  # membrane capacitance, uF/mm2

    def __init__(
        self,
        fibres: Fibres,
        intracellular: np.ndarray,
        extracellular: np.ndarray,
        tuning: np.ndarray | None = None,
        chi: Annotated[float, "1/mm"] = 140.0,
        c_m: Annotated[float, "uF/mm^2"] = 0.01,
    ):
        elements = len(fibres.fibre)
        self.fibres = fibres
        self.intracellular = _principal("intracellular conductivity", intracellular, elements)
        self.extracellular = _principal("extracellular conductivity", extracellular, elements)
        ones = np.ones((elements, 3))
        self.tuning = _principal("tuning", ones if tuning is None else tuning, elements)
        for name, given in (("chi", chi), ("c_m", c_m)):
            value = known(given)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise ValueError(f"Tissue: {name} is {value}; give a positive number.")
        self.chi, self.c_m = number(chi), number(c_m)

    @classmethod
    def by_region(
        cls,
        mesh: Mesh | Voxels,
        fibres: Fibres,
        conductivity: Conductivity | Mapping[str, Conductivity] | None = None,
        *,
        chi: float = 140.0,
        c_m: float = 0.01,
    ) -> "Tissue":
        """Lay conductivities out over the regions of a mesh.

        Args:
            mesh: its regions name the keys of `conductivity`.
            fibres: one frame an element.
            conductivity: one for all, or one a region name; the key "default" covers the rest.
            chi: membrane area per volume, 1/mm.
            c_m: membrane capacitance, uF/mm2.
        """
        if conductivity is None or isinstance(conductivity, Conductivity):
            conductivity = {"default": conductivity or Conductivity()}
        names = dict(mesh.region_names)
        present = {int(r): names.get(int(r), str(int(r))) for r in np.unique(mesh.regions)}
        unknown = set(conductivity) - set(present.values()) - {"default"}
        if unknown:
            raise ValueError(
                f"Conductivities are given for {sorted(unknown)}, but the mesh has the regions "
                f"{sorted(present.values())}. Use those names, or 'default'."
            )
        rows = []
        for name in present.values():
            chosen = conductivity.get(name, conductivity.get("default"))
            if chosen is None:
                raise ValueError(
                    f"No conductivity is given for region '{name}'. Add it, or a 'default'."
                )
            rows.append((chosen.intracellular, chosen.extracellular))
        table = numbers(rows)  # [regions, 2, 3]
        row = np.searchsorted(list(present), mesh.regions)
        return cls(fibres, table[:, 0][row], table[:, 1][row], chi=chi, c_m=c_m)

    def with_layer(self, elements: np.ndarray, conductivity: Conductivity) -> "Tissue":
        """Return the tissue with another conductivity in the elements of a mask [elements]."""
        here = np.asarray(elements)[:, None]
        layer, rest = (conductivity.intracellular, self.intracellular)
        outer, others = (conductivity.extracellular, self.extracellular)
        return replace(
            self,
            intracellular=library(layer, rest).where(here, layer[None], rest),
            extracellular=library(outer, others).where(here, outer[None], others),
        )

    def principal_diffusivity(self) -> Float[type_array, "elements 3"]:
        """Diffusivity along fibre, sheet and normal, mm2/ms, tuning included.

        The monodomain conductivity is the harmonic one, sigma_i sigma_e / (sigma_i + sigma_e).
        """
        sigma = self.intracellular * self.extracellular / (self.intracellular + self.extracellular)
        return self.tuning * sigma / (self.chi * self.c_m)

    def diffusion(self) -> Float[type_array, "elements 3 3"]:
        """Diffusion tensor of every element, mm2/ms."""
        return self._tensor(self.principal_diffusivity())

    def intracellular_tensor(self) -> Float[type_array, "elements 3 3"]:
        """Intracellular conductivity tensor of every element, mS/mm: the source of the ECG."""
        return self._tensor(self.intracellular)

    def _tensor(self, principal):
        axes = np.stack([self.fibres.fibre, self.fibres.sheet, self.fibres.normal], axis=1)
        return library(principal).einsum("ek,eki,ekj->eij", principal, axes, axes)


def _principal(name: str, values, elements: int):
    if np.shape(values) != (elements, 3):
        raise ValueError(
            f"Tissue: the {name} has shape {np.shape(values)}, expected ({elements}, 3): along "
            "fibre, sheet and normal of every element."
        )
    found = known(values)
    if found is not None:
        bad = np.flatnonzero(~np.all(np.isfinite(found) & (found > 0), axis=1))
        if bad.size:
            raise ValueError(
                f"Tissue: the {name} of {bad.size} elements is not positive definite, first "
                f"element {bad[0]}: {found[bad[0]]}. Every principal value must be positive."
            )
    return values
