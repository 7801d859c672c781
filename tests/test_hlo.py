"""Reading compiled programs: shapes, loops, launches, bytes; by hand and from the CPU compiler."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import hlo, hlo_cost, thunks

FOLDER = Path(__file__).parent / "programs"
# A loop of five trips over a gather, a slice and an update in place, a copy, a counter; a
# conditional; asynchronous collectives; a loop of unknown length with a callback and a scatter.
PROGRAM = (FOLDER / "by_hand.hlo").read_text()


@pytest.fixture(scope="module")
def module() -> hlo.Module:
    return hlo.parse(PROGRAM)


def test_text_is_read(module):
    assert module.entry.name == "main"
    loop = module.entry.instructions["loop"]
    assert loop.trips == 5
    assert loop.callees == {"condition": "condition", "body": "body"}
    assert [a.dims for a in loop.arrays] == [(), (100,), (300,), (4, 100)]
    assert module.entry.instructions["endless"].trips is None
    either = module.entry.instructions["either"]
    assert either.callees == {"branch 0": "cheap", "branch 1": "dear"}
    step = module.called(loop, "body").instructions["step"]
    assert step.operands == ("copy.1", "columns", "w", "i")
    assert step.op_name.endswith("(odd) name")
    assert step.bytes == 400 + 3200
    assert module.entry.instructions["home"].arrays[0].space == 5
    assert [p.name for p in module.called(step, "calls").parameters()] == [
        "p.0", "p.1", "p.2", "p.3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "bytes_"), [("pred", 10), ("bf16", 20), ("f64", 80), ("s4", 5), ("c64", 80)]
)
def test_sizes(dtype, bytes_):
    assert one_line(f"{dtype}[2,5]{{1,0:T(8,128)}} parameter(0)").bytes == bytes_


def one_line(rest: str) -> hlo.Instruction:
    return hlo.parse(f"ENTRY %m () -> f32[] {{\n  ROOT %p = {rest}\n}}").entry.root


def test_text_without_a_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY computation"):
        hlo.parse("HloModule nothing\n")
    with pytest.raises(ValueError, match="cannot be read"):
        one_line("f32[] parameter(0")
    with pytest.raises(ValueError, match="not known: 'weird'"):
        _ = one_line("weird[3] parameter(0)").bytes


def test_launches_and_bytes_of_a_loop(module):
    body = hlo_cost.cost(module, module.computations["body"])
    assert body.launches == {"copy": 1, "fill": 1, "fusion": 1, "scalar": 1}
    # copy: 400 in, 400 out. fill: 400 out. step: vector once, columns, one row of four, counter
    # in; a vector and one updated row out. counter: 4 in, 4 out
    assert body.bytes["read"] == 400 + (400 + 1200 + 400 + 4) + 4
    assert body.bytes["written"] == 400 + 400 + (400 + 400) + 4
    assert body.bytes["regathered"] == 1200 - 400
    assert body.findings == {hlo_cost.UPDATE: 1}
    five = hlo_cost.Cost()
    five.add(body, 5)
    loop = module.entry.instructions["loop"]
    others = frozenset(module.entry.instructions) - {loop.name}
    assert hlo_cost.cost(module, module.entry, leave_out=others) == five


def test_what_must_not_be_in_a_step_is_found(module):
    whole = hlo_cost.cost(module, module.entry)
    assert whole.findings[hlo_cost.UNKNOWN_LOOP] == 1
    assert whole.findings[hlo_cost.SCATTER] == 1
    assert whole.findings[hlo_cost.HOST_TRANSFER] == 2  # a callback, and a copy into host memory
    assert whole.findings[hlo_cost.CONDITIONAL] == 1
    assert whole.collectives == {"collective-permute": 400, "all-reduce": 400}
    assert whole.launches["collective"] == 2
    assert whole.launches["library call"] == 2  # the callback, and the predicate of the loop


def test_branch_of_a_conditional_can_be_chosen(module):
    others = frozenset(module.entry.instructions) - {"either"}
    chosen = [
        hlo_cost.cost(module, module.entry, leave_out=others, branch=lambda _, costs, k=k: costs[k])
        for k in (0, 1)
    ]
    assert [cost.moved for cost in chosen] == [0, 800]
    assert hlo_cost.cost(module, module.entry, leave_out=others).moved == 800


def test_gather_from_a_value_of_the_same_kernel_is_reported():
    text = PROGRAM.replace("gather(%p.0, %p.1)", "gather(%twice, %p.1)").replace(
        "  %p.1 = s32[300]{0} parameter(1)\n",
        "  %p.1 = s32[300]{0} parameter(1)\n  %twice = f32[100]{0} add(%p.0, %p.0)\n",
    )
    found = hlo_cost.cost(hlo.parse(text), hlo.parse(text).computations["body"]).findings
    assert found[hlo_cost.COMPUTED_GATHER] == 1


def compiled(function, *arguments) -> hlo.Module:
    return hlo.parse(jax.jit(function).lower(*arguments).compile().as_text() or "")


def test_cpu_program_with_nested_loops():
    def program(x):
        def inner(_, y):
            return jnp.sin(y) * 2.0

        return jax.lax.fori_loop(0, 7, lambda _, y: jax.lax.fori_loop(0, 3, inner, y) + 1.0, x)

    module = compiled(program, jnp.ones(1000, jnp.float32))
    loops = [i for i in hlo_cost.control(module, module.entry) if i.opcode == "while"]
    assert {loop.trips for loop in loops} == {3, 7}
    total = hlo_cost.cost(module, module.entry)
    assert not any(total.findings[evil] for evil in hlo_cost.EVILS)
    # at least 21 multiplications and 7 additions, each reading and writing the vector
    assert total.moved >= 28 * 8000


def test_cpu_program_with_a_loop_that_asks():
    module = compiled(
        lambda x: jax.lax.while_loop(lambda y: jnp.max(y) < 10.0, lambda y: y * 2.0, x), jnp.ones(9)
    )
    assert hlo_cost.cost(module, module.entry).findings[hlo_cost.UNKNOWN_LOOP] == 1


def test_cpu_program_with_a_callback():
    def program(x):
        return jax.pure_callback(
            lambda y: np.asarray(y) + 1, jax.ShapeDtypeStruct((9,), x.dtype), x
        )

    module = compiled(program, jnp.ones(9))
    assert hlo_cost.cost(module, module.entry).findings[hlo_cost.HOST_TRANSFER] == 1


def test_cpu_program_with_a_gather():
    columns = jnp.asarray(np.random.default_rng(0).integers(0, 1000, 5000), jnp.int32)
    module = compiled(
        lambda x, c: x.at[c].get(mode="promise_in_bounds"), jnp.ones(1000, jnp.float32), columns
    )
    total = hlo_cost.cost(module, module.entry)
    assert total.bytes["regathered"] == 4 * (5000 - 1000)
    assert total.findings[hlo_cost.SCATTER] == 0


THUNKS = (FOLDER / "by_hand.thunks").read_text()


def test_list_of_thunks_is_read():
    top = thunks.read(THUNKS)
    assert [t.kind for t in top] == ["Copy", "CommandBuffer", "Conditional", "Gemm"]
    assert thunks.kernels(top) == 12
    outer, inner = (t for t in thunks.walk(top) if t.kind == "While")
    assert [t.kind for t in outer.part("body")] == ["CommandBuffer", "While", "Memset"]
    assert [t.kind for t in inner.part("body")] == ["Copy"]
    assert [t.role for t in top[2].inner] == ["false_branch", "false_branch", "true_branch"]
    # copy, graph, (10 x (graph, 4 x copy, fill), copy) in the longer branch, product
    assert thunks.submissions(top, {id(outer): 10, id(inner): 4}) == 1 + 1 + (10 * 6 + 1) + 1


def test_asynchronous_thunks_are_counted_once():
    nested = "1: kAsyncStart []\n  2: kCollectivePermute []\n3: kAsyncDone []\n"
    beside = "1: kAsyncStart []\n2: kCollectivePermute []\n3: kAsyncDone []\n"
    for text in (nested, beside):
        assert thunks.kernels(thunks.read(text)) == 1
        assert thunks.submissions(thunks.read(text), {}) == 1
