"""What the command line switches on for the whole process: 64-bit floats and the compilation cache.

The library itself never touches JAX's global settings; only the commands do, through `start`.
"""

import contextlib
import hashlib
import os
import platform
import sys
import warnings
from pathlib import Path

CACHE_VARIABLE = "CARDIOTWIN_CACHE"
_OFF = ("0", "off", "no", "false")
_SHORTEST_COMPILATION = 0.2  # seconds; quicker ones are not worth a file


def start(*, cache: bool = True, devices: int = 1) -> None:
    """Switch on 64-bit floats and the persistent compilation cache.

    Args:
        cache: whether compiled programs may be kept on disk.
        devices: into how many devices the processor is split, which JAX takes for one; an
            environment variable JAX_NUM_CPU_DEVICES goes before, and accelerators are left alone.
    """
    import jax

    jax.config.update("jax_enable_x64", True)
    if devices > 1 and "JAX_NUM_CPU_DEVICES" not in os.environ:
        # too late where JAX has started: the run then says how many devices there are
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", devices)
    folder = cache_folder() if cache else None
    if folder is None:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        warnings.warn(
            f"no compilation cache: {error}; set {CACHE_VARIABLE} to a folder you can write, or "
            "to 'off'",
            stacklevel=2,
        )
        jax.config.update("jax_enable_compilation_cache", False)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _SHORTEST_COMPILATION)


def cache_folder() -> Path | None:
    """Say where compiled programs are kept between runs.

    ``CARDIOTWIN_CACHE`` names another folder, or switches the cache off with ``off``;
    ``JAX_COMPILATION_CACHE_DIR`` is taken as it is. Otherwise the folder lies in the user's cache
    folder, one for each JAX version and kind of processor, since a home folder may be shared by
    machines that cannot run one another's programs.

    Returns:
        The folder (not created), or None where the cache is off.
    """
    chosen = os.environ.get(CACHE_VARIABLE, "")
    if chosen.lower() in _OFF:
        return None
    ready = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if ready and not chosen:
        return Path(ready)
    return _own_cache() / f"jax-{_jax_version()}-{_processor()}"


def results_folder() -> Path | None:
    """Say where results that never change (velocity curves, tunings) are kept between runs.

    Returns:
        The folder (not created), or None where ``CARDIOTWIN_CACHE`` switches the cache off.
    """
    if os.environ.get(CACHE_VARIABLE, "").lower() in _OFF:
        return None
    return _own_cache()


def _own_cache() -> Path:
    chosen = os.environ.get(CACHE_VARIABLE, "")
    return Path(chosen).expanduser() if chosen else _user_cache() / "cardiotwin"


def cores() -> int | None:
    """Processor cores that this process may use; None where the system does not say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _user_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _jax_version() -> str:
    from importlib.metadata import version

    return version("jax")


def _processor() -> str:
    """Name the processor and its instruction sets in a few characters."""
    text = platform.processor() or platform.machine()
    description = Path("/proc/cpuinfo")
    if description.exists():
        lines = description.read_text(errors="replace").splitlines()
        wanted = ("model name", "flags", "Features")
        text = "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
    return f"{platform.machine()}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
