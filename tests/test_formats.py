"""Mesh files: every format there and back, other programs' files, and every kind of bad file."""

import gzip
import json
import pickle
import warnings

import numpy as np
import pytest
from blocks import assert_same, block, block_arrays
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiotwin.anatomy import carp
from cardiotwin.anatomy._elements import FACES, split_surfaces, split_volumes
from cardiotwin.anatomy.formats import read_mesh, surface_from_file, write_mesh
from cardiotwin.anatomy.mesh import Mesh, boundary_faces
from cardiotwin.anatomy.naming import read_name_map, standard_region, standard_surface
from cardiotwin.anatomy.topology import areas, match_faces, signed_volumes


@pytest.fixture(scope="module")
def mesh():
    return block()


def without_fields(mesh):
    kept = {name: mesh.cell_data[name] for name in ("fibre", "sheet")}
    return mesh.replaced(point_data={}, cell_data=kept)


# -- there and back ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["m.vtu", "m.vtk", "m.msh", "m.xdmf", "m.vtu.gz", "m.msh.gz"])
def test_round_trip_is_exact(tmp_path, mesh, name):
    write_mesh(tmp_path / name, mesh)
    again = read_mesh(tmp_path / name)
    assert_same(mesh, again)
    write_mesh(tmp_path / ("second_" + name), again)
    assert_same(mesh, read_mesh(tmp_path / ("second_" + name)))


@pytest.mark.parametrize("name", ["m.vtu", "m.vtk"])
def test_vtk_keeps_types_shapes_and_odd_names(tmp_path, mesh, name):
    random = np.random.default_rng(2)
    odd = mesh.replaced(
        point_data={"a b:c": random.normal(size=(36, 9)), "n": np.arange(36, dtype=np.int16)},
        cell_data={
            "f": random.normal(size=(72, 3)).astype(np.float32),
            "u": np.arange(72, dtype=np.uint8),
        },
        surfaces={'épi "left", 1': mesh.surfaces["epi"], "none": []},
        region_names={1: "lv", 7: "Σ septum"},
    )
    write_mesh(tmp_path / name, odd)
    assert_same(odd, read_mesh(tmp_path / name))


@pytest.mark.parametrize("name", ["m.pts", "m.elem", "m", "m.bpts", "m.belem"])
def test_opencarp_round_trip(tmp_path, mesh, name):
    binary = name.startswith("m.b")
    carried = without_fields(mesh)
    with pytest.warns(UserWarning, match=r"cannot hold the fields \['activation', 'scar'\]"):
        write_mesh(tmp_path / name, mesh)
    again = read_mesh(tmp_path / name)
    if binary:
        single = carried.replaced(
            points=(mesh.points * 1000.0).astype(np.float32).astype(float) / 1000.0,
            cell_data={k: v.astype(np.float32).astype(float) for k, v in carried.cell_data.items()},
        )
        assert_same(single, again)
        write_mesh(tmp_path / "again.bpts", again)  # in the format's precision nothing is lost
        for suffix in (".bpts", ".belem", ".blon"):
            first, second = (tmp_path / (base + suffix) for base in ("m", "again"))
            assert first.read_bytes() == second.read_bytes()
    else:
        assert_same(carried, again)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-500, 500, allow_nan=False), min_size=3, max_size=3))
def test_opencarp_text_keeps_every_bit(tmp_path_factory, shift):
    points, cells = block_arrays((1, 1, 1), 7.3)
    moved = Mesh(points + np.array(shift), cells)
    target = tmp_path_factory.mktemp("carp") / "m.pts"
    write_mesh(target, moved)
    np.testing.assert_array_equal(read_mesh(target).points, moved.points)


def test_opencarp_text_is_what_the_manual_says(tmp_path):
    points = np.array([[0.0, 0, 0], [12.5, 0, 0], [0, 10, 0], [0, 0, 0.1]])
    mesh = Mesh(points, [[0, 1, 2, 3]], [5], cell_data={"fibre": [[1.0, 0, 0]]})
    write_mesh(tmp_path / "m.pts", mesh)
    assert (tmp_path / "m.pts").read_text().split() == [
        "4",
        *"000",
        "12500",
        *"00",
        "0",
        "10000",
        "0",
        *"00",
        "100",
    ]
    assert (tmp_path / "m.elem").read_text() == "1\nTt 0 1 2 3 5\n"
    assert (tmp_path / "m.lon").read_text() == "1\n1.0 0.0 0.0\n"
    write_mesh(tmp_path / "b.bpts", mesh)
    content = (tmp_path / "b.belem").read_bytes()
    assert content[:1024].rstrip(b"\0") == b"1 0 666"
    assert np.frombuffer(content[1024:], "<i4").tolist() == [0, 0, 1, 2, 3, 5]
    assert (tmp_path / "b.blon").read_bytes()[:1024].rstrip(b"\0") == b"1 1 0 666"


def test_abaqus_keeps_elements_and_sets(tmp_path, mesh):
    with pytest.warns(
        UserWarning, match=r"cannot hold the fields \['fibre', 'sheet', 'scar', 'activation'\]"
    ):
        write_mesh(tmp_path / "m.inp", mesh)
    again = read_mesh(tmp_path / "m.inp")
    np.testing.assert_array_equal(again.points, mesh.points)
    np.testing.assert_array_equal(again.cells, mesh.cells)
    assert {name for _, name in again.region_names} == {"lv", "septum"}
    np.testing.assert_array_equal(again.regions == again.region_id("lv"), mesh.regions == 1)
    for name, faces in mesh.surfaces.items():
        np.testing.assert_array_equal(again.surfaces[name], faces)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_any_numbering_survives_vtu(tmp_path_factory, seed):
    random = np.random.default_rng(seed)
    points, cells = block_arrays((2, 2, 1), 15.0, seed)
    order = random.permutation(len(points))
    place = np.argsort(order)
    mesh = Mesh(
        points[order],
        place[cells][random.permutation(len(cells))],
        random.integers(-3, 9, len(cells)),
    )
    folder = tmp_path_factory.mktemp("vtu")
    for name in ("m.vtu", "m.pts", "m.bpts"):
        write_mesh(folder / name, mesh)
    assert_same(mesh, read_mesh(folder / "m.vtu"))
    assert_same(mesh, read_mesh(folder / "m.pts"))
    np.testing.assert_array_equal(read_mesh(folder / "m.bpts").regions, mesh.regions)


