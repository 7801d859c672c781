import dataclasses
import errno
import io
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import h5py
import jax.numpy as jnp
import numpy as np
import pytest
from cup import LEADS, activation, cup, synthetic_ecg, voltage

from cardiotwin.results import _files, tables, vtkhdf
from cardiotwin.results.vtkhdf import VTKHDFWriter, read_steps

WFDB_USES_OLD_PANDAS_CALLS = pytest.mark.filterwarnings("ignore:The inplace keyword")


@pytest.fixture(scope="module")
def mesh():
    return cup()


@pytest.fixture(scope="module")
def times(mesh):
    return activation(mesh)


@pytest.fixture
def run_file(tmp_path, mesh, times):
    """Three steps of V and a vector field, written and closed."""
    fibre = np.tile([0.0, 0.0, 1.0], (len(mesh.cells), 1))
    path = tmp_path / "run.vtkhdf"
    with VTKHDFWriter(
        path, mesh, cell_data={"fibre": fibre}, point_data={"depth": mesh.points[:, 2]}
    ) as writer:
        for t in (0.0, 5.0, 10.0):
            v = voltage(times, t)
            writer.append(t, {"V": v, "flow": np.outer(v, [1.0, 0.0, 2.0])})
    return path


def test_vtk_reads_every_step_with_one_static_mesh(run_file, mesh, times):
    import pyvista as pv

    reader = pv.get_reader(run_file)
    assert reader.reader.GetNumberOfSteps() == 3
    addresses = set()
    for i, t in enumerate((0.0, 5.0, 10.0)):
        reader.reader.SetStep(i)
        grid = reader.read()
        v = voltage(times, t).astype(np.float32)
        assert grid.field_data["Time"][0] == t
        np.testing.assert_array_equal(grid.point_data["V"], v)
        np.testing.assert_allclose(grid.point_data["flow"][:, 2], 2 * v, rtol=1e-6)
        np.testing.assert_array_equal(grid.point_data["depth"], mesh.points[:, 2])
        np.testing.assert_array_equal(grid.cell_data["region"], mesh.regions)
        assert grid.cell_data["fibre"].shape == (len(mesh.cells), 3)
        np.testing.assert_array_equal(grid.points, mesh.points)
        np.testing.assert_array_equal(grid.cells_dict[10], mesh.cells)
        addresses.add(reader.reader.GetOutputDataObject(0).GetPoints().GetData().GetVoidPointer(0))
    assert len(addresses) == 1  # the mesh was read once


def test_reads_back_lazily_with_mesh_and_tables(run_file, mesh, times):
    with VTKHDFWriter.resume(run_file) as writer:
        for rows in (2, 5):  # the second replaces the first
            writer.write_table(
                "ecg", {"time_ms": np.arange(rows), "I": np.ones(rows)}, units={"I": "mV"}
            )
    with read_steps(run_file) as steps:
        assert len(steps) == 3
        assert set(steps.names) == {"V", "flow"}
        np.testing.assert_allclose(steps.frame(-1), voltage(times, 10.0), rtol=1e-6)
        assert [t for t, _ in steps.frames()] == [0.0, 5.0, 10.0]
        np.testing.assert_array_equal(steps.mesh().cells, mesh.cells)
        assert set(steps.mesh().cell_data) == {"fibre"}
        np.testing.assert_array_equal(steps.table("ecg")["time_ms"], np.arange(5))
        with pytest.raises(ValueError, match="holds 3 steps"):
            steps.frame(3)
        with pytest.raises(ValueError, match="it holds \\('V', 'flow'\\)"):
            steps.frame(0, "Vm")
        with pytest.raises(ValueError, match=r"holds \['ecg'\]"):
            steps.table("probes")


def test_sidecar_names_every_step(run_file):
    from xml.etree import ElementTree

    root = ElementTree.parse(run_file.with_suffix(".xdmf")).getroot()
    assert [float(t.get("Value")) for t in root.iter("Time")] == [0.0, 5.0, 10.0]
    locations = {item.text for item in root.iter("DataItem") if item.get("Format") == "HDF"}
    with h5py.File(run_file) as file:
        for location in locations:
            name, inside = location.split(":")
            assert name == run_file.name
            assert inside in file


def test_rounding_halves_the_file_at_a_known_error(tmp_path, mesh, times):
    rng = np.random.default_rng(0)
    sizes = {}
    for name, rounding in (("exact", {}), ("rounded", {"V": 1 / 64})):
        path = tmp_path / f"{name}.vtkhdf"
        with VTKHDFWriter(path, mesh, round_to=rounding) as writer:
            for t in range(20):
                v = voltage(times, t) + rng.normal(0, 0.5, len(times))
                writer.append(t, {"V": v})
        with read_steps(path) as steps:
            assert np.abs(steps.frame(-1) - v).max() <= (1 / 128 if rounding else 1e-5)
        with h5py.File(path) as file:
            sizes[name] = file["VTKHDF/PointData/V"].id.get_storage_size()
    assert sizes["rounded"] < 0.75 * sizes["exact"]


