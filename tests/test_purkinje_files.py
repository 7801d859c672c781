"""Purkinje networks from files and to files; those of the two real hearts."""

import gzip

import numpy as np
import pytest
import pyvista
from scipy.spatial import KDTree

from cardiotwin.anatomy.formats import read_mesh
from cardiotwin.anatomy.purkinje import PurkinjeNetwork
from cardiotwin.anatomy.purkinje_files import read_purkinje, write_purkinje
from cardiotwin.anatomy.purkinje_growth import coverage, grow_purkinje
from cardiotwin.tissue.purkinje import ConductionSystem
from cardiotwin.tissue.purkinje_stimulus import muscle_at_junctions

# A root, a fork and two ends: 20 mm down, 15 mm on either side.
TREE = np.array([[0.0, 0, 0], [0, 0, -20], [15, 0, -20], [-15, 0, -20]])
EDGES = [[0, 1], [1, 2], [1, 3]]
# name, points, segments, junctions of the four files
REAL = [
    ("rodero-heart-01/left_purkinje.vtp", 3193, 3192, 485),
    ("rodero-heart-01/right_purkinje.vtp", 3654, 3653, 549),
    ("crtdemo/True_LVtree.vtu", 1141, 1140, 89),
    ("crtdemo/True_RVtree.vtu", 1999, 1998, 156),  # three points at the places of others
]


def save(path, points, lines, **point_data):
    cells = np.concatenate([[len(line), *line] for line in lines])
    mesh = pyvista.PolyData(np.asarray(points, float), lines=cells)
    for name, values in point_data.items():
        mesh.point_data[name] = values
    if path.suffix != ".vtp":
        mesh = mesh.cast_to_unstructured_grid()
    mesh.save(str(path))
    return path


@pytest.mark.parametrize("suffix", [".vtp", ".vtu", ".vtk"])
@pytest.mark.parametrize("lines", [EDGES, [[0, 1, 2], [1, 3]]], ids=["lines", "poly-lines"])
def test_formats(tmp_path, suffix, lines):
    network = read_purkinje(save(tmp_path / f"tree{suffix}", TREE, lines), side="rv")
    np.testing.assert_allclose(network.points, TREE)
    assert sorted(map(sorted, network.edges.tolist())) == EDGES
    assert network.root == 0
    assert network.side == "rv"
    assert list(network.junctions) == [2, 3]


def test_obj_and_gzip(tmp_path):
    text = "".join(f"v {x} {y} {z}\n" for x, y, z in TREE) + "l 1 2 3\nl 2 4\n"
    (tmp_path / "tree.obj").write_text(text)
    assert read_purkinje(tmp_path / "tree.obj").length() == pytest.approx(50.0)
    plain = save(tmp_path / "tree.vtp", TREE, EDGES)
    (tmp_path / "tree.vtp.gz").write_bytes(gzip.compress(plain.read_bytes()))
    assert read_purkinje(tmp_path / "tree.vtp.gz").nodes == 4


def test_units(tmp_path):
    path = save(tmp_path / "tree.vtp", TREE / 10, EDGES)
    np.testing.assert_allclose(read_purkinje(path, unit="cm").points, TREE)
    with pytest.raises(ValueError, match=r"measures 3.61 mm across .* unit='cm' would make it 36"):
        read_purkinje(path)
    with pytest.raises(ValueError, match="the length unit 'inch' is not known"):
        read_purkinje(path, unit="inch")


def test_points_at_one_place_are_one_node(tmp_path):
    points = TREE[[0, 1, 1, 2, 1, 3]] + np.array([0, 0, 1e-5]) * np.arange(6)[:, None]
    lines = [[0, 1], [2, 3], [4, 5], [5, 4], [1, 2]]
    network = read_purkinje(save(tmp_path / "loose.vtp", points, lines), root=0)
    assert network.nodes == 4
    assert network.edges.tolist() == EDGES


def test_which_node_is_the_root(tmp_path):
    lines = [[2, 1], [1, 0], [1, 3]]  # away from point 2
    assert read_purkinje(save(tmp_path / "a.vtp", TREE, lines)).root == 2
    times = np.array([9.0, 5.0, 9.0, 0.0])
    timed = save(tmp_path / "b.vtp", TREE, lines, activation=times)
    assert read_purkinje(timed).root == 3
    assert read_purkinje(timed, root=0).root == 0
    assert read_purkinje(timed, root=[1.0, 0, -1.0]).root == 0
    unclear = save(tmp_path / "c.vtp", TREE, [[0, 1], [2, 1], [1, 3]])
    with pytest.raises(ValueError, match=r"the root is not known: .* at 2 nodes; give root="):
        read_purkinje(unclear)
    with pytest.raises(ValueError, match="root is point 4, but the points with lines run from 0"):
        read_purkinje(unclear, root=4)
    with pytest.raises(ValueError, match="give a point's number, or"):
        read_purkinje(unclear, root=[1.0, 2.0])