def test_writing_is_whole_or_not_at_all(tmp_path, mesh, monkeypatch):
    target = tmp_path / "m.vtu"
    target.write_text("before")

    def fail(path, content):
        path.write_text("half")
        raise RuntimeError("disk full")

    monkeypatch.setattr("cardiotwin.anatomy._vtk_files.write", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        write_mesh(target, mesh)
    assert target.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["m.vtu"]


def test_writing_refuses_what_a_format_cannot_hold(tmp_path, mesh):
    with pytest.raises(ValueError, match=r"the format '.stl' cannot be written: use one of .vtu"):
        write_mesh(tmp_path / "m.stl", mesh)
    for name in ("m.pts.gz", "m.bpts.gz", "m.xdmf.gz"):
        with pytest.raises(ValueError, match=rf"{name}: this format is several files"):
            write_mesh(tmp_path / name, mesh)
    with pytest.raises(ValueError, match="does not exist: make it first"):
        write_mesh(tmp_path / "none" / "m.vtu", mesh)
    with pytest.raises(ValueError, match=r"called \['region'\], which files use"):
        write_mesh(tmp_path / "m.vtu", mesh.replaced(cell_data={"region": np.zeros(72)}))
    twice = mesh.replaced(surfaces={"lv": mesh.surfaces["epi"]})
    with pytest.raises(ValueError, match=r"both called \['lv'\]"):
        write_mesh(tmp_path / "m.msh", twice)
    quoted = mesh.replaced(surfaces={'a"b': mesh.surfaces["epi"]})
    with pytest.raises(ValueError, match="hold quotes"):
        write_mesh(tmp_path / "m.msh", quoted)
    sloped = without_fields(mesh).replaced(surfaces={"a/b": mesh.surfaces["epi"]})
    with pytest.raises(ValueError, match=r"\['a/b'\] cannot be part of a file name"):
        write_mesh(tmp_path / "m.pts", sloped)
    bare = mesh.replaced(point_data={}, cell_data={"sheet": mesh.cell_data["sheet"]})
    with pytest.raises(ValueError, match="sheet direction without a fibre"):
        write_mesh(tmp_path / "m.pts", bare)
    wide = mesh.replaced(point_data={"t": np.zeros((36, 5))}, cell_data={})
    with pytest.warns(UserWarning, match=r"cannot hold the fields \['t'\]"):
        write_mesh(tmp_path / "m.msh", wide)
    assert not [file for file in tmp_path.iterdir() if file.name != "m.msh"]


def test_opencarp_does_not_mix_two_meshes(tmp_path, mesh):
    carried = without_fields(mesh)
    write_mesh(tmp_path / "m.pts", carried)
    write_mesh(tmp_path / "m.pts", carried)  # the same again is fine
    with pytest.raises(ValueError, match=r"m\.lon, m\.base\.surf, .* of another mesh"):
        write_mesh(tmp_path / "m.pts", carried.replaced(surfaces={}, cell_data={}))


# -- other programs' files --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hexahedron", "wedge", "pyramid"])
def test_cut_elements_fit_and_keep_their_volume(kind):
    points, nodes = brick(kind, (3, 3, 2))
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(points))
        cells, owner = split_volumes(kind, np.argsort(order)[nodes], points[order])
        mesh = Mesh(points[order], cells)  # positive volumes, no node left over
        np.testing.assert_allclose(mesh.volume(), 18.0)
        boundary = boundary_faces(cells)  # cuts that do not fit leave inner faces bare
        np.testing.assert_allclose(areas(mesh.points, boundary).sum(), 2 * (9 + 6 + 6))
        assert len(np.unique(owner)) == len(nodes)
        mirrored, _ = split_volumes(kind, np.argsort(order)[nodes], points[order] * [-1, 1, 1])
        assert (signed_volumes(points[order] * [-1, 1, 1], mirrored) > 0).all()


def brick(kind, shape):
    """A box of hexahedra, prisms or pyramids of edge 1."""
    points, _ = block_arrays(shape, 1.0)
    index = np.arange(len(points)).reshape([n + 1 for n in shape])
    ring = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)]
    hexes = np.stack(
        [
            index[tuple(slice(s, s + n) for s, n in zip(r, shape, strict=True))].ravel()
            for r in ring
        ],
        1,
    )
    if kind == "hexahedron":
        return points, hexes
    if kind == "wedge":
        return points, np.concatenate([hexes[:, [0, 1, 2, 4, 5, 6]], hexes[:, [0, 2, 3, 4, 6, 7]]])
    centres = len(points) + np.arange(len(hexes))
    pyramids = [np.column_stack([hexes[:, face[::-1]], centres]) for face in FACES["hexahedron"]]
    return np.concatenate([points, points[hexes].mean(1)]), np.concatenate(pyramids)


def test_cut_quadrilaterals_are_faces_of_cut_hexahedra():
    points, nodes = brick("hexahedron", (2, 2, 2))
    cells, _ = split_volumes("hexahedron", nodes, points)
    quads = np.concatenate([nodes[:, face] for face in FACES["hexahedron"]])
    triangles, owner = split_surfaces("quad", np.roll(quads, 1, axis=1))
    faces = np.concatenate([cells[:, f] for f in FACES["tetra"]])
    assert (match_faces(triangles, faces) >= 0).all()
    assert (np.bincount(owner) == 2).all()


def test_collapsed_elements_lose_their_flat_pieces():
    points, nodes = brick("hexahedron", (1, 1, 1))
    prism = nodes.copy()
    prism[:, [3, 7]] = prism[:, [2, 6]]  # a hexahedron whose side is an edge
    cells, _ = split_volumes("hexahedron", prism, points)
    np.testing.assert_allclose(signed_volumes(points, cells).sum(), 0.5)
    assert len(cells) == 3


