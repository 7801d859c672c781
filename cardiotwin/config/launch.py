"""Running one job, or one for each combination of swept values."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cardiotwin.config.compose import ROOT, compose, make_loader, read_file

if TYPE_CHECKING:
    from omegaconf import DictConfig

Job = Callable[["DictConfig"], Any]


def launch_one(
    job: Job,
    overrides: Sequence[str],
    config_dir: str | Path | None = None,
    *,
    config_file: str | Path | None = None,
    prefix: str = "",
) -> Any:
    """Compose or read one configuration, name its folder, and call the job with it.

    Args:
        job: called with the configuration (without Hydra's node); ``output.folder`` is filled in
            with ``runs/<experiment>/<date_time>`` where it was left open.
        overrides: as for `load`.
        config_dir: as for `load`.
        config_file: a whole configuration to read instead of composing one.
        prefix: put before the date in the folder's name.

    Returns:
        What the job returns.
    """
    from omegaconf import OmegaConf, open_dict

    from cardiotwin.config.loader import experiment_name

    if config_file is None:
        config = compose(overrides, config_dir)
        name = experiment_name(config)
    else:
        config = read_file(config_file, overrides)
        name = Path(config_file).stem
    with open_dict(config):
        if OmegaConf.select(config, "output.folder") is None:
            moment = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
            OmegaConf.update(config, "output.folder", f"runs/{name}/{prefix}{moment}")
        config.pop("hydra", None)
    return job(config)


def launch_sweep(job: Job, overrides: Sequence[str], config_dir: str | Path | None = None) -> None:
    """Run one job for each combination of the swept values, through Hydra's launcher.

    Every combination is composed and checked before the first job starts.

    Args:
        job: called with each job's configuration; each has its own ``output.folder``, named by
            the swept values, below the sweep's folder.
        overrides: as for `load`; ``key=a,b`` sweeps.
        config_dir: as for `load`.
    """
    from hydra._internal.hydra import Hydra
    from hydra.core.global_hydra import GlobalHydra

    hydra = Hydra(task_name="cardiotwin", config_loader=make_loader(config_dir))
    GlobalHydra.instance().initialize(hydra)
    try:
        hydra.multirun(config_name=ROOT, task_function=job, overrides=list(overrides))
    finally:
        GlobalHydra.instance().clear()