def test_bad_files(tmp_path):
    with pytest.raises(ValueError, match=r"there is no such file"):
        read_purkinje(tmp_path / "none.vtp")
    (tmp_path / "tree.csv").write_text("0,0,0")
    with pytest.raises(ValueError, match=r"tree.csv: cannot be read as a Purkinje network"):
        read_purkinje(tmp_path / "tree.csv")
    (tmp_path / "torn.vtp").write_text("<VTKFile>")
    with pytest.raises(ValueError, match=r"torn.vtp: damaged or not what its name says"):
        read_purkinje(tmp_path / "torn.vtp")
    pyvista.Sphere(radius=20.0).save(str(tmp_path / "ball.vtp"))
    with pytest.raises(ValueError, match=r"ball.vtp: no lines, found \d+ triangle"):
        read_purkinje(tmp_path / "ball.vtp")
    apart = save(tmp_path / "apart.vtp", [*TREE, [30, 0, 0], [40, 0, 0]], [*EDGES, [4, 5]])
    with pytest.raises(ValueError, match=r"apart.vtp: .* 2 pieces: 4 nodes .* pieces of 2 nodes"):
        read_purkinje(apart, root=0)
    holes = save(tmp_path / "holes.vtk", TREE * [1, 1, np.nan], EDGES)
    with pytest.raises(ValueError, match="4 of 4 points are not finite"):
        read_purkinje(holes)


def test_written_and_read(tmp_path):
    network = PurkinjeNetwork(TREE, [[1, 0], [2, 1], [1, 3]], 3, junctions=[1, 2], side="lv")
    write_purkinje(tmp_path / "tree.vtp", network)
    again = read_purkinje(tmp_path / "tree.vtp", side="lv")
    np.testing.assert_array_equal(again.points, network.points)
    np.testing.assert_array_equal(again.edges, network.edges)
    np.testing.assert_array_equal(again.junctions, [1, 2])
    assert again.root == 3
    assert [file.name for file in tmp_path.iterdir()] == ["tree.vtp"]
    with pytest.raises(ValueError, match=r"written as \.vtp"):
        write_purkinje(tmp_path / "tree.vtu", network)
    with pytest.raises(ValueError, match="does not exist: make it first"):
        write_purkinje(tmp_path / "none" / "tree.vtp", network)


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "nodes", "edges", "junctions"), REAL, ids=[r[0] for r in REAL])
def test_networks_of_real_hearts(data, tmp_path, name, nodes, edges, junctions):
    network = read_purkinje(data / name)
    assert (network.nodes, len(network.edges), len(network.junctions)) == (nodes, edges, junctions)
    assert network.root == 0
    write_purkinje(tmp_path / "tree.vtp", network)
    np.testing.assert_array_equal(read_purkinje(tmp_path / "tree.vtp").edges, network.edges)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["True_LVtree.vtu", "True_RVtree.vtu"])
def test_times_of_a_real_network(data, name):
    # computed by others, with muscle that fires first entering at junctions; 1.414 m/s throughout
    network = read_purkinje(data / "crtdemo" / name)
    content = pyvista.read(data / "crtdemo" / name)
    _, point = KDTree(content.points).query(network.points)
    theirs = content.point_data["activation"][point]
    system = ConductionSystem([network], speed=2**0.5, retrograde=0.0)
    start = theirs[network.root]
    assert (system.excite(start).nodes[0] - theirs).max() > 5.0
    ours = system.excite(start, muscle=theirs[network.junctions])
    np.testing.assert_allclose(ours.nodes[0], theirs, atol=1e-2)


@pytest.mark.slow
@pytest.mark.realdata
def test_trees_on_a_real_heart(data, tabulate):
    folder = data / "rodero-heart-01"
    mesh = read_mesh(
        folder / "rodero_01_fullheart_2.0mm.vtu.gz",
        names=folder / "rodero_01_fullheart_2.0mm.namemap.json",
        keep=["lv", "rv", "septum"],
        fibres=False,
    )
    networks = grow_purkinje(mesh)
    found = ConductionSystem(networks).excite()
    for network, times in zip(networks, found.nodes, strict=True):
        share = coverage(mesh, network, 10.0)
        assert share > 0.95
        at = times[network.junctions]
        tabulate(
            "Purkinje trees, Rodero 2 mm",
            side=network.side,
            nodes=network.nodes,
            junctions=len(network.junctions),
            length_mm=network.length(),
            within_10_mm=share,
            first_ms=at.min(),
            last_ms=at.max(),
        )
        assert np.ptp(at) < 60.0  # ms
    left = read_purkinje(folder / "left_purkinje.vtp", side="lv")
    assert len(muscle_at_junctions(mesh, [left])) == 485
    swapped = read_purkinje(folder / "left_purkinje.vtp", side="rv")
    with pytest.raises(ValueError, match="of 485 junctions of the network"):
        muscle_at_junctions(mesh, [swapped])