READ_ALL = """
    import sys
    import pyvista
    reader = pyvista.get_reader(sys.argv[1])
    for step in range(reader.reader.GetNumberOfSteps()):
        reader.reader.SetStep(step)
        print(float(reader.read().point_data["V"].sum()))
"""


def test_an_unfinished_step_harms_neither_vtk_nor_resume(run_file, mesh, times, monkeypatch):
    writer = VTKHDFWriter.resume(run_file)
    flush = writer._file.flush

    def flush_then_die():
        flush()
        raise KeyboardInterrupt

    monkeypatch.setattr(writer._file, "flush", flush_then_die)
    with pytest.raises(KeyboardInterrupt):
        writer.append(15.0, {"V": voltage(times, 15.0), "flow": np.zeros((len(times), 3))})
    monkeypatch.undo()
    writer._file.close()  # what the flush had written, and nothing after it
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(READ_ALL), str(run_file)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    sums = [float(line) for line in done.stdout.split()]
    for t, total in zip((0.0, 5.0, 10.0), sums, strict=True):
        assert total == pytest.approx(voltage(times, t).sum(), rel=1e-6)
    with read_steps(run_file) as steps:
        assert len(steps) == 3
    with VTKHDFWriter.resume(run_file) as writer:
        assert writer.times == [0.0, 5.0, 10.0]
    with h5py.File(run_file) as file:
        assert file["VTKHDF/Steps"].attrs["NSteps"] == 3
        assert len(file["VTKHDF/PointData/V"]) == 3 * len(mesh.points)


class Recorded(io.BytesIO):
    """A file in memory that keeps every write, in order."""

    def __init__(self, content: bytes):
        super().__init__(content)
        self.writes: list[tuple[int, bytes]] = []

    def write(self, data, /) -> int:
        self.writes.append((self.tell(), bytes(data)))
        return super().write(data)


@pytest.mark.parametrize("steps_before", [3, 256])  # at 256 the arrays begin another chunk
def test_no_write_of_a_step_shows_more_times_than_steps(tmp_path, mesh, monkeypatch, steps_before):
    path, v = tmp_path / "beat.vtkhdf", np.zeros(len(mesh.points))
    with VTKHDFWriter(path, mesh, sidecar=False) as writer:
        for t in range(steps_before):
            writer.append(float(t), {"V": v})
    disk = Recorded(path.read_bytes())
    monkeypatch.setattr(vtkhdf, "open_vtkhdf", lambda *_: h5py.File(disk, "r+"))
    monkeypatch.setattr(vtkhdf, "reserve", lambda *_: None)  # there is no file to grow
    with VTKHDFWriter.resume(path, sidecar=False) as writer:
        disk.writes.clear()
        image = bytearray(disk.getvalue())
        writer.append(float(steps_before), {"V": v + 1.0})
        writes = list(disk.writes)
    seen, changed = [], []
    for offset, data in writes:
        image[offset : offset + len(data)] = data
        with h5py.File(io.BytesIO(image)) as file:
            steps, field = file["VTKHDF/Steps"], file["VTKHDF/PointData/V"]
            shown = int(steps.attrs["NSteps"]), len(steps["Values"])
            if shown[0] > steps_before:  # the count promises whole data
                assert len(field) == len(v) * (steps_before + 1)
                assert (field[-len(v) :] == 1.0).all()
            if shown[1] > steps_before and steps_before % 256:  # at 256 its chunk follows
                assert steps["Values"][-1] == steps_before
        assert shown[1] <= shown[0]  # VTK 9.7 reads all times into room for so many steps
        if not seen or shown != seen[-1]:
            seen.append(shown)
            changed.append((offset, len(data)))
    with h5py.File(io.BytesIO(image)) as file:
        np.testing.assert_array_equal(file["VTKHDF/Steps/Values"], np.arange(steps_before + 1.0))
    before, after = steps_before, steps_before + 1
    assert seen == [(before, before), (after, before), (after, after)]
    # side by side: what reaches a disk gathers them to one write, so that no reader sees the middle
    assert sum(changed[1]) == changed[2][0]


def test_resume_drops_steps_after_the_checkpoint(run_file, mesh, times):
    with VTKHDFWriter.resume(run_file, until_ms=0.0) as writer:
        assert writer.times == [0.0]
        writer.append(7.5, {"V": voltage(times, 7.5), "flow": np.zeros((len(times), 3))})
    with read_steps(run_file) as steps:
        np.testing.assert_array_equal(steps.times, [0.0, 7.5])
        np.testing.assert_allclose(steps.frame(1), voltage(times, 7.5), rtol=1e-6)
    with h5py.File(run_file) as file:
        assert len(file["VTKHDF/PointData/V"]) == 2 * len(mesh.points)


