"""Compiles JAX programs ahead of time for GPUs that are not there.

XLA's CUDA compiler needs a description of the GPU, not the GPU: `h100.txtpb` beside this file. The
plugin is in the wheels `jax-cuda12-plugin` and `jax-cuda12-pjrt` of jax's version, the device
library in `nvidia-cuda-nvcc-cu12`; how to install them beside the rest: benchmarks/README.md.
"""

import copy
import dataclasses
import importlib.util
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import hlo, thunks

TARGET = Path(__file__).parent / "h100.txtpb"
BANDWIDTH = 3.35e12  # bytes/s, H100 SXM
PLUGIN = "jax_plugins.xla_cuda12"


@dataclass
class Program:
    """A compiled program.

    Attributes:
        text: its HLO.
        module: the same, read.
        listed: what XLA lists to run, before thunks are put into command buffers.
        buffered: the same afterwards.
        memory: argument, output, alias and temporary bytes.
    """

    text: str
    module: hlo.Module
    listed: list[thunks.Thunk]
    buffered: list[thunks.Thunk]
    memory: dict[str, int]


def prepare(devices: int = 1) -> None:
    """Let JAX run on the CPU, and the plugin load without a driver; before JAX is imported.

    Args:
        devices: as how many devices the CPU is to count.
    """
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(devices))
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")


def available() -> bool:
    """Whether the compiler is installed."""
    return (
        importlib.util.find_spec("jax_plugins") is not None
        and importlib.util.find_spec(PLUGIN) is not None
    )


def h100s(count: int) -> list[Any]:
    """Devices of a node with `count` H100s, to compile for.

    Raises:
        ValueError: the compiler is not installed, or no such node exists.
    """
    import jax
    from jax.experimental import topologies

    if not 1 <= count <= 8:
        raise ValueError(f"A node has 1 to 8 H100s; {count} were asked for.")
    if not available():
        raise ValueError(
            f"{PLUGIN}, which compiles for GPUs, is not installed. Put it into a folder on "
            "PYTHONPATH: pip install --no-deps --target FOLDER "
            f"jax-cuda12-plugin=={jax.__version__} "
            f"jax-cuda12-pjrt=={jax.__version__} nvidia-cuda-nvcc-cu12"
        )
    described = topologies.get_topology_desc(
        "h100", "cuda", target_config=TARGET.read_text(), topology=f"1x{count}x1"
    )
    return list(described.devices)


def compile_ahead(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    *,
    devices: int = 1,
    donate: tuple[int, ...] = (),
) -> Program:
    """Compile a function of PyTrees for H100s.

    Args:
        function: to compile; its arrays are traced, everything else is static.
        arguments: what it would be called with; of arrays only shape, type and, on several
            devices, sharding are used.
        devices: number of H100s. Arguments for several must be spread over as many devices.
        donate: positions of the arguments whose memory the program may reuse.
    """
    import equinox as eqx
    import jax

    parts = [
        eqx.partition(argument, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
        for argument in moved(arguments, h100s(devices))
    ]

    def program(*arrays):
        whole = (eqx.combine(a, rest) for a, (_, rest) in zip(arrays, parts, strict=True))
        return eqx.filter(function(*whole), eqx.is_array)

    return compiled(jax.jit(program, donate_argnums=donate).lower(*(a for a, _ in parts)))


def moved(tree: Any, devices: list[Any]) -> Any:
    """A PyTree as it would be on other devices: shapes for arrays, their mesh for another."""
    import equinox as eqx
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

    from cardiotwin.numerics.shared import Shared

    def mesh_like(mesh: Mesh) -> Mesh:
        shape = mesh.devices.shape
        return Mesh(np.array(devices).reshape(shape), mesh.axis_names, axis_types=mesh.axis_types)

    def place(leaf: Any) -> Any:
        if len(devices) == 1:
            return SingleDeviceSharding(devices[0])
        there = getattr(leaf, "sharding", None)
        if isinstance(there, NamedSharding):
            return NamedSharding(mesh_like(there.mesh), there.spec)  # pyright: ignore[reportArgumentType]
        return NamedSharding(Mesh(np.array(devices), ("all",)), PartitionSpec())

    def move(value: Any) -> Any:
        if eqx.is_array(value):
            return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=place(value))
        if isinstance(value, Mesh):
            return mesh_like(value)
        if isinstance(value, Shared):
            # its structure holds the static fields of what it was made of
            numbered = jax.tree.unflatten(value.structure, range(len(value.places)))
            structure = jax.tree.structure(move(numbered))
            return Shared(tuple(map(move, value.held)), value.places, structure)
        if isinstance(value, eqx.Module):
            # static fields hold meshes too, which a map over leaves would not reach
            other = copy.copy(value)
            for name in (field.name for field in dataclasses.fields(value)):
                object.__setattr__(other, name, move(getattr(value, name)))
            return other
        if isinstance(value, dict):
            return {key: move(item) for key, item in value.items()}
        if isinstance(value, tuple | list):
            items = [move(item) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        return value

    return move(tree)


def compiled(lowered: Any) -> Program:
    """Compile a lowered program (`jax.jit(...).lower(...)`) and read what came out."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
        executable = lowered.compile(compiler_options=options)
        listed, buffered = (
            thunks.read(_only(Path(folder), f"*{name}.txt"))
            for name in ("thunk_sequence", "thunk_sequence_after_thunk_passes")
        )
    sizes = executable.memory_analysis()
    text = executable.as_text()
    return Program(
        text=text,
        module=hlo.parse(text),
        listed=listed,
        buffered=buffered,
        memory={
            name: getattr(sizes, f"{name}_size_in_bytes")
            for name in ("argument", "output", "alias", "temp")
        },
    )


def _only(folder: Path, pattern: str) -> str:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise ValueError(
            f"XLA wrote {len(found)} files {pattern} where one was expected; this version of jax "
            "dumps its programs in another way than those that this was written for."
        )
    return found[0].read_text()
