"""What reverse mode keeps of a run: states at intervals, from which the rest is computed again.

A run of S steps in F frames keeps S / L states, one every L steps, and while it goes backwards
through such a segment the L states within it: 2 sqrt(S) states where L = sqrt(S), instead of all
that every step computes. Each step is then computed three times, once forwards, once from the kept
state and once with its derivative. Griewank and Walther, Evaluating Derivatives, 2nd ed.,
chapter 12.
"""

from abc import abstractmethod
from collections.abc import Callable
from math import isqrt
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from cardiotwin.numerics.target import on_gpu


class Plan(NamedTuple):
    """How the loops of a run are cut into segments that are computed again.

    A segment is so many frames (`group`), or so many steps of a frame (`segment`, then `group` is
    0). Nothing is computed again where `segment` is 0.
    """

    group: int
    segment: int

    def frames(self, body: Callable, carry: Any, count: int) -> tuple[Any, Any]:
        """Scan over the numbers of the frames; the body holds still from frame `count` on."""
        if not self.group:
            return jax.lax.scan(body, carry, jnp.arange(count))

        def group(carry, first):
            return jax.lax.scan(body, carry, first + jnp.arange(self.group))

        firsts = self.group * jnp.arange(-(-count // self.group))
        carry, kept = jax.lax.scan(self._recompute(group), carry, firsts)
        return carry, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:count], kept)

    def steps(self, body: Callable, carry: Any, trips: int, *, unroll: int) -> Any:
        """Loop over the steps of a frame."""
        body = self._recompute(body)
        if self.group or not 0 < self.segment < trips:
            return _loop(body, 0, trips, carry, unroll)
        whole, rest = divmod(trips, self.segment)

        def segment(k, carry):
            return _loop(body, k * self.segment, self.segment, carry, unroll)

        carry = _loop(self._recompute(segment), 0, whole, carry, 1)
        return _loop(body, whole * self.segment, rest, carry, unroll) if rest else carry

    def _recompute(self, body: Callable) -> Callable:
        # in the body of a loop there is nothing else that the compiler could share its values with
        return jax.checkpoint(body, prevent_cse=False) if self.segment else body


def _loop(body: Callable, first: Any, trips: int, carry: Any, unroll: int) -> Any:
    rest = trips % unroll
    if rest and not on_gpu():
        # no remainder is left over, which would be compiled once more; a GPU would copy the state
        # in every trip of a loop by one, in a kernel an array
        unroll, rest = 1, 0
    whole = trips - rest
    carry = jax.lax.fori_loop(0, whole, lambda i, c: body(first + i, c), carry, unroll=unroll)
    for i in range(whole, trips):
        carry = body(first + i, carry)
    return carry


FORWARD = Plan(0, 0)


class AbstractAdjoint(eqx.Module):
    """How reverse mode through `solve` trades memory for time."""

    @abstractmethod
    def plan(self, frames: int, steps: int) -> Plan:
        """Cut a run of so many frames, each of so many steps."""


class Checkpointed(AbstractAdjoint):
    """Keep a state every `interval` steps and compute the others again.

    Args:
        interval: steps between kept states; None takes the square root of the steps of the run,
            with which the memory is smallest.
    """

    interval: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.interval is not None and self.interval < 1:
            raise ValueError(
                f"Checkpointed: interval is {self.interval}; give 1 step or more, or leave it out."
            )

    def plan(self, frames: int, steps: int) -> Plan:
        """Cut a run so that the kept states are about `interval` steps apart."""
        wanted = self.interval or max(1, isqrt(frames * steps))
        segment = _near_divisor(min(wanted, steps), steps)
        if segment < steps:
            return Plan(0, segment)
        return Plan(_near_divisor(round(wanted / steps), frames), steps)


class Stored(AbstractAdjoint):
    """Keep all that the derivative of every step needs: fastest, for few nodes and steps."""

    def plan(self, frames: int, steps: int) -> Plan:
        """Cut nothing."""
        return FORWARD


def _near_divisor(wanted: int, total: int) -> int:
    """The divisor of `total` nearest to `wanted`, if it is near; otherwise `wanted` itself."""
    wanted = min(max(wanted, 1), total)
    divisors = [k for k in range(1, total + 1) if total % k == 0]
    best = min(divisors, key=lambda k: max(k / wanted, wanted / k))
    return best if max(best / wanted, wanted / best) <= 1.5 else wanted
