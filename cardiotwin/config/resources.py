"""Where the installed configuration files and meshes lie."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def resource(name: str) -> Path:
    """Find a folder of files installed with the package.

    A wheel carries the folder inside the package; in a checkout (editable install) it lies beside
    the package.

    Args:
        name: ``"configs"`` or ``"meshes"``.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: the installation is damaged.
    """
    checkout = _PACKAGE.parent
    candidates = [_PACKAGE / name]
    if (checkout / "pyproject.toml").exists():
        candidates.append(checkout / name)
    for folder in candidates:
        if folder.is_dir():
            return folder
    places = " and ".join(str(folder) for folder in candidates)
    raise FileNotFoundError(
        f"the folder {name!r} of cardiotwin is missing (looked for {places}); install it again"
    )


def packaged_file(name: str) -> str:
    """Resolve the interpolation ``${packaged:meshes/heart.vtu}`` to a path.

    Args:
        name: a path that starts with ``configs/`` or ``meshes/``.

    Returns:
        The absolute path, as text.

    Raises:
        ValueError: the path leaves the folder or does not exist.
    """
    top, _, rest = name.partition("/")
    if top not in ("configs", "meshes"):
        raise ValueError(f"${{packaged:{name}}} must start with configs/ or meshes/")
    folder = resource(top).resolve()
    path = (folder / rest).resolve()
    if not path.is_relative_to(folder) or not path.exists():
        raise ValueError(f"${{packaged:{name}}}: no such file in {folder}")
    return str(path)


def register_resolvers() -> None:
    """Make ``${packaged:...}`` known to OmegaConf (again in every worker process)."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("packaged", packaged_file, replace=True)
