"""One of two processes that solve one problem together: python two_processes.py RANK PORT FILE."""

import sys

import jax
import numpy as np


def main(rank: int, port: str, path: str) -> None:
    """Join, solve on the devices of both, and write what the first process found."""
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_num_cpu_devices", 1)
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=rank)
    from spreads import OPTIONS, problem

    from cardiotwin.propagation.solve import solve

    assert jax.process_count() == 2
    assert len(jax.devices()) == 2
    saved, frames = [], []
    solution = solve(
        problem(),
        **OPTIONS,
        devices=2,
        on_frame=frames.append,
        on_checkpoint=saved.append,
        # the processes' clocks disagree: the first one decides
        checkpoint_seconds=0.0 if rank == 0 else 1e9,
    )
    found = {f"observed_{name}": np.asarray(x) for name, x in solution.observed.items()}
    found |= {f"leaf_{k:02d}": np.asarray(x) for k, x in enumerate(solution.final.leaves)}
    found["v"] = np.stack([np.asarray(frame.v) for frame in frames])
    found["saved"] = np.array([point.step for point in saved])
    found["last"] = saved[-1].leaves[0]
    np.savez(path, **found)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