def test_opencarp_reads_every_kind(tmp_path):
    # a hexahedron with a prism beside it and a pyramid and a tetrahedron on top, in CARP's order
    corners = ["000", "100", "110", "010", "001", "011", "111", "101", "200", "201"]
    points = [*([int(x) for x in corner] for corner in corners), [0.5, 0.5, 2], [1.5, 0.5, 2]]
    text = "\n".join(" ".join(str(20000 * x) for x in p) for p in points)
    (tmp_path / "m.pts").write_text(f"{len(points)}\n{text}\n")
    lines = [
        "Hx 0 1 2 3 4 5 6 7 3",
        "Pr 1 8 2 7 6 9 4",
        "Py 4 7 6 5 10 4",
        "Tt 7 9 6 11",
        "Tr 0 1 2 9",
        "Qd 0 4 5 3 2",
        "Ln 0 1 1",
    ]
    (tmp_path / "m.elem").write_text(f"{len(lines)}\n" + "\n".join(lines) + "\n")
    directions = "\n".join(f"{i}.0 1 0  0 0 1" for i in range(len(lines)))
    (tmp_path / "m.lon").write_text(f"2\n{directions}\n")
    mesh = read_mesh(tmp_path / "m.elem", allow_uniform_fibres=True)
    volume = {label: mesh.volumes()[mesh.regions == label].sum() / 8000 for label in (0, 3, 4)}
    assert volume == pytest.approx({3: 1.0, 4: 0.5 + 1 / 3, 0: 1 / 6})
    np.testing.assert_allclose(
        areas(mesh.points, boundary_faces(mesh.cells)).sum() / 400, expected_area()
    )
    assert {name: len(faces) for name, faces in mesh.surfaces.items()} == {
        "surface_2": 2,
        "surface_9": 1,
    }
    hexahedron = mesh.regions == 3
    np.testing.assert_allclose(mesh.cell_data["fibre"][hexahedron], [[0, 1, 0]] * hexahedron.sum())
    assert np.ptp(mesh.cell_data["fibre"][mesh.regions == 0], axis=0).tolist() == [0, 0, 0]
    np.testing.assert_allclose(mesh.cell_data["sheet"], [[0, 0, 1]] * mesh.elements)


def expected_area():
    """Area of the solid above: hexahedron, prism at x = 1, pyramid and tetrahedron at z = 1."""
    hexahedron = 4.0 * 1 + 0.0  # four sides but x = 1, and the bottom: 5 - 1
    prism = 1.0 + np.sqrt(2) + 0.5  # front, slant, bottom
    pyramid = 4 * 0.5 * np.hypot(1.0, 0.5)
    a, b, c, top = np.array([[1.0, 0, 1], [2, 0, 1], [1, 1, 1], [1.5, 0.5, 2]])
    sides = [(a, b, top), (b, c, top), (c, a, top)]
    tetra = sum(0.5 * np.linalg.norm(np.cross(q - p, r - p)) for p, q, r in sides)
    return hexahedron + prism + pyramid + tetra


def test_opencarp_binary_reads_mixed_kinds_and_both_byte_orders(tmp_path):
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]) * 20000.0
    records = [0, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 8]
    for order, mark in (("<", 0), (">", 1)):
        for suffix, counts, values in (
            (".bpts", "5", points.astype(order + "f4")),
            (".belem", "3", np.array(records, order + "i4")),
            (".blon", "1 3", np.eye(3).astype(order + "f4")),
        ):
            header = f"{counts} {mark} 666".encode().ljust(1024, b"\0")
            (tmp_path / f"m{suffix}").write_bytes(header + values.tobytes())
        mesh = read_mesh(tmp_path / "m", orient=True)
        np.testing.assert_array_equal(mesh.points, points / 1000)
        assert mesh.regions.tolist() == [4, 5]
        assert len(mesh.surfaces["surface_8"]) == 1
        np.testing.assert_array_equal(mesh.cell_data["fibre"], np.eye(3)[:2])


def test_opencarp_reads_gzip_and_directions_without_header(tmp_path, mesh):
    write_mesh(tmp_path / "m.pts", without_fields(mesh))
    for suffix in (".pts", ".elem", ".lon"):
        content = (tmp_path / f"m{suffix}").read_bytes()
        if suffix == ".lon":
            content = content.split(b"\n", 1)[1]
        (tmp_path / f"z{suffix}.gz").write_bytes(gzip.compress(content))
    again = read_mesh(tmp_path / "z.pts.gz")
    np.testing.assert_array_equal(again.points, mesh.points)
    np.testing.assert_array_equal(again.cell_data["sheet"], mesh.cell_data["sheet"])


def test_vertex_lists(tmp_path):
    carp.write_vtx(tmp_path / "v.vtx", [3, 1, 2])
    assert (tmp_path / "v.vtx").read_text() == "3\nintra\n3\n1\n2\n"
    np.testing.assert_array_equal(carp.read_vtx(tmp_path / "v.vtx", nodes=4), [3, 1, 2])
    (tmp_path / "w.vtx").write_text("2\n7\n8\n")
    np.testing.assert_array_equal(carp.read_vtx(tmp_path / "w.vtx"), [7, 8])
    with pytest.raises(ValueError, match="the mesh has 3 nodes: the list belongs to another mesh"):
        carp.read_vtx(tmp_path / "v.vtx", nodes=3)
    (tmp_path / "x.vtx").write_text("3\nextra\n7\n8\n")
    with pytest.raises(ValueError, match="promises 3 vertices, the file holds 2"):
        carp.read_vtx(tmp_path / "x.vtx")
    (tmp_path / "y.vtx").write_text("1\nwhere\n7\n")
    with pytest.raises(ValueError, match="expected 'intra' or 'extra'"):
        carp.read_vtx(tmp_path / "y.vtx")
    with pytest.raises(ValueError, match="give 'intra' or 'extra'"):
        carp.write_vtx(tmp_path / "z.vtx", [1], domain="both")


def test_gmsh_4_with_physical_groups(tmp_path):
    (tmp_path / "m.msh").write_text(GMSH_4)
    mesh = read_mesh(tmp_path / "m.msh", unit="cm")
    np.testing.assert_allclose(mesh.points.max(axis=0), 100.0)
    assert mesh.region_names == ((3, "lv"),)
    assert mesh.surfaces["epi"].tolist() == [[0, 2, 1]]


GMSH_4 = """$MeshFormat
4.1 0 8
$EndMeshFormat
$PhysicalNames
2
2 7 "epi"
3 3 "lv"
$EndPhysicalNames
$Entities
0 0 1 1
1 0 0 0 1 1 1 1 7 0
1 0 0 0 1 1 1 1 3 0
$EndEntities
$Nodes
1 4 1 4
3 1 0 4
1
2
3
4
0 0 0
10 0 0
0 10 0
0 0 10
$EndNodes
$Elements
2 2 1 2
2 1 2 1
1 1 2 3
3 1 4 1
2 1 2 3 4
$EndElements
"""


