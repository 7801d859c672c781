"""What excites a heart, stated in its own terms."""

from collections.abc import Sequence
from typing import Literal

import equinox as eqx
import numpy as np

from cardiotwin._types import MetresPerSecond as Velocity
from cardiotwin._types import Millimetres, Milliseconds
from cardiotwin._types import MillivoltsPerMillisecond as Rate
from cardiotwin.anatomy.atria import sinus_node
from cardiotwin.anatomy.purkinje import PurkinjeNetwork
from cardiotwin.anatomy.purkinje_growth import FractalTree, grow_purkinje
from cardiotwin.anatomy.voxels import as_tetrahedra
from cardiotwin.tissue.places import VentricularSite, locate
from cardiotwin.tissue.purkinje import ConductionSystem
from cardiotwin.tissue.purkinje_stimulus import PurkinjeStimulus
from cardiotwin.tissue.sites import (
    DURRER_SITES,
    EndocardialSite,
    sinus_rhythm,
)
from cardiotwin.tissue.stimulus import AbstractStimulus, FocalStimulus, check_radius, check_train

from .anatomy import Anatomy


class SinusRhythm(eqx.Module):
    """Sinus-like activation from root nodes on the endocardium; see `sinus_rhythm`.

    Args:
        sites: root nodes; those of Durrer et al. 1970 when left out.
        radius: nodes of the inner half of the wall this near to a site are stimulated.
        delay: added to every onset, so that the beat starts after a stretch of rest.
        amplitude: of the stimulus.
        duration: of the stimulus.
        period: cycle length.
        count: number of beats.
    """

    sites: tuple[EndocardialSite, ...]
    radius: float
    delay: float
    amplitude: float
    duration: float
    period: float
    count: int = eqx.field(static=True)

    def __init__(
        self,
        sites: Sequence[EndocardialSite] | None = None,
        radius: Millimetres = 4.0,
        delay: Milliseconds = 0.0,
        amplitude: Rate = 50.0,
        duration: Milliseconds = 3.0,
        period: Milliseconds = 1000.0,
        count: int = 1,
    ):
        self.sites = tuple(DURRER_SITES if sites is None else sites)
        if not self.sites:
            raise ValueError("SinusRhythm: no sites; give at least one root node.")
        self.radius, self.delay, self.amplitude = radius, delay, amplitude
        self.duration, self.period, self.count = duration, period, count
        check_radius(self)
        check_train(self, [site.onset + delay for site in self.sites])

    def on(self, anatomy: Anatomy) -> AbstractStimulus:
        """Place the root nodes on a heart."""
        return sinus_rhythm(
            anatomy.mesh,
            anatomy.fields,
            sites=self.sites,
            radius=self.radius,
            delay=self.delay,
            amplitude=self.amplitude,
            duration=self.duration,
            period=self.period,
            count=self.count,
        )


class PurkinjeRhythm(eqx.Module):
    """Activation through Purkinje networks: the His bundle fires, and the junctions follow.

    Args:
        networks: read from files; when left out, those of the twin folder, or else grown on the
            heart.
        tree: how they grow.
        speed: along the networks.
        his_delay: from the His bundle to the root of every network.
        antegrade: delay at a junction from network to muscle.
        retrograde: delay at a junction from muscle to network; inf where muscle does not enter
            the networks, so that all of a blocked branch's network stays silent.
        block: "lv" or "rv", the bundle branch that is blocked.
        radius: nodes this near to a junction are stimulated, and at least the nearest four.
        delay: time at which the His bundle fires.
        amplitude: of the stimulus.
        duration: of the stimulus.
        period: cycle length.
        count: number of beats.
    """

    networks: tuple[PurkinjeNetwork, ...] | None
    tree: FractalTree
    speed: float
    his_delay: float
    antegrade: float
    retrograde: float
    block: str | None
    radius: float
    delay: float
    amplitude: float
    duration: float
    period: float
    count: int = eqx.field(static=True)

    def __init__(
        self,
        networks: Sequence[PurkinjeNetwork] | None = None,
        tree: FractalTree | None = None,
        speed: Velocity = 3.0,
        his_delay: Milliseconds = 0.0,
        antegrade: Milliseconds = 3.0,
        retrograde: Milliseconds = 1.0,
        block: Literal["lv", "rv"] | None = None,
        radius: Millimetres = 1.5,
        delay: Milliseconds = 0.0,
        amplitude: Rate = 50.0,
        duration: Milliseconds = 3.0,
        period: Milliseconds = 1000.0,
        count: int = 1,
    ):
        self.networks = None if networks is None else tuple(networks)
        self.tree = FractalTree() if tree is None else tree
        self.speed, self.his_delay, self.block = speed, his_delay, block
        self.antegrade, self.retrograde = antegrade, retrograde
        self.radius, self.delay, self.amplitude = radius, delay, amplitude
        self.duration, self.period, self.count = duration, period, count
        if block not in (None, "lv", "rv"):
            raise ValueError(f"PurkinjeRhythm: block is {block!r}; give 'lv', 'rv' or null.")
        check_radius(self)
        check_train(self, delay)

    def system(self, anatomy: Anatomy) -> ConductionSystem:
        """The networks of a heart with their speed and delays."""
        networks = anatomy.networks if self.networks is None else self.networks
        if networks is None:
            mesh = as_tetrahedra(anatomy.mesh)
            networks = grow_purkinje(mesh, fields=anatomy.fields, tree=self.tree)
        sides = [network.side for network in networks]
        if self.block is not None and self.block not in sides:
            raise ValueError(
                f"PurkinjeRhythm: block is {self.block!r}, but the networks have the sides "
                f"{sides}; give read_purkinje the side."
            )
        return ConductionSystem(
            networks,
            speed=self.speed,
            his_delay=[
                np.inf if side is not None and side == self.block else self.his_delay
                for side in sides
            ],
            antegrade=self.antegrade,
            retrograde=self.retrograde,
        )

    def on(self, anatomy: Anatomy) -> PurkinjeStimulus:
        """Let the junctions stimulate the muscle of a heart."""
        return PurkinjeStimulus(
            anatomy.mesh,
            self.system(anatomy),
            his=self.delay,
            radius=self.radius,
            amplitude=self.amplitude,
            duration=self.duration,
            period=self.period,
            count=self.count,
        )


