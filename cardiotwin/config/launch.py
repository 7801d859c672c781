"""Running one job, or one for each combination of swept values."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cardiotwin.config.compose import ROOT, compose, make_loader

if TYPE_CHECKING:
    from omegaconf import DictConfig

Job = Callable[["DictConfig"], Any]


def launch_one(
    job: Job, overrides: Sequence[str], config_dir: str | Path | None = None, *, prefix: str = ""
) -> Any:
    """Compose one configuration, name its folder, and call the job with it.

    Args:
        job: called with the configuration (without Hydra's node); ``output.folder`` is filled in
            with ``runs/<experiment>/<date_time>`` where it was left open.
        overrides: as for `load`.
        config_dir: as for `load`.
        prefix: put before the date in the folder's name.

    Returns:
        What the job returns.
    """
    from omegaconf import open_dict

    from cardiotwin.config.loader import experiment_name

    config = compose(overrides, config_dir)
    with open_dict(config):
        if config.output.folder is None:
            moment = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
            config.output.folder = f"runs/{experiment_name(config)}/{prefix}{moment}"
        del config["hydra"]
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
