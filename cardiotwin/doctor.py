"""What works on this machine: the report of ``cardiotwin doctor``."""

import dataclasses
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from cardiotwin import session
from cardiotwin._memory import host_memory

Status = Literal["ok", "warning", "failed"]

# Releases of JAX that give wrong results for what this package does.
BAD_JAX = {
    "0.10.2": "miscompiles loops on the CPU (github.com/jax-ml/jax/issues/39103)",
    "0.11.0": "wrong float32 scatter on the GPU (github.com/jax-ml/jax/issues/38806)",
}
_VERSIONS = (
    "jax",
    "jaxlib",
    "equinox",
    "numpy",
    "scipy",
    "pyamg",
    "meshio",
    "h5py",
    "hydra-core",
    "pint",
    "matplotlib",
    "pyvista",
    "vtk",
    "plotly",
    "wfdb",
    "imageio-ffmpeg",
)
_SMALL_MEMORY = 4.0  # GiB
_SYMBOLS = {"ok": "ok  ", "warning": "warn", "failed": "FAIL"}
_GIB = 1024.0**3
_MIB = 1024.0**2
_KIB = 1024.0


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the report.

    ``status`` is "ok", "warning" (something optional is missing) or "failed" (runs will not work).
    """

    name: str
    status: Status
    text: str


def examine() -> list[Finding]:
    """Examine this machine and installation.

    Returns:
        The findings; any that failed means that ``cardiotwin simulate`` will not work.
    """
    checks: tuple[Callable[[], Iterable[Finding]], ...] = (
        _python,
        _packages,
        _jax_release,
        _devices,
        _float64,
        _cache,
        _renderer,
        _ffmpeg,
        _machine,
        _files,
        _data,
    )
    findings: list[Finding] = []
    for check in checks:
        try:
            findings.extend(check())
        except Exception as error:  # a check that breaks is itself a finding
            name = check.__name__.strip("_").replace("_", " ")
            findings.append(Finding(name, "failed", f"{type(error).__name__}: {error}"))
    return findings


def format_findings(findings: Iterable[Finding]) -> str:
    """Lay the findings out as text, one a line.

    Args:
        findings: as `examine` returns them.

    Returns:
        The text, with a verdict at its end.
    """
    rows = list(findings)
    width = max(len(row.name) for row in rows)
    lines = [f"{_SYMBOLS[row.status]}  {row.name:<{width}}  {row.text}" for row in rows]
    failed = sum(row.status == "failed" for row in rows)
    warned = sum(row.status == "warning" for row in rows)
    verdict = f"{failed} failed, {warned} warnings" if failed or warned else "everything works"
    return "\n".join([*lines, "", verdict])


def works(findings: Iterable[Finding]) -> bool:
    """Whether nothing failed.

    Args:
        findings: as `examine` returns them.
    """
    return all(finding.status != "failed" for finding in findings)


def _python() -> Iterable[Finding]:
    from cardiotwin._version import __version__

    yield Finding("cardiotwin", "ok", f"{__version__} in {Path(__file__).resolve().parent}")
    supported = (3, 11) <= sys.version_info[:2] <= (3, 13)
    note = "" if supported else "; 3.11 to 3.13 are supported"
    text = f"{platform.python_version()} on {platform.platform()}{note}"
    yield Finding("python", "ok" if supported else "warning", text)


def _packages() -> Iterable[Finding]:
    found, missing = [], []
    for name in _VERSIONS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    yield Finding("packages", "ok", ", ".join(found))
    if missing:
        text = f"{', '.join(missing)} not installed; pip install cardiotwin brings them"
        yield Finding("missing packages", "failed", text)


def _jax_release() -> Iterable[Finding]:
    version = importlib.metadata.version("jax")
    if version in BAD_JAX:
        text = f"{version} {BAD_JAX[version]}; pip install 'jax!={version}'"
        yield Finding("jax release", "failed", text)
    else:
        yield Finding("jax release", "ok", f"{version} has no defect known to matter here")


def _devices() -> Iterable[Finding]:
    import jax

    devices = jax.devices()
    kinds = sorted({f"{device.platform} ({device.device_kind})" for device in devices})
    yield Finding("devices", "ok", f"{len(devices)} x {', '.join(kinds)}")
    if devices[0].platform == "cpu" and shutil.which("nvidia-smi"):
        listing = _first_line(["nvidia-smi", "-L"])
        if listing.startswith("GPU"):
            text = f"{listing.split(' (')[0]} is unused; pip install 'cardiotwin[gpu]'"
            yield Finding("gpu", "warning", text)


def _float64() -> Iterable[Finding]:
    import jax
    import jax.numpy as jnp
    import numpy as np

    with jax.enable_x64(True):
        total = float(jax.jit(jnp.sum)(np.full(1000, 0.1, np.float64)))
    exact = abs(total - 100.0) < 1e-9
    text = "compiled and ran in 64 bits" if exact else f"a sum of 1000 x 0.1 gave {total!r}"
    yield Finding("float64", "ok" if exact else "failed", text)


def _cache() -> Iterable[Finding]:
    name = "compilation cache"
    folder = session.cache_folder()
    if folder is None:
        yield Finding(name, "ok", f"off ({session.CACHE_VARIABLE})")
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        text = f"{folder} cannot be written ({error}); set {session.CACHE_VARIABLE}"
        yield Finding(name, "warning", text)
        return
    files = [file for file in folder.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files) / _MIB
    yield Finding(name, "ok", f"{folder} ({len(files)} files, {size:.1f} MiB)")


def _renderer() -> Iterable[Finding]:
    import numpy as np

    from cardiotwin.anatomy.idealised import slab
    from cardiotwin.results.scene import activation_map

    block = slab((10.0, 10.0, 10.0), edge_length=2.5)
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "map.png"
        try:
            activation_map(picture, block, np.linalg.norm(block.points, axis=1))
        except (ImportError, OSError, RuntimeError) as error:
            text = f"runs work, without pictures and films: {type(error).__name__}: {error}"
            yield Finding("renderer", "warning", text)
            return
        size = picture.stat().st_size / _KIB
    yield Finding("renderer", "ok", f"drew an activation map ({size:.0f} KiB)")


def _ffmpeg() -> Iterable[Finding]:
    try:
        import imageio_ffmpeg

        program = imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        yield Finding("ffmpeg", "warning", f"no films: {error}; pip install imageio-ffmpeg")
        return
    version = _first_line([program, "-version"]).partition(" Copyright")[0]
    works = version.startswith("ffmpeg")
    text = version if works else f"{program} does not run; set IMAGEIO_FFMPEG_EXE to one that does"
    yield Finding("ffmpeg", "ok" if works else "warning", text)


def _machine() -> Iterable[Finding]:
    cores = session.cores()
    yield Finding("cores", "ok", "unknown on this system" if cores is None else f"{cores}")
    memory = host_memory()
    if memory is None:
        yield Finding("memory", "ok", "unknown on this system")
        return
    total, available = (size / _GIB for size in memory)
    enough = available >= _SMALL_MEMORY
    text = f"{available:.1f} GiB free of {total:.1f} GiB"
    if not enough:
        text += f"; the default run wants {_SMALL_MEMORY:.0f} GiB"
    yield Finding("memory", "ok" if enough else "warning", text)


def _files() -> Iterable[Finding]:
    from cardiotwin.config import resource

    folders = [str(resource(name)) for name in ("configs", "meshes")]
    yield Finding("configs and meshes", "ok", " and ".join(folders))


def _data() -> Iterable[Finding]:
    place = os.environ.get("CARDIOTWIN_DATA")
    if not place:
        text = "unset: experiments on real hearts (experiment=rodero) need it"
        yield Finding("CARDIOTWIN_DATA", "ok", text)
    elif Path(place).is_dir():
        names = sorted(entry.name for entry in Path(place).iterdir() if entry.is_dir())
        yield Finding("CARDIOTWIN_DATA", "ok", f"{place} ({', '.join(names) or 'empty'})")
    else:
        yield Finding("CARDIOTWIN_DATA", "warning", f"{place} is not a folder")


def _first_line(command: list[str]) -> str:
    """First line a program prints, or an empty text where it does not run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout.splitlines() or [""])[0]
