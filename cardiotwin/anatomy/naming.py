"""Names of regions and surfaces: name maps of other programs, and this package's standard names."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_REGION_WORDS = {
    "lv": ("lv", "left ventricle", "left ventricular"),
    "rv": ("rv", "right ventricle", "right ventricular"),
}
_ATRIUM_WORDS = {
    "la": ("la", "left atrium", "left atrial"),
    "ra": ("ra", "right atrium", "right atrial"),
}
_WALL = ("", " myocardium", " wall", " free wall")
_SEPTUM = ("septum", "interventricular septum", "ventricular septum", "ivs")
_ENDO = ("endocardium", "endo", "endocardial surface")
_EPI = ("epicardium", "epi", "epicardial surface")
_BASE = ("base", "basal plane", "basal surface", "basal")
VALVES = ("mitral", "aortic", "tricuspid", "pulmonary")
_VALVE_ENDS = ("", " valve", " annulus", " ring", " valve plane", " valve ring", " valve annulus")
# At each valve: the endocardium it closes, and what begins behind it (words of names of regions).
VALVE_PLACES = {
    "mitral": ("endo_lv", _ATRIUM_WORDS["la"]),
    "aortic": ("endo_lv", ("aorta", "ascending aorta", "ao")),
    "tricuspid": ("endo_rv", _ATRIUM_WORDS["ra"]),
    "pulmonary": ("endo_rv", ("pulmonary artery", "pulmonary trunk", "pa")),
}


def _synonyms() -> tuple[dict[str, str], dict[str, str]]:
    regions: dict[str, str] = dict.fromkeys(_SEPTUM, "septum")
    surfaces: dict[str, str] = dict.fromkeys(_EPI, "epi")
    surfaces |= dict.fromkeys(_BASE, "base")
    for side, words in _REGION_WORDS.items():
        for word in words:
            regions |= {word + wall: side for wall in _WALL}
            for text in _ENDO:
                surfaces |= {f"{word} {text}": f"endo_{side}", f"{text} {word}": f"endo_{side}"}
            surfaces |= {f"{word} {text}": "epi" for text in _EPI}
            surfaces |= {f"{text} {word}": "epi" for text in _EPI}
    for word in _REGION_WORDS["rv"]:
        surfaces[f"{word} septum"] = "endo_rv"  # the right-ventricular side of the septum
    for side, words in _ATRIUM_WORDS.items():
        for word in words:
            regions |= {word + wall: side for wall in _WALL}
            for text in _ENDO:
                surfaces |= {f"{word} {text}": f"endo_{side}", f"{text} {word}": f"endo_{side}"}
    for valve in VALVES:
        surfaces |= {valve + end: valve for end in _VALVE_ENDS}
        side = "left" if valve in ("mitral", "aortic") else "right"
        # the ring of muscle around a valve, as ansys-health-heart names it
        surfaces[f"interface {side} ventricle myocardium {valve} valve plane"] = valve
    return regions, surfaces


_REGION_NAMES, _SURFACE_NAMES = _synonyms()


@dataclass(frozen=True)
class NameMap:
    """Names that replace labels, or names, of a file: label or name -> name."""

    regions: dict[str, str]
    surfaces: dict[str, str]


def standard_region(name: str) -> str:
    """This package's name for a region ("Left ventricle" -> "lv"); an unknown name is kept."""
    return _REGION_NAMES.get(_plain(name), name)


def standard_surface(name: str) -> str:
    """This package's name for a surface ("Right ventricle septum" -> "endo_rv")."""
    return _SURFACE_NAMES.get(_plain(name), name)


def leads_to(region: str, valve: str) -> bool:
    """Whether a region of any name is what begins behind a valve ("Left atrium": "mitral")."""
    return (
        _plain(region).removesuffix(" wall").removesuffix(" myocardium") in VALVE_PLACES[valve][1]
    )


def read_name_map(names: Any) -> NameMap:
    """Read what `read_mesh(names=...)` was given.

    Args:
        names: "standard" (only bring the file's own names to the standard ones); a mapping with
            "regions" and "surfaces", each label (or name) -> name; or a JSON file of such a
            mapping, or one with "_volume_id_to_name" and "_surface_id_to_name" (the
            ``*.namemap.json`` of ansys-health-heart).

    Raises:
        ValueError: the file is missing, is not JSON, or holds neither list.
    """
    if names == "standard":
        return NameMap({}, {})
    if isinstance(names, Mapping):
        where, content = "names", names
    else:
        where = str(names)
        content = _read_json(Path(names))
    lists = []
    for keys in (("regions", "_volume_id_to_name"), ("surfaces", "_surface_id_to_name")):
        found = [content[key] for key in keys if key in content]
        if found and not isinstance(found[0], Mapping):
            raise ValueError(f"{where}: {keys[0]!r} is no mapping of labels to names")
        lists.append({str(k): str(v) for k, v in (found[0] if found else {}).items()})
    if not any(lists):
        raise ValueError(
            f"{where}: neither 'regions' nor 'surfaces' (nor '_volume_id_to_name' and "
            f"'_surface_id_to_name') found among {sorted(map(str, content))[:10]}: give a mapping "
            'such as {"regions": {"1": "lv"}, "surfaces": {"10": "endo_lv"}}'
        )
    return NameMap(*lists)


def renamed(
    labels: np.ndarray, own: dict[int, str], given: dict[str, str], standard: Any
) -> tuple[np.ndarray, dict[int, str]]:
    """Apply given names to labels and bring all to the standard ones.

    Labels that end up with one name become one label, the smallest.

    Args:
        labels: labels of elements or faces.
        own: the file's names, label -> name.
        given: label or own name -> name.
        standard: `standard_region` or `standard_surface`.

    Returns:
        The labels, and label -> name for those that have one.
    """
    result, names, chosen = labels.copy(), {}, {}
    for label in np.unique(labels).tolist():
        name = given.get(str(label), given.get(own.get(label, ""), own.get(label)))
        if name is None:
            continue
        name = standard(name)
        target = chosen.setdefault(name, label)
        result[labels == label] = target
        names[target] = name
    return result, names


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: the name map cannot be read ({error})") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: the name map is a JSON {type(content).__name__}, not an object")
    return content


def _plain(name: str) -> str:
    """Lower case, words separated by one blank."""
    return re.sub(r"[\W_]+", " ", name).strip().lower()
