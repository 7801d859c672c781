"""The public surface: every name is there, and nothing heavy comes with the import."""

import re
import subprocess
import sys
from pathlib import Path

import cardiotwin

SOURCE = Path(cardiotwin.__file__).read_text(encoding="utf-8")


def test_every_public_name_resolves():
    announced = {name: home for home, name in re.findall(r"from (\S+) import (\w+) as \2", SOURCE)}
    announced.pop("__version__")
    assert announced == cardiotwin._HOMES
    for name in announced:
        assert getattr(cardiotwin, name) is not None
        assert name in dir(cardiotwin)


def test_unknown_name_is_an_attribute_error():
    assert not hasattr(cardiotwin, "no_such_name")


def test_import_brings_nothing_heavy():
    code = (
        "import sys, cardiotwin;"
        "heavy = {'jax', 'vtk', 'pyvista', 'matplotlib', 'hydra', 'scipy', 'pandas'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_whole_package_imports_without_a_renderer():
    code = (
        "import sys, cardiotwin.run, cardiotwin.config;"
        "print(sorted({'vtk', 'pyvista', 'vtkmodules', 'matplotlib', 'plotly'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
