"""Hydra's configuration loader, guarded: every configuration it composes has passed `policy`.

Imported only where Hydra is used. The loader travels to the worker processes of a cluster launcher,
so the checks hold there too.
"""

import hashlib
import re
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from cardiotwin.config.explain import explain
from cardiotwin.config.policy import check_hydra
from cardiotwin.config.resources import register_resolvers
from cardiotwin.config.tree import check

_LONGEST_NAME = 120


class GuardedLoader(ConfigLoaderImpl):
    """Composes as Hydra does, then refuses what a file may not ask for.

    A value override may name a key that no file wrote out (``ionic.g_na=10``): whether it exists
    is decided by the constructor's signature, in `tree.check`, which also names the nearest one.
    """

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """Compose, with errors in our words; see Hydra's method for the arguments."""
        register_resolvers()
        try:
            parsed = OverridesParser.create().parse_overrides(overrides)
            lines = [self._with_new_keys(override) for override in parsed]
            config = super().load_configuration(
                config_name, lines, run_mode, from_shell, validate_sweep_overrides
            )
        except (HydraException, OmegaConfBaseException) as error:
            raise explain(error, self) from error
        check_hydra(config.hydra, lines)
        if run_mode == RunMode.MULTIRUN:
            self._place_sweep(config, parsed)
        return config

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: list[str]
    ) -> DictConfig:
        """Compose one job of a sweep, check it whole, and give it its own folder."""
        config = super().load_sweep_config(master_config, sweep_overrides)
        parent = master_config.output.folder
        name = sweep_name(list(master_config.hydra.overrides.task), sweep_overrides)
        with open_dict(config):
            config.output.folder = f"{parent}/{name}"
            config.hydra.sweep.dir = str(parent)
            config.hydra.sweep.subdir = name
        job = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        check(job)
        return config

    def _with_new_keys(self, override: Override) -> str:
        """Let a value override name a key that no file wrote out."""
        line = str(override.input_line)
        own = override.is_hydra_override() or "/" in override.key_or_group
        if own or override.type != OverrideType.CHANGE or override.package is not None:
            return line
        key = override.key_or_group
        if self.repository.group_exists(key):
            if isinstance(override.value(), int | float | dict):
                options = ", ".join(self.get_group_options(key))
                raise ValueError(f"{line}: {key} is a group; choose one of its options: {options}")
            return f"~{key}" if override.value() is None else line  # leads=null: nothing of it
        return "++" + line

    def _place_sweep(self, config: DictConfig, parsed: list[Override]) -> None:
        if any(o.key_or_group == "output.folder" and o.is_sweep_override() for o in parsed):
            raise ValueError("output.folder: it holds the whole sweep; give one folder")
        with open_dict(config):
            if config.output.folder is None:
                config.output.folder = f"runs/{experiment_name(config)}/sweep"
            config.hydra.sweep.dir = str(config.output.folder)


def experiment_name(config: DictConfig) -> str:
    """Name the chosen experiment as a folder; ``"all"`` where it is swept over.

    Args:
        config: a composed configuration with Hydra's node.

    Returns:
        The name.
    """
    choice = str(config.hydra.runtime.choices.get("experiment", "run"))
    return choice if re.fullmatch(r"[\w.-]+", choice) else "all"


def sweep_name(task: list[str], job: list[str]) -> str:
    """Name a job of a sweep by what was swept, the same in every invocation.

    Args:
        task: the overrides as typed (``"mesh=a,b"``).
        job: the overrides of this job (``"mesh=a"``).

    Returns:
        A folder name: the swept keys and values; where other overrides are present, or characters
        were replaced, a short hash of everything is added.
    """
    parsed = OverridesParser.create().parse_overrides(task)
    swept = {o.key_or_group for o in parsed if o.is_sweep_override()}
    lines = sorted(line.lstrip("+") for line in job)
    chosen = [line for line in lines if line.partition("=")[0] in swept]
    elsewhere = ("output.", "launcher=")  # they do not change what a job computes
    others = [line for line in lines if line not in chosen and not line.startswith(elsewhere)]
    text = ",".join(chosen) or "run"
    name = re.sub(r"[^\w.=,+-]", "_", text)[:_LONGEST_NAME]
    if name == text and not others:
        return name
    return f"{name}-{hashlib.sha256(repr((chosen, others)).encode()).hexdigest()[:8]}"


def groups(loader: Any) -> dict[str, list[str]]:
    """List the groups and their options.

    Args:
        loader: a loader.

    Returns:
        Options by group, without Hydra's own.
    """
    names = [n for n in loader.get_group_options("", ObjectType.GROUP) if n != "hydra"]
    return {name: loader.get_group_options(name) for name in names}