@pytest.mark.parametrize("binary", [True, False])
def test_gmsh_2_written_by_meshio(tmp_path, mesh, binary):
    import meshio

    epi = mesh.surfaces["epi"]
    labels = [np.full(len(epi), 4), mesh.regions]
    fibre = {"fiber": [np.zeros((len(epi), 3)), mesh.cell_data["fibre"]]}
    other = meshio.Mesh(
        mesh.points,
        [("triangle", epi), ("tetra", mesh.cells)],
        # meshio writes text data that nobody can read ("np.float64(...)")
        point_data={"v": mesh.point_data["activation"]} if binary else {},
        cell_data={"gmsh:physical": labels, "gmsh:geometrical": labels} | (fibre if binary else {}),
        field_data={"epi": [4, 2], "lv": [1, 3]},
    )
    meshio.gmsh.write(str(tmp_path / "m.msh"), other, "2.2", binary)
    again = read_mesh(tmp_path / "m.msh")
    np.testing.assert_array_equal(again.points, mesh.points)
    np.testing.assert_array_equal(again.regions, mesh.regions)
    np.testing.assert_array_equal(again.surfaces["epi"], epi)
    assert again.region_names == ((1, "lv"),)
    if binary:
        np.testing.assert_array_equal(again.cell_data["fibre"], mesh.cell_data["fibre"])
        np.testing.assert_array_equal(again.point_data["v"], mesh.point_data["activation"])


def test_meshio_reads_our_gmsh(tmp_path, mesh):
    import meshio

    write_mesh(tmp_path / "m.msh", mesh.replaced(cell_data={}))
    other = meshio.gmsh.read(str(tmp_path / "m.msh"))
    np.testing.assert_array_equal(other.points, mesh.points)
    np.testing.assert_array_equal(other.cells_dict["tetra"], mesh.cells)
    np.testing.assert_array_equal(other.cell_data_dict["gmsh:physical"]["tetra"], mesh.regions)
    assert other.field_data["septum"].tolist() == [7, 3]


def test_gmsh_2_with_loose_numbers_and_partial_data(tmp_path):
    (tmp_path / "m.msh").write_text(GMSH_2)
    mesh = read_mesh(tmp_path / "m.msh")
    np.testing.assert_allclose(mesh.volume(), 50**3 / 6)
    assert mesh.regions.tolist() == [9]
    assert np.isnan(mesh.point_data["t"]).tolist() == [True, False, True, True]
    for change in (
        ("$EndElements", ""),
        ("4 0 0 50", "4 0 0"),
        ("70 4 2", "70 4 3"),
        ("5 10 20", "5 11 20"),
    ):
        (tmp_path / "b.msh").write_text(GMSH_2.replace(*change))
        with pytest.raises(ValueError, match=r"b.msh: damaged"):
            read_mesh(tmp_path / "b.msh")


GMSH_2 = """$MeshFormat
2.2 0 8
$EndMeshFormat
$Comments
anything
$EndComments
$Nodes
4
10 0 0 0
20 50 0 0
30 0 50 0
4 0 0 50
$EndNodes
$Elements
2
7 15 2 0 1 10
70 4 2 9 5 10 20 30 4
$EndElements
$NodeData
1
"t"
1
0.0
3
0
1
1
20 7.5
$EndNodeData
"""


def test_quadratic_elements_are_read_as_linear(tmp_path):
    import meshio

    corners = np.array([[0.0, 0, 0], [50, 0, 0], [0, 50, 0], [0, 0, 50]])
    middles = [
        (corners[i] + corners[j]) / 2 for i, j in ((0, 1), (1, 2), (0, 2), (0, 3), (1, 3), (2, 3))
    ]
    meshio.Mesh(np.concatenate([corners, middles]), [("tetra10", np.arange(10)[None])]).write(
        tmp_path / "q.vtu"
    )
    with pytest.warns(UserWarning, match="1 quadratic elements"):
        assert read_mesh(tmp_path / "q.vtu").nodes == 4


def test_voxels_and_structured_grids(tmp_path):
    import pyvista

    grid = pyvista.ImageData(dimensions=(3, 4, 5), spacing=(10, 10, 10))
    grid.save(tmp_path / "grid.vtk")
    mesh = read_mesh(tmp_path / "grid.vtk")
    np.testing.assert_allclose(mesh.volume(), 2 * 3 * 4 * 1000)


def test_region_arrays_are_found_or_named(tmp_path, mesh):
    other = mesh.replaced(cell_data={"tissue": mesh.regions * 2.0, "part": mesh.regions + 0.5})
    write_foreign(tmp_path / "m.vtu", other, {"elemTag": mesh.regions * 1.0})
    assert set(read_mesh(tmp_path / "m.vtu").regions) == {1, 7}
    assert set(read_mesh(tmp_path / "m.vtu", regions="tissue").regions) == {2, 14}
    with pytest.raises(ValueError, match=r"no cell array 'x' .* \['elemTag', 'part', 'tissue'\]"):
        read_mesh(tmp_path / "m.vtu", regions="x")
    with pytest.raises(ValueError, match="'part' holds values that are no labels"):
        read_mesh(tmp_path / "m.vtu", regions="part")


def write_foreign(path, mesh, cell_data=None, point_data=None, cells=None):
    """A file as another program writes it: tetrahedra and fields, none of our names."""
    import meshio

    cell_data = {name: [values] for name, values in {**mesh.cell_data, **(cell_data or {})}.items()}
    cells = [("tetra", mesh.cells if cells is None else cells)]
    meshio.Mesh(mesh.points, cells, point_data=point_data, cell_data=cell_data).write(path)


# -- directions -------------------------------------------------------------------------------


@pytest.fixture
def curved():
    """A bent block, which is no slab: 30 mm deep, an arc of 40 to 60 mm radius."""
    points, cells = block_arrays((8, 3, 3), 1.0)
    angle, radius = points[:, 0] * 0.3, 40 + points[:, 1] * 20 / 3
    bent = np.stack([radius * np.sin(angle), radius * np.cos(angle), points[:, 2] * 10], axis=1)
    return Mesh.repaired(bent, cells)


def arc_directions(points):
    return (
        np.stack([points[:, 1], -points[:, 0], 0 * points[:, 2]], 1)
        / np.hypot(*points.T[:2])[:, None]
    )


