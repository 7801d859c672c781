"""Names of installed files in configurations."""

from cardiotwin._resources import resource


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
