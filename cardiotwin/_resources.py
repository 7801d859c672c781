"""Where the installed configuration files, label tables and meshes lie."""

from pathlib import Path

LABEL_TABLES = "labels"  # the folder of configs that is no group of settings
_PACKAGE = Path(__file__).resolve().parent


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


def label_tables() -> dict[str, Path]:
    """The label tables that are installed, by name."""
    return {file.stem: file for file in sorted((resource("configs") / LABEL_TABLES).glob("*.yaml"))}
