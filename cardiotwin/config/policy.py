"""What a configuration may say to Hydra itself.

Hydra instantiates launcher, sweeper and callbacks from its own part of the configuration, hands a
logging tree to ``logging.config`` (which calls what ``class`` and ``()`` name), sets environment
variables, and its cluster launchers write shell scripts. A file could use each of these to run
code, so this part is held to an allow-list before Hydra acts on it. Shell lines and environment
variables are accepted where the person at the keyboard typed them on the command line.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

_CORE = "hydra._internal.core_plugins"
_SUBMITIT = "hydra_plugins.hydra_submitit_launcher.submitit_launcher"

ALLOWED_TARGETS = {
    "launcher": (
        f"{_CORE}.basic_launcher.BasicLauncher",
        f"{_SUBMITIT}.LocalLauncher",
        f"{_SUBMITIT}.SlurmLauncher",
        "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    ),
    "sweeper": (f"{_CORE}.basic_sweeper.BasicSweeper",),
}
_ALLOWED_LOGGING = (
    "logging.StreamHandler",
    "logging.NullHandler",
    "logging.Formatter",
    "colorlog.ColoredFormatter",
)
_ALLOWED_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
_LOGGING_CALLS = ("class", "()", "queue", "listener")
_TYPED_ONLY = (
    ("job", "env_set"),
    ("launcher", "setup"),
    ("launcher", "srun_args"),
    ("launcher", "additional_parameters"),
    ("sweeper", "params"),  # becomes overrides, as if they had been typed
)
# Launchers write their values into a batch script: no white space, quotes or shell characters.
_SCRIPT_SAFE = re.compile(r"[\w.,:=@%/+*\[\]-]*")
_HYDRA_REFERENCE = re.compile(r"\$\{hydra[.:][\w.:]+\}")

Path = tuple[str, ...]


def check_hydra(hydra: Any, typed: Sequence[str]) -> None:
    """Refuse Hydra settings that could run code chosen by a file.

    Args:
        hydra: the ``hydra`` node of a composed configuration.
        typed: the overrides typed on the command line.

    Raises:
        ValueError: names the first offending key.
    """
    from omegaconf import OmegaConf

    tree = OmegaConf.to_container(hydra, resolve=False)
    if not isinstance(tree, dict):
        raise ValueError(f"hydra: {tree!r} is refused; expected a mapping")
    if tree.get("callbacks"):
        raise ValueError("hydra.callbacks: callbacks are not accepted in a configuration")
    recorded = [line for lines in (tree.get("overrides") or {}).values() for line in lines]
    if sorted(recorded) != sorted(typed):
        raise ValueError("hydra.overrides: this is Hydra's own record; a file may not set it")
    for path, value in _leaves(tree, ()):
        if "_target_" in path:
            _check_target(path, value)
        elif path[0] in ("job_logging", "hydra_logging"):
            _check_logging(path, value)
        elif path[0] in ("launcher", "sweeper", "job") and not _typed(path, typed):
            _check_setting(path, value)


def _leaves(node: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Every value that is not a mapping or list, with the keys that lead to it."""
    if isinstance(node, dict):
        for key, child in node.items():
            yield from _leaves(child, (*path, str(key)))
    elif isinstance(node, list):
        for child in node:
            yield from _leaves(child, path)
    else:
        yield path, node


def _typed(path: Path, typed: Sequence[str]) -> bool:
    """Whether the command line gave this value, by its own key or within a mapping above it."""
    lines = [line.lstrip("+") for line in typed]
    return any(
        line.startswith(f"hydra.{'.'.join(path[:depth])}=")
        and all(key in line for key in path[depth:])
        for depth in range(2, len(path) + 1)
        for line in lines
    )


def _check_target(path: Path, value: Any) -> None:
    allowed = ALLOWED_TARGETS.get(path[0], ()) if path[1:] == ("_target_",) else ()
    if value not in allowed:
        expected = " or ".join(allowed) if allowed else "no _target_ here"
        raise _refused(path, value, expected)


def _check_logging(path: Path, value: Any) -> None:
    if not isinstance(value, str):
        return
    if path[-1] in _LOGGING_CALLS and value not in _ALLOWED_LOGGING:
        raise _refused(path, value, f"one of {', '.join(_ALLOWED_LOGGING)}")
    if (value.startswith("ext://") and value not in _ALLOWED_STREAMS) or "${" in value:
        raise _refused(path, value, "plain text")


def _check_setting(path: Path, value: Any) -> None:
    if path[:2] in _TYPED_ONLY and value is not None:
        raise ValueError(
            f"hydra.{'.'.join(path)}: a file may not set this, since it runs on this machine as "
            f"you; give it on the command line (hydra.{'.'.join(path)}=...) if you want it"
        )
    if path[0] == "job" or value == "???":
        return
    # A reference may lead to a mapping with a _target_, unless it stays within this node.
    text = _HYDRA_REFERENCE.sub("", value) if isinstance(value, str) else ""
    if not _SCRIPT_SAFE.fullmatch(text):
        raise _refused(path, value, "letters, digits and plain punctuation, or typed yourself")


def _refused(path: Path, value: Any, expected: str) -> ValueError:
    return ValueError(f"hydra.{'.'.join(path)}: {value!r} is refused; expected {expected}")
