"""Hearts with edges of another length: the same shape, names, regions and scar."""

import numpy as np
import pytest

from cardiotwin.anatomy.fibres import ldrb
from cardiotwin.anatomy.formats import read_mesh, write_mesh
from cardiotwin.anatomy.idealised import biventricle
from cardiotwin.anatomy.quality import quality
from cardiotwin.anatomy.remeshing import remeshed
from cardiotwin.anatomy.topology import areas
from cardiotwin.cli import main


@pytest.fixture(scope="module")
def heart():
    mesh = biventricle(2.9)
    scar = (mesh.centroids()[:, 0] > 10.0).astype(float)
    fibre = np.tile([1.0, 0.0, 0.0], (mesh.elements, 1))
    return mesh.replaced(cell_data={"scar": scar, "fibre": fibre})


@pytest.mark.parametrize("edge", [3.2, 2.5])
def test_shape_names_regions_and_fields_stay(heart, edge):
    made = remeshed(heart, edge)
    measured = quality(made)
    assert measured.edge_length.mean == pytest.approx(edge, rel=0.08)
    assert measured.slivers < 1e-3 * made.elements  # at creases between the facets
    assert made.volume() == pytest.approx(heart.volume(), rel=0.02)
    for name, faces in heart.surfaces.items():
        before = areas(heart.points, faces).sum()
        after = areas(made.points, made.surfaces[name]).sum()
        # the base is a narrow band, whose rims are rounded by a part of an edge
        assert after == pytest.approx(before, rel=0.15 if name == "base" else 0.06), name
    for name, before in quality(heart).region_volumes.items():
        assert measured.region_volumes[name] == pytest.approx(before, rel=0.04), name
    scar = (made.volumes() * made.cell_data["scar"]).sum()
    assert scar == pytest.approx((heart.volumes() * heart.cell_data["scar"]).sum(), rel=0.05)
    assert "fibre" not in made.cell_data
    np.testing.assert_allclose(np.linalg.norm(ldrb(made).fibre, axis=1), 1.0, atol=1e-9)


def test_what_cannot_be_remeshed(heart):
    with pytest.raises(ValueError, match=r"remeshing needs the surfaces .* base are missing"):
        remeshed(heart.replaced(surfaces={k: heart.surfaces[k] for k in ("epi", "endo_lv")}), 3.0)
    with pytest.raises(ValueError, match="edge_length must be a positive"):
        remeshed(heart, -1.0)


def test_command(heart, tmp_path, capsys):
    write_mesh(tmp_path / "heart.vtu", heart.replaced(surfaces={}))
    words = ["mesh", str(tmp_path / "heart.vtu"), "-o", str(tmp_path / "coarse.vtu")]
    assert main(words) == 2
    assert "is a mesh already: give --remesh" in capsys.readouterr().err
    assert main([*words, "--remesh", "3.2"]) == 0
    assert "every element has one" in capsys.readouterr().out
    made = read_mesh(tmp_path / "coarse.vtu")
    assert made.nodes < heart.nodes
    assert made.surfaces.keys() == {"epi", "endo_lv", "endo_rv", "base"}
    assert main([*words[:2], "-o", str(tmp_path / "coarse.nii"), "--remesh", "3.2"]) == 2
    assert "becomes a mesh: write .vtu" in capsys.readouterr().err
