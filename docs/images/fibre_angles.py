"""Draws fibre_angles.png: python docs/images/fibre_angles.py."""

from pathlib import Path

from cardiotwin.anatomy.fibre_profile import angle_profiles
from cardiotwin.anatomy.idealised import biventricle
from cardiotwin.config import build, load
from cardiotwin.results import fibre_angles
from cardiotwin.twin import Anatomy


def main() -> None:
    """The idealised heart with the angles of Doste et al."""
    anatomy, rule = Anatomy(biventricle(2.0)), build(load(["fibres=doste_base"]).fibres)
    fibres, wanted = rule.on(anatomy), rule.prescribed(anatomy)
    profiles = angle_profiles(anatomy.mesh, fibres, anatomy.fields, wanted)
    fibre_angles(Path(__file__).with_suffix(".png"), profiles)


if __name__ == "__main__":
    main()