KILLED = """
    import sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from cup import activation, cup, voltage
    from cardiotwin.results.vtkhdf import VTKHDFWriter
    mesh = cup()
    times = activation(mesh)
    writer = VTKHDFWriter({path!r}, mesh)
    for step in range(100_000):
        writer.append(float(step), {{"V": voltage(times, step)}})
        print(step, flush=True)
"""


def test_a_killed_run_leaves_a_file_that_opens_and_goes_on(tmp_path, mesh, times):
    import pyvista as pv

    path = tmp_path / "killed.vtkhdf"
    script = textwrap.dedent(KILLED.format(tests=str(Path(__file__).parent), path=str(path)))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if int(line) >= 30:
            break
    time.sleep(0.013)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with h5py.File(path) as file:
        count = int(file["VTKHDF/Steps"].attrs["NSteps"])
        assert len(file["VTKHDF/Steps/Values"]) in (count - 1, count)
    assert count > 30
    reader = pv.get_reader(path)
    assert reader.reader.GetNumberOfSteps() == count
    reader.reader.SetStep(count - 1)
    np.testing.assert_allclose(reader.read().point_data["V"], voltage(times, count - 1), rtol=1e-6)
    with VTKHDFWriter.resume(path) as writer:
        assert len(writer) in (count - 1, count)
        for step in range(len(writer), count + 1):
            writer.append(float(step), {"V": voltage(times, step)})
    with read_steps(path) as steps:
        assert len(steps) == count + 1
        for i in (0, count // 2, count):
            np.testing.assert_allclose(steps.frame(i), voltage(times, i), rtol=1e-6)


FULL = """
    import resource, sys
    sys.path.insert(0, {tests!r})
    import numpy as np
    from cup import cup
    from cardiotwin.results.vtkhdf import VTKHDFWriter
    mesh = cup(48, 24, 3)
    rng = np.random.default_rng(1)
    writer = VTKHDFWriter({path!r}, mesh, sidecar=False)
    limit = 1_500_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        for step in range(100_000):
            writer.append(float(step), {{"V": rng.normal(size=len(mesh.points))}})
    except OSError as error:
        print(type(error).__name__, len(writer), error)
    writer.close()
"""


def test_a_full_disk_is_a_clear_error_and_keeps_the_steps(tmp_path):
    path = tmp_path / "full.vtkhdf"
    script = textwrap.dedent(FULL.format(tests=str(Path(__file__).parent), path=str(path)))
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    kind, count, message = out.split(maxsplit=2)
    assert kind == "DiskFull"
    assert "can be read" in message
    assert "resume" in message
    with VTKHDFWriter.resume(path) as writer:
        assert len(writer) == int(count) > 10
        nodes = len(cup(48, 24, 3).points)
        writer.append(1e6, {"V": np.zeros(nodes)})
    with read_steps(path) as steps:
        assert np.isfinite(steps.frame(-2)).all()


def test_writer_refuses_what_does_not_fit(tmp_path, mesh, run_file):
    path = tmp_path / "bad.vtkhdf"
    with pytest.raises(ValueError, match="one row for each of the mesh's elements"):
        VTKHDFWriter(path, mesh, cell_data={"fibre": np.zeros((3, 3))})
    v = np.zeros(len(mesh.points))
    with VTKHDFWriter(path, mesh, point_data={"depth": v}) as writer:
        with pytest.raises(ValueError, match="one row a node"):
            writer.append(0.0, {"V": v[1:]})
        with pytest.raises(ValueError, match="static point field"):
            writer.append(0.0, {"depth": v})
        writer.append(0.0, {"V": v})
        with pytest.raises(ValueError, match="times must increase"):
            writer.append(0.0, {"V": v})
        with pytest.raises(ValueError, match="every step holds the same"):
            writer.append(1.0, {"V": v, "Ca": v})
        with pytest.raises(ValueError, match="expected one length"):
            writer.write_table("ecg", {"t": [1.0], "I": [1.0, 2.0]})
    with pytest.raises(ValueError, match="closed"):
        writer.append(2.0, {"V": v})
    with pytest.raises(ValueError, match="cannot be opened"):
        read_steps(tmp_path / "none.vtkhdf")
    with h5py.File(tmp_path / "other.h5", "w"):
        pass
    with pytest.raises(ValueError, match="not a VTKHDF file"):
        VTKHDFWriter.resume(tmp_path / "other.h5")


def test_atomic_write_keeps_the_old_file_when_the_disk_is_full(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write_half():
        with _files.atomic_path(target) as part:
            part.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(_files.DiskFull, match="unchanged"):
        write_half()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.fixture(scope="module")
def ecg():
    """Twelve leads of one synthetic beat, 450 ms at 2 ms."""
    return synthetic_ecg(np.arange(0.0, 451.0, 2.0))


def test_ecg_csv_states_its_units_and_reads_back(tmp_path, ecg):
    import pandas as pd

    t, values = ecg
    path = tables.write_ecg_csv(tmp_path / "ecg.csv", t, values, LEADS)
    assert path.read_text().splitlines()[1] == "# time in ms, leads in mV"
    table = pd.read_csv(path, comment="#")
    assert list(table.columns) == ["time_ms", *LEADS]
    np.testing.assert_allclose(table.to_numpy(), np.column_stack([t, values]), rtol=1e-6)
    with pytest.raises(ValueError, match="expected values of shape"):
        tables.write_ecg_csv(path, t, values.T, LEADS)


def test_probes_csv_quotes_labels(tmp_path):
    path = tables.write_probes_csv(
        tmp_path / "probes.csv", np.arange(3.0), np.zeros((3, 2)), ["apex, endo", "base"]
    )
    assert path.read_text().splitlines()[2] == 'time_ms,"apex, endo",base'


@WFDB_USES_OLD_PANDAS_CALLS
@pytest.mark.parametrize("rate", [500, 1000])
def test_wfdb_record_reads_back_within_a_microvolt(tmp_path, ecg, rate):
    t, values = ecg
    header = tables.write_wfdb(tmp_path, "beat", t, values, LEADS, rate_hz=rate)
    import wfdb

    assert sorted(os.listdir(tmp_path)) == ["beat.dat", "beat.hea"]
    record = wfdb.rdrecord(str(header.with_suffix("")))
    assert record.fs == rate
    assert record.sig_name == list(LEADS)
    assert record.units == ["mV"] * 12
    at = np.arange(record.sig_len) * 1000 / rate
    assert at[-1] == 450.0
    expected = np.stack([np.interp(at, t, lead) for lead in values.T], 1)
    np.testing.assert_allclose(record.p_signal, expected, atol=0.5001e-3)


@WFDB_USES_OLD_PANDAS_CALLS
def test_wfdb_takes_gaps_and_large_signals(tmp_path):
    t = np.arange(5.0)
    values = np.stack([[0.0, 1.0, np.nan, 3.0, 4.0], [0.0, -90.0, 0.0, 50.0, 0.0]], 1)
    header = tables.write_wfdb(tmp_path, "odd", t, values, ["I", "II"])
    import wfdb

    back = wfdb.rdrecord(str(header.with_suffix(""))).p_signal
    np.testing.assert_allclose(back, values, atol=5.001e-3)
    with pytest.raises(ValueError, match="must increase"):
        tables.write_wfdb(tmp_path, "odd", t[::-1], values, ["I", "II"])


def test_vtu_reads_in_vtk_with_nan(tmp_path, mesh, times):
    import pyvista as pv

    path = tables.write_vtu(
        tmp_path / "activation.vtu",
        mesh,
        {"activation_time": times},
        {"fibre": np.tile([0.0, 0.0, 1.0], (len(mesh.cells), 1))},
    )
    assert b"vtkZLibDataCompressor" in path.read_bytes()[:2000]
    grid = pv.read(path)
    np.testing.assert_array_equal(grid.point_data["activation_time"], times)
    np.testing.assert_array_equal(grid.cell_data["region"], mesh.regions)
    assert grid.cell_data["fibre"].shape == (len(mesh.cells), 3)
    with pytest.raises(ValueError, match="the mesh 1080 nodes"):
        tables.write_vtu(path, mesh, {"activation_time": times[1:]})


def test_json_holds_plain_values_in_the_order_given(tmp_path):
    @dataclasses.dataclass
    class Timing:
        solve_s: float

    path = tables.write_json(
        tmp_path / "summary.json",
        {
            "z": np.float32(1.5),
            "a": {"nan": math.nan, "inf": np.inf, "flag": np.bool_(True)},
            "array": np.array([[1, 2], [3, 4]]),
            "jax": jnp.array([0.5, jnp.nan]),
            "path": Path("x/y"),
            "timing": Timing(2.0),
            "names": ("b", "a"),
            "set": {"b", "a"},
            "text": "σ",
        },
    )
    back = json.loads(path.read_text())
    assert list(back)[:2] == ["z", "a"]
    assert back["a"] == {"nan": None, "inf": None, "flag": True}
    assert back["jax"] == [0.5, None]
    assert back["array"] == [[1, 2], [3, 4]]
    assert back["timing"] == {"solve_s": 2.0}
    assert back["set"] == ["a", "b"]
    with pytest.raises(TypeError, match=r"summary\.a\[1\] is a object"):
        tables.write_json(path, {"a": [1, object()]})
    assert json.loads(path.read_text()) == back