@pytest.mark.parametrize("name", ["fiber", "fibers", "fibre", "Fibre_dir", "f0"])
def test_directions_at_nodes_are_averaged_whatever_their_sign(tmp_path, curved, name):
    signs = np.random.default_rng(0).choice([-20.0, 20.0], curved.nodes)
    vectors = arc_directions(curved.points) * signs[:, None]
    write_foreign(tmp_path / "m.vtu", curved, point_data={name: vectors, "v": vectors})
    mesh = read_mesh(tmp_path / "m.vtu")
    fibre = mesh.cell_data["fibre"]
    np.testing.assert_allclose(np.linalg.norm(fibre, axis=1), 1)
    along = np.einsum("ij,ij->i", fibre, arc_directions(curved.centroids()))
    assert np.abs(along).min() > 0.995
    assert list(mesh.point_data) == ["v"]  # only the directions were taken


def test_directions_come_from_a_file_in_another_order(tmp_path, curved):
    order = np.random.default_rng(3).permutation(curved.nodes)
    place = np.argsort(order)
    other = Mesh(curved.points[order], place[curved.cells])
    write_foreign(tmp_path / "m.vtu", curved)
    vectors = 20 * arc_directions(other.points)
    write_foreign(
        tmp_path / "nodes.vtu", other, point_data={"fiber": vectors, "sheet": vectors[:, [2, 0, 1]]}
    )
    mesh = read_mesh(tmp_path / "m.vtu", fibres=tmp_path / "nodes.vtu")
    along = np.einsum("ij,ij->i", mesh.cell_data["fibre"], arc_directions(curved.centroids()))
    assert np.abs(along).min() > 0.995
    assert mesh.cell_data["sheet"].shape == (curved.elements, 3)
    shuffled = other.replaced(cells=other.cells[::-1])
    write_foreign(tmp_path / "cells.vtu", shuffled, {"fibre": arc_directions(shuffled.centroids())})
    mesh = read_mesh(tmp_path / "m.vtu", fibres=tmp_path / "cells.vtu")
    np.testing.assert_allclose(
        mesh.cell_data["fibre"], arc_directions(curved.centroids()), atol=1e-12
    )
    far = other.replaced(points=other.points + np.array([0, 0, 0.5]))
    write_foreign(tmp_path / "far.vtu", far, point_data={"fiber": vectors})
    with pytest.raises(
        ValueError, match=r"144 of 144 nodes have no counterpart .* \(0\.5 mm away\)"
    ):
        read_mesh(tmp_path / "m.vtu", fibres=tmp_path / "far.vtu")
    assert (
        "fibre"
        in read_mesh(tmp_path / "m.vtu", fibres=tmp_path / "far.vtu", tolerance=1.0).cell_data
    )
    write_foreign(tmp_path / "none.vtu", other, point_data={"v": vectors})
    with pytest.raises(ValueError, match=r"no fibre direction among its fields \['v'\]"):
        read_mesh(tmp_path / "m.vtu", fibres=tmp_path / "none.vtu")


def test_directions_come_from_a_lon_file(tmp_path, curved):
    write_foreign(tmp_path / "m.vtu", curved)
    directed = curved.replaced(cell_data={"fibre": arc_directions(curved.centroids())})
    write_mesh(tmp_path / "c.pts", directed)
    mesh = read_mesh(tmp_path / "m.vtu", fibres=tmp_path / "c.lon")
    np.testing.assert_array_equal(mesh.cell_data["fibre"], directed.cell_data["fibre"])
    (tmp_path / "c.lon").write_text("1\n1 0 0\n")
    with pytest.raises(ValueError, match="directions of 1 elements, the mesh file has 432"):
        read_mesh(tmp_path / "m.vtu", fibres=tmp_path / "c.lon")


def test_placeholders_are_dropped_on_hearts_and_kept_on_blocks(tmp_path, curved):
    same = np.tile([1.0, 0, 0], (curved.elements, 1))
    write_foreign(tmp_path / "m.vtu", curved, {"fiber": same, "sheet": same[:, [1, 0, 2]]})
    with pytest.warns(
        UserWarning, match=r"one fibre and one sheet direction for all elements is a placeholder"
    ):
        assert read_mesh(tmp_path / "m.vtu").cell_data == {}
    assert "fibre" in read_mesh(tmp_path / "m.vtu", allow_uniform_fibres=True).cell_data
    assert read_mesh(tmp_path / "m.vtu", fibres=False).cell_data == {}
    write_mesh(tmp_path / "own.vtu", curved.replaced(cell_data={"fibre": same}))
    assert "fibre" in read_mesh(tmp_path / "own.vtu").cell_data  # we wrote it, so it is meant
    points, cells = block_arrays((3, 2, 2), 10.0)
    write_foreign(tmp_path / "slab.vtu", Mesh(points, cells), {"fiber": same[: len(cells)]})
    assert "fibre" in read_mesh(tmp_path / "slab.vtu").cell_data


def test_directions_that_are_none_are_told(tmp_path, curved):
    fibre = arc_directions(curved.centroids())
    fibre[7] = np.nan
    write_foreign(tmp_path / "m.vtu", curved, {"fibre": fibre})
    with pytest.raises(
        ValueError, match=r"NaN or infinite in 1 of 432 elements, such as element 7"
    ):
        read_mesh(tmp_path / "m.vtu")
    fibre[7] = 0
    write_foreign(tmp_path / "m.vtu", curved, {"fibre": fibre})
    with pytest.warns(UserWarning, match="zero in 1 of 432 elements"):
        assert (read_mesh(tmp_path / "m.vtu").cell_data["fibre"][7] == 0).all()
    fibre[7] = [0, 0, 1]
    write_foreign(tmp_path / "m.vtu", curved, {"fibre": fibre, "fiber": -fibre})
    with pytest.warns(UserWarning, match="'fiber' is a second fibre direction"):
        read_mesh(tmp_path / "m.vtu")


# -- names, cuts and surfaces -----------------------------------------------------------------


