"""Errors of Hydra and OmegaConf, rewritten for the person who typed the command."""

import re
from typing import Any

from cardiotwin.config.nearest import suggestion


def explain(error: Exception, loader: Any) -> ValueError:
    """Rewrite an error of Hydra or OmegaConf in our words, with the nearest valid name.

    Args:
        error: what was raised while composing.
        loader: the loader that raised it.

    Returns:
        An error to raise from it.
    """
    from hydra.errors import MissingConfigException, OverrideParseException

    text = str(error)
    if isinstance(error, OverrideParseException):
        return ValueError(
            f"cannot read the override {error.override!r}: write key=value, with quotes around "
            """values that hold special characters ('key="0.17 mS/cm^2"')"""
        )
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _no_such_option(error.missing_cfg_file, loader)
    found = re.search(r"[Cc]ould not override '([^']+)'", text)
    if found:
        return _no_such_group(found.group(1), loader)
    found = re.search(r"Ambiguous value for argument '([^']+)'", text)
    if found:
        return ValueError(
            f"{found.group(1).lstrip('+')}: several values; add -m to run one job for each, or "
            "write key=[value1,value2] for a list"
        )
    causes = [text] if text else []
    if error.__cause__ is not None and str(error.__cause__):
        causes.append(str(error.__cause__))
    return ValueError("cannot compose the configuration: " + "; ".join(map(_first_lines, causes)))


def _first_lines(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines()[:3])


def _no_such_option(missing: str, loader: Any) -> ValueError:
    group, _, name = missing.rpartition("/")
    if group.startswith("hydra/") and name.startswith("submitit"):
        return ValueError(
            f"{group}={name} needs the cluster extra: pip install 'cardiotwin[cluster]'"
        )
    options = loader.get_group_options(group) if group else []
    if not options:
        return _no_such_group(group or name, loader)
    listed = ", ".join(options)
    near = suggestion(name, options)
    return ValueError(f"{group}={name}: no such option; {group} has {listed}{near}")


def _no_such_group(name: str, loader: Any) -> ValueError:
    if name.startswith("hydra."):
        return ValueError(f"{name}: Hydra has no such setting (see --cfg hydra for those it has)")
    groups = [group for group in loader.list_groups("") if group != "hydra"]
    near = suggestion(name, groups)
    return ValueError(f"{name}: unknown key; the groups are {', '.join(groups)}{near}")
