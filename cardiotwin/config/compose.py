"""Composing a configuration from the packaged groups, the user's folder and overrides."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cardiotwin._resources import resource
from cardiotwin.config.explain import explain
from cardiotwin.config.resources import register_resolvers

if TYPE_CHECKING:
    from omegaconf import DictConfig

ROOT = "config"


def load(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> "DictConfig":
    """Compose a configuration without running anything.

    Args:
        overrides: what would stand on the command line: ``"experiment=rodero"``,
            ``"solver.dt=0.02"``.
        config_dir: a folder of your own with the same groups (``mesh/mine.yaml``); its files add
            to the packaged ones.

    Returns:
        The configuration, with interpolations still in it.

    Raises:
        ValueError: an option that does not exist, an override that cannot be read, or a file that
            tries to run code through Hydra's own settings.
    """
    from omegaconf import open_dict

    config = compose(overrides, config_dir)
    with open_dict(config):
        del config["hydra"]
    return config


def compose(overrides: Sequence[str], config_dir: str | Path | None = None) -> "DictConfig":
    """Compose a configuration together with Hydra's own node.

    Args:
        overrides: as for `load`.
        config_dir: as for `load`.

    Returns:
        The configuration; ``config.hydra`` is Hydra's.
    """
    from hydra.types import RunMode

    loader = make_loader(config_dir)
    return loader.load_configuration(ROOT, list(overrides), RunMode.RUN)


def read_file(file: str | Path, overrides: Sequence[str] = ()) -> "DictConfig":
    """Read a whole configuration that a run kept (its ``config.yaml``).

    Args:
        file: the YAML file.
        overrides: ``"key=value"``; there are no groups to choose from.

    Returns:
        The configuration.

    Raises:
        ValueError: the file cannot be read or is no mapping, or an override is not of that form.
    """
    import yaml
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException
    from omegaconf import DictConfig, OmegaConf

    register_resolvers()
    try:
        config = OmegaConf.load(file)
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read as a configuration: {error}") from error
    except OverrideParseException as error:
        raise explain(error, None) from error
    if not isinstance(config, DictConfig) or "_target_" not in config or "hydra" in config:
        raise ValueError(f"{file}: expected the config.yaml of a run, with a _target_ at its root")
    for override in parsed:
        if override.is_delete() or override.is_sweep_override():
            raise ValueError(f"{override.input_line}: with --config, write key=value")
        OmegaConf.update(config, override.key_or_group, override.value(), force_add=True)
    return config


def make_loader(config_dir: str | Path | None = None) -> Any:
    """Make the guarded Hydra loader for the packaged configs and, after them, a user's folder.

    Args:
        config_dir: the user's folder.

    Returns:
        A ``GuardedLoader``.

    Raises:
        ValueError: the folder does not exist, or one of its files has a packaged file's name.
    """
    from hydra import version
    from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
    from hydra.core.plugins import Plugins
    from hydra.core.utils import setup_globals

    from cardiotwin.config.loader import GuardedLoader

    version.setbase("1.3")
    setup_globals()
    Plugins.instance()  # makes Hydra's own kinds of configuration source known
    packaged = resource("configs")
    path = ConfigSearchPathImpl()
    path.append("hydra", "pkg://hydra.conf")
    path.append("main", f"file://{packaged}")
    if config_dir is not None:
        own = _own_folder(Path(config_dir), packaged)
        path.append("user", f"file://{own}")
    path.append("schema", "structured://")
    return GuardedLoader(path)


def _own_folder(folder: Path, packaged: Path) -> Path:
    own = folder.expanduser().resolve()
    if not own.is_dir():
        raise ValueError(f"--config-dir {folder}: no such folder")
    for file in sorted(own.rglob("*.yaml")):
        name = file.relative_to(own)
        if (packaged / name).exists() and not own.samefile(packaged):
            raise ValueError(
                f"{file} has the name of a packaged configuration and would not be read; rename "
                f"it, then choose it with {name.parent}=<new name>"
            )
    return own