def test_names_and_cuts(tmp_path, mesh):
    foreign = mesh.replaced(
        surfaces={
            "1": mesh.surfaces["base"],
            "2": mesh.surfaces["endo_lv"],
            "3": mesh.surfaces["epi"],
        },
        region_names={},
    )
    write_mesh(tmp_path / "m.vtu", foreign)
    names = {
        "_volume_id_to_name": {"1": "Left ventricle", "7": "Left atrium"},
        "_surface_id_to_name": {
            "1": "Mitral rim",
            "2": "Left ventricle endocardium",
            "3": "LV epicardium",
        },
    }
    (tmp_path / "n.json").write_text(json.dumps(names))
    whole = read_mesh(tmp_path / "m.vtu", names=tmp_path / "n.json")
    assert dict(whole.region_names) == {1: "lv", 7: "la"}
    assert set(whole.surfaces) == {"Mitral rim", "endo_lv", "epi"}
    part = read_mesh(tmp_path / "m.vtu", names=tmp_path / "n.json", keep=["lv"])
    assert part.elements == (mesh.regions == 1).sum()
    # the atrium was cut off: where the cut reaches the endocardium is the mitral valve
    assert set(part.surfaces) == {"Mitral rim", "endo_lv", "epi", "base", "mitral"}
    covered = sum(areas(part.points, part.surfaces[n]).sum() for n in ("endo_lv", "epi", "base"))
    np.testing.assert_allclose(covered, areas(part.points, boundary_faces(part.cells)).sum())
    names["_volume_id_to_name"]["7"] = "Septum"
    part = read_mesh(tmp_path / "m.vtu", names=names, keep="lv")
    assert "cut" in part.surfaces  # the cut went through ventricular tissue: no base
    with pytest.raises(
        ValueError, match=r"no region \['rv'\] to keep: the regions are 1 \(lv\), 7 \(septum\)"
    ):
        read_mesh(tmp_path / "m.vtu", names=names, keep=["rv"])
    with pytest.raises(ValueError, match=r"no region \[9\]"):
        read_mesh(tmp_path / "m.vtu", keep=[9])


def test_labels_with_one_name_become_one(tmp_path, mesh):
    write_mesh(tmp_path / "m.vtu", mesh)
    names = {
        "regions": {"septum": "LV", "1": "left ventricle"},
        "surfaces": {"base": "Epicardium"},
    }
    merged = read_mesh(tmp_path / "m.vtu", names=names)
    assert merged.region_names == ((1, "lv"),)
    assert set(merged.regions) == {1}
    assert len(merged.surfaces["epi"]) == len(mesh.surfaces["epi"]) + len(mesh.surfaces["base"])


def test_standard_names():
    assert standard_region("Left_ventricle myocardium") == "lv"
    assert standard_region("Interventricular septum") == "septum"
    assert standard_region("Aorta") == "Aorta"
    assert standard_surface("Right ventricle septum") == "endo_rv"
    assert standard_surface("RV-endo") == "endo_rv"
    assert standard_surface("endo_lv") == "endo_lv"
    assert standard_surface("Left ventricle epicardium") == "epi"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "cannot be read"),
        ("[1]", "JSON list, not an object"),
        ('{"a": 1}', "neither 'regions' nor"),
        ('{"regions": 3}', "no mapping of labels"),
    ],
)
def test_bad_name_maps(tmp_path, content, text):
    (tmp_path / "n.json").write_text(content)
    with pytest.raises(ValueError, match=text):
        read_name_map(tmp_path / "n.json")
    with pytest.raises(ValueError, match="cannot be read"):
        read_name_map(tmp_path / "none.json")


def test_surfaces_off_the_boundary_are_trimmed_with_a_warning(tmp_path, mesh):
    import meshio

    shared = np.concatenate([mesh.cells[:, f] for f in FACES["tetra"]])
    inner = shared[match_faces(shared, boundary_faces(mesh.cells)) < 0][:1]
    triangles = np.concatenate([mesh.surfaces["epi"][:, ::-1], inner])
    tags = [np.ones(72, int), np.full(len(triangles), 4)]
    cells = [("tetra", mesh.cells), ("triangle", triangles)]
    meshio.Mesh(mesh.points, cells, cell_data={"medit:ref": tags}).write(tmp_path / "m.mesh")
    with pytest.warns(UserWarning, match=r"1 triangles of 1 surfaces .*'surface_4' \(1\)"):
        again = read_mesh(tmp_path / "m.mesh")
    assert len(again.surfaces["surface_4"]) == len(mesh.surfaces["epi"])  # and turned outward


def test_surface_from_file(tmp_path, mesh):
    import pyvista

    faces = mesh.surfaces["epi"]
    nodes, local = np.unique(faces, return_inverse=True)
    order = np.random.default_rng(0).permutation(len(nodes))
    points = mesh.points[nodes][order] + 1e-5
    triangles = np.argsort(order)[local.reshape(-1, 3)][:, ::-1]
    surface = pyvista.PolyData.from_regular_faces(points / 10, triangles)
    surface.save(tmp_path / "epi.ply")
    found = surface_from_file(mesh, tmp_path / "epi.ply", unit="cm")
    np.testing.assert_array_equal(np.sort(found, 1), np.sort(faces, 1))
    mesh.replaced(surfaces={"epi": found})
    with pytest.raises(ValueError, match=r"points have no counterpart within 1e-09 mm"):
        surface_from_file(mesh, tmp_path / "epi.ply", unit="cm", tolerance=1e-9)
    corners = np.unique(faces)[[0, 5, -1]]
    pyvista.PolyData.from_regular_faces(mesh.points[corners], [[0, 1, 2]]).save(
        tmp_path / "inner.stl"
    )
    with pytest.raises(ValueError, match=r"1 of 1 triangles are not faces"):
        surface_from_file(mesh, tmp_path / "inner.stl")
    with pytest.raises(ValueError, match="no such file"):
        surface_from_file(mesh, tmp_path / "none.stl")
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ValueError, match="cannot be read as a surface"):
        surface_from_file(mesh, tmp_path / "a.txt")
    pyvista.PolyData(mesh.points).save(tmp_path / "points.vtp")
    with pytest.raises(ValueError, match="no triangles found"):
        surface_from_file(mesh, tmp_path / "points.vtp")


# -- units ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factor", "unit", "advice"),
    [(1000, None, "unit='um' would make it"), (0.1, None, "unit='cm'"), (0.001, None, "unit='m'"),
     (1, "um", "unit='mm'"), (1, "m", "unit='mm'"), (1000, "mm", "unit='um'")],
)  # fmt: skip
def test_impossible_sizes_name_the_unit_that_fits(tmp_path, curved, factor, unit, advice):
    write_mesh(tmp_path / "m.vtu", curved.replaced(points=curved.points * factor))
    with pytest.warns(UserWarning, match=rf"which is no heart, .*{advice}"):
        read_mesh(tmp_path / "m.vtu", unit=unit)