class PlacedStimulus(eqx.Module):
    """Pacing at places in ventricular coordinates: the same configuration on every heart.

    Args:
        sites: where, and each one's onset.
        radius: of each sphere that is stimulated; an edge length or two, or no wave starts.
        amplitude: of the stimulus.
        duration: of the stimulus.
        period: cycle length.
        count: number of pulses.
    """

    sites: tuple[VentricularSite, ...]
    radius: float
    amplitude: float
    duration: float
    period: float
    count: int = eqx.field(static=True)

    def __init__(
        self,
        sites: Sequence[VentricularSite],
        radius: Millimetres = 3.0,
        amplitude: Rate = 50.0,
        duration: Milliseconds = 3.0,
        period: Milliseconds = 1000.0,
        count: int = 1,
    ):
        self.sites = tuple(sites)
        if not self.sites:
            raise ValueError("PlacedStimulus: no sites; give at least one.")
        self.radius, self.amplitude = radius, amplitude
        self.duration, self.period, self.count = duration, period, count
        check_radius(self)
        check_train(self, [site.onset for site in self.sites])

    def on(self, anatomy: Anatomy) -> AbstractStimulus:
        """Place the sites on a heart."""
        return FocalStimulus(
            locate(self.sites, anatomy.map),
            radius=self.radius,
            onset=[site.onset for site in self.sites],
            amplitude=self.amplitude,
            duration=self.duration,
            period=self.period,
            count=self.count,
        )


class SinusNode(eqx.Module):
    """The sinus node of a mesh of both atria, as a source on the right one.

    Args:
        site: where it lies [x, y, z]; see `sinus_node` when left out.
        radius: of the sphere that is stimulated; an edge length or two, or no wave starts.
        delay: time at which it fires.
        amplitude: of the stimulus.
        duration: of the stimulus.
        period: cycle length.
        count: number of beats.
    """

    site: tuple[float, float, float] | None
    radius: float
    delay: float
    amplitude: float
    duration: float
    period: float
    count: int = eqx.field(static=True)

    def __init__(
        self,
        site: tuple[Millimetres, Millimetres, Millimetres] | None = None,
        radius: Millimetres = 5.0,
        delay: Milliseconds = 0.0,
        amplitude: Rate = 50.0,
        duration: Milliseconds = 3.0,
        period: Milliseconds = 1000.0,
        count: int = 1,
    ):
        self.site, self.radius, self.delay = site, radius, delay
        self.amplitude, self.duration = amplitude, duration
        self.period, self.count = period, count
        check_radius(self)
        check_train(self, delay)

    def on(self, anatomy: Anatomy) -> AbstractStimulus:
        """Place it on a heart."""
        site = sinus_node(anatomy.atria) if self.site is None else np.array(self.site)
        return FocalStimulus(
            site[None],
            radius=self.radius,
            onset=self.delay,
            amplitude=self.amplitude,
            duration=self.duration,
            period=self.period,
            count=self.count,
        )


# Stimuli that are placed on a heart by its own coordinates.
AnyRhythm = SinusRhythm | PurkinjeRhythm | PlacedStimulus | SinusNode