@pytest.mark.parametrize(("unit", "factor"), [("um", 1000), ("mm", 1), ("cm", 0.1), ("m", 0.001)])
def test_units_are_converted(tmp_path, curved, unit, factor):
    write_mesh(tmp_path / "m.vtu", curved.replaced(points=curved.points * factor))
    np.testing.assert_allclose(
        read_mesh(tmp_path / "m.vtu", unit=unit).points, curved.points, atol=1e-12
    )


def test_small_hearts_and_slabs_are_possible(tmp_path, curved):
    write_mesh(tmp_path / "mouse.vtu", curved.replaced(points=curved.points * 0.1))
    read_mesh(tmp_path / "mouse.vtu", unit="mm")  # said to be mm: a mouse heart
    points, cells = block_arrays((2, 2, 2), 1.0)
    write_mesh(tmp_path / "slab.vtu", Mesh(points, cells))
    read_mesh(tmp_path / "slab.vtu")
    write_mesh(tmp_path / "dot.vtu", Mesh(points * 1e-30, cells))
    with pytest.warns(UserWarning, match="no usual unit fits a heart"):
        read_mesh(tmp_path / "dot.vtu")
    with pytest.raises(ValueError, match="length unit 'inch' is not known"):
        read_mesh(tmp_path / "slab.vtu", unit="inch")


# -- bad files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["m.vtu", "m.vtk", "m.msh", "m.xdmf", "m.inp", "m.pts", "m.bpts", "m.vtu.gz"]
)
def test_missing_empty_and_foreign_files(tmp_path, name):
    with pytest.raises(ValueError, match=rf"{name}.*(no such file|missing)"):
        read_mesh(tmp_path / name)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=name.split(".")[1]):
        read_mesh(tmp_path / name)
    (tmp_path / name).write_bytes(b"this is no mesh at all\n" * 3)
    with pytest.raises(ValueError, match=rf"{name}"):
        read_mesh(tmp_path / name)


@pytest.mark.parametrize("name", ["m.vtu", "m.vtk", "m.msh", "m.xdmf", "m.vtu.gz"])
@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.5, 0.7, 0.9])
def test_truncated_files(tmp_path, name, fraction, capfd):
    mesh = block((8, 8, 8))
    write_mesh(tmp_path / name, mesh)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(ValueError, match=rf"{name}: (damaged|cannot be decompressed)") as error:
        read_mesh(tmp_path / name)
    assert "again" in str(error.value)
    assert "ERROR" not in capfd.readouterr().err  # VTK's own console output is caught


def test_truncated_xdmf_data(tmp_path, mesh):
    write_mesh(tmp_path / "m.xdmf", mesh)
    (tmp_path / "z.xdmf.gz").write_bytes(gzip.compress((tmp_path / "m.xdmf").read_bytes()))
    with pytest.raises(ValueError, match="refers to files beside it: decompress"):
        read_mesh(tmp_path / "z.xdmf.gz")
    heavy = tmp_path / "m.h5"
    heavy.write_bytes(heavy.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"m.xdmf: damaged"):
        read_mesh(tmp_path / "m.xdmf")
    heavy.unlink()
    with pytest.raises(ValueError, match=r"m.xdmf: damaged"):
        read_mesh(tmp_path / "m.xdmf")


@pytest.mark.parametrize("suffix", [".pts", ".elem", ".lon", ".bpts", ".belem", ".blon"])
def test_truncated_opencarp(tmp_path, mesh, suffix):
    base = "m.bpts" if suffix.startswith(".b") else "m.pts"
    write_mesh(tmp_path / base, without_fields(mesh))
    part = tmp_path / f"m{suffix}"
    content = part.read_bytes()
    for cut in (len(content) * 9 // 10, 1026, 700, 30, 3):
        part.write_bytes(content[: min(cut, len(content) - 2)])
        with pytest.raises(ValueError, match=rf"m\{suffix}: "):
            read_mesh(tmp_path / base)


@pytest.mark.parametrize(
    ("suffix", "change", "text"),
    [
        (".elem", (b"Tt", b"Xx"), "elements of type 'Xx', known are Tt"),
        (".elem", (b"Tt 0 ", b"Tt 0 0 0 0 "), "has 8 numbers, an element of type Tt has 4 nodes"),
        (".elem", (b"Tt 0 ", b"Tt 99 "), "point to nodes from 0 to 99, but the file has 36 nodes"),
        (".elem", (b"Tt 0 ", b"Tt x "), "holds what is no number"),
        (".pts", (b"\n10", b"\n1z"), "holds what is no number"),
        (".pts", (b"36\n", b"37\n"), "promises 111 coordinates, the file holds 108"),
        (".lon", (b"2\n", b"3\n"), "3 directions per element, expected 1 or 2"),
        (".names.json", (b"regions", b"r"), "no list of region names"),
    ],
)
def test_damaged_opencarp(tmp_path, suffix, change, text):
    points, cells = block_arrays((3, 2, 2), 10.0)
    mesh = without_fields(block()).replaced(points=points, cells=cells)
    write_mesh(tmp_path / "m.pts", mesh)
    part = tmp_path / f"m{suffix}"
    part.write_bytes(part.read_bytes().replace(*change, 1))
    with pytest.raises(ValueError, match=text):
        read_mesh(tmp_path / "m.pts")


def test_missing_parts_of_opencarp(tmp_path, mesh):
    write_mesh(tmp_path / "m.pts", without_fields(mesh))
    (tmp_path / "m.elem").unlink()
    with pytest.raises(ValueError, match=r"m.elem: missing; an openCARP mesh needs m.elem"):
        read_mesh(tmp_path / "m.pts")


def test_surfaces_alone_are_refused(tmp_path, mesh):
    import pyvista

    pyvista.PolyData.from_regular_faces(mesh.points, boundary_faces(mesh.cells)).save(
        tmp_path / "s.stl"
    )
    with pytest.raises(ValueError, match=r"no volume elements, found 64 triangle: .* by a mesher"):
        read_mesh(tmp_path / "s.stl")


def test_broken_invariants_name_the_file(tmp_path, mesh):
    write_foreign(tmp_path / "m.vtu", mesh, cells=mesh.cells[:, [1, 0, 2, 3]])
    with pytest.raises(ValueError, match=r"m.vtu: 72 of 72 elements are inverted"):
        read_mesh(tmp_path / "m.vtu")
    assert read_mesh(tmp_path / "m.vtu", orient=True).volume() == pytest.approx(mesh.volume())


@pytest.mark.filterwarnings("ignore:.*nodes belong to no element")
def test_pieces_in_a_file(tmp_path, mesh):
    import meshio

    apart = mesh.cells[(mesh.cells == 0).any(1) | (mesh.cells == 35).any(1)]
    meshio.Mesh(mesh.points, [("tetra", apart)]).write(tmp_path / "p.vtu")
    with pytest.raises(ValueError, match=r"p.vtu: the mesh falls into 2 pieces"):
        read_mesh(tmp_path / "p.vtu")
    assert read_mesh(tmp_path / "p.vtu", allow_components=True).elements == len(apart)


def test_nodes_without_elements_are_dropped_with_a_warning(tmp_path, mesh):
    more = np.concatenate([mesh.points, [[500.0, 0, 0]]])
    import meshio

    meshio.Mesh(more, [("tetra", mesh.cells)]).write(tmp_path / "m.vtu")
    with pytest.warns(UserWarning, match=r"1 nodes belong to no element \(the first is node 36\)"):
        assert read_mesh(tmp_path / "m.vtu").nodes == 36


def test_unknown_formats_and_pickles_are_refused(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('unpickled')",))

    for suffix in (".pkl", ".npy", ".npz", ".foo", ".pt"):
        path = tmp_path / f"m{suffix}"
        path.write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(ValueError, match=rf"the format '{suffix}' cannot be read: convert it"):
            read_mesh(path)
    for suffix in (".vtu", ".vtk", ".msh", ".xdmf", ".inp", ".pts"):
        path = tmp_path / f"m{suffix}"
        path.write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(ValueError, match=f"m{suffix}"):
            read_mesh(path)


def test_warnings_point_at_the_caller(tmp_path, curved):
    import meshio

    same = np.tile([1.0, 0, 0], (curved.elements, 1))
    lost = np.concatenate([curved.points, [[0.0, 0, 0]]]) * 0.1
    shared = np.concatenate([curved.cells[:, f] for f in FACES["tetra"]])
    inner = shared[match_faces(shared, boundary_faces(curved.cells)) < 0][:1]
    content = meshio.Mesh(
        lost,
        [("tetra", curved.cells), ("triangle", inner)],
        cell_data={
            "fiber": [same, same[:1]],
            "fibre": [same, same[:1]],
            "tag": [np.ones(len(same)), np.ones(1)],
        },
    )
    content.write(tmp_path / "m.vtu")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mesh = read_mesh(tmp_path / "m.vtu", allow_uniform_fibres=False)
        write_mesh(tmp_path / "m.pts", mesh.replaced(point_data={"v": np.zeros(mesh.nodes)}))
        write_mesh(tmp_path / "m.inp", mesh.replaced(point_data={"v": np.zeros(mesh.nodes)}))
    ours = [w for w in caught if w.category is UserWarning]
    assert len(ours) == 7
    assert {w.filename for w in ours} == {__file__}


def test_package_reads_vtk_lazily():
    import subprocess
    import sys

    heavy = ("vtkmodules", "pyvista", "meshio", "pint")
    code = (
        f"import sys, cardiotwin.anatomy.formats; print([m for m in {heavy} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# -- real hearts ------------------------------------------------------------------------------


@pytest.mark.realdata
def test_four_chamber_heart(data):
    folder = data / "rodero-heart-01"
    with pytest.warns(UserWarning, match="one fibre and one sheet direction for all elements"):
        mesh = read_mesh(
            folder / "rodero_01_fullheart_2.0mm.vtu.gz",
            names=folder / "rodero_01_fullheart_2.0mm.namemap.json",
            keep=["lv", "rv", "septum"],
        )
    assert (mesh.nodes, mesh.elements) == (52_210, 250_620)
    assert mesh.volume() / 1000 == pytest.approx(226.12, abs=0.01)
    assert dict(mesh.region_names) == {1: "lv", 2: "rv", 7: "septum"}
    area = {name: areas(mesh.points, faces).sum() / 100 for name, faces in mesh.surfaces.items()}
    walls = {"epi": 296.6, "endo_lv": 125.9, "endo_rv": 195.5, "base": 87.4}
    valves = {"mitral": 2.5, "aortic": 2.6, "tricuspid": 3.1, "pulmonary": 1.7}  # parts of the base
    assert area == pytest.approx(walls | valves, abs=0.1)
    boundary = boundary_faces(mesh.cells)
    joined = np.concatenate([mesh.surfaces[name] for name in walls])
    assert sorted(match_faces(joined, boundary)) == list(range(len(boundary)))  # each face once
    assert mesh.point_data["apico-basal"][mesh.surfaces["base"]].max(axis=1).min() > 0.9
    assert "fibre" not in mesh.cell_data


@pytest.mark.realdata
def test_four_chamber_heart_whole(data):
    path = data / "rodero-heart-01" / "rodero_01_fullheart_2.0mm.vtu.gz"
    with pytest.warns(UserWarning, match="1212 triangles of 17 surfaces are not on the boundary"):
        mesh = read_mesh(path, fibres=False)
    assert mesh.elements == 331_365
    assert set(mesh.regions) == {1, 2, 3, 4, 5, 6, 7}


@pytest.mark.realdata
def test_heart_with_fibres_in_another_order(data, tmp_path):
    folder = data / "crtdemo"
    mesh = read_mesh(
        folder / "crtdemo_mesh_oriented.vtk", fibres=folder / "crtdemo_f0_oriented.vtk"
    )
    assert (mesh.nodes, mesh.elements) == (4_569, 17_866)
    np.testing.assert_allclose(np.linalg.norm(mesh.cell_data["fibre"], axis=1), 1)
    surfaces = {
        f"endo_{side.lower()}": surface_from_file(
            mesh, folder / f"crtdemo_{side}endo_heart_cut.obj"
        )
        for side in ("LV", "RV")
    }
    mesh = mesh.replaced(surfaces=surfaces)
    assert areas(mesh.points, surfaces["endo_lv"]).sum() == pytest.approx(5207.2, abs=0.1)
    assert areas(mesh.points, surfaces["endo_rv"]).sum() == pytest.approx(9643.6, abs=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_mesh(tmp_path / "crt.pts", mesh)
    assert_same(mesh, read_mesh(tmp_path / "crt.pts"))
