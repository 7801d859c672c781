"""Quantities as people write them, and the exact conversions of lengths."""

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardiotwin import units
from cardiotwin.units import convert, from_mm, length_exponent, quantity, to_mm


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.17, "mS/mm", 0.17),
        (3, "ms", 3.0),
        (np.float32(2.5), "mm", 2.5),
        (np.int64(7), "ms", 7.0),
        (np.array(1.5), "mm", 1.5),
        ("0.17", "mS/mm", 0.17),
        ("0.17 S/m", "mS/mm", 0.17),
        ("1400/cm", "1/mm", 140.0),
        ("1 uF/cm**2", "uF/mm**2", 0.01),
        ("1 µF/cm^2", "uF/mm**2", 0.01),
        ("3 min", "ms", 180_000.0),
        ("0.6 m/s", "mm/ms", 0.6),
        ("60 cm/s", "mm/ms", 0.6),
        ("1 cm**2/s", "mm**2/ms", 0.1),
        ("-85 mV", "mV", -85.0),
        ("35.7 uA/mm^3", "uA/mm**3", 35.7),
        ("75 bpm", "1/min", 75.0),
        ("50 %", "", 0.5),
        ("0.5", "", 0.5),
    ],
)
def test_quantities(value, unit, expected):
    result = quantity(value, unit)
    assert type(result) is float
    assert result == pytest.approx(expected, rel=1e-14)


def test_the_system_is_coherent():
    assert quantity("1 mS * mV", "uA") == 1.0
    assert quantity("1 uF * mV / ms", "uA") == 1.0
    assert quantity("1 S/m", "mS/mm") == pytest.approx(1.0, rel=1e-15)
    assert quantity("1 m/s", "mm/ms") == 1.0
    # D = sigma / (chi C_m) comes out in mm2/ms without a factor
    assert convert(1.0, "mS/mm / (1/mm * uF/mm**2)", "mm**2/ms") == pytest.approx(1.0, rel=1e-15)


def test_lists_and_arrays_keep_their_shape():
    assert quantity(["1 s", 2, "3 ms"], "ms") == [1000.0, 2.0, 3.0]
    assert quantity((("1 s",), [2]), "ms") == [[1000.0], [2.0]]
    array = quantity(np.array([[1, 2], [3, 4]]), "ms")
    assert array.dtype == np.float64
    assert array.shape == (2, 2)
    np.testing.assert_array_equal(quantity(np.array(["1 s", "2 ms"]), "ms"), [1000.0, 2.0])


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        ("3 m", "ms", r"got '3 m', a quantity in m, where one in ms is expected: give .* \"2 s\""),
        ("3 V m", "mV", "quantity in m .* V, where one in mV"),
        ("0.5 S", "mS/mm", r"such as \"0.17 S/m\""),
        ("3 ms", "", "where one in pure numbers is expected"),
        ("3 foos", "ms", "not a quantity .*foos"),
        ("three", "ms", "not a quantity"),
        ("", "ms", "not a quantity"),
        ("3 **", "ms", "not a quantity"),
        ("__import__('os')", "ms", "not a quantity"),
        ("nan", "ms", "finite quantity in ms"),
        ("inf ms", "ms", "finite quantity in ms"),
        (float("nan"), "mm", "finite quantity in mm"),
        (float("inf"), "mm", "replace the NaN or infinite value"),
        (np.array([1.0, np.nan]), "mm", "finite quantity in mm"),
        (["1 s", float("-inf")], "ms", "finite quantity in ms"),
        (None, "mm", "got None where a quantity in mm is expected: give a number"),
        (True, "mm", "got True where"),
        (1 + 2j, "mm", "where a quantity in mm"),
        ({"a": 1}, "kPa", r"such as \"1 kPa\""),
    ],
)
def test_what_is_no_quantity(value, unit, text):
    with pytest.raises(ValueError, match=text):
        quantity(value, unit)


def test_convert():
    assert convert(1.0, "uF/cm**2", "uF/mm**2") == pytest.approx(0.01)
    np.testing.assert_allclose(convert([1.0, 2.0], "cm/s", "mm/ms"), [0.01, 0.02])
    with pytest.raises(ValueError, match="'mm' cannot be converted to 'ms'"):
        convert(1.0, "mm", "ms")


@pytest.mark.parametrize(
    ("factor", "one", "many"),
    [
        (units.UM_PER_MM, "mm", "um"),
        (units.MM_PER_CM, "cm", "mm"),
        (units.MM_PER_M, "m", "mm"),
        (units.MM3_PER_ML, "mL", "mm**3"),
        (units.MM2_PER_CM2, "cm**2", "mm**2"),
        (units.MS_PER_S, "s", "ms"),
        (units.MS_PER_MIN, "min", "ms"),
        (units.MV_PER_V, "V", "mV"),
        (units.UV_PER_MV, "mV", "uV"),
    ],
)
def test_named_factors(factor, one, many):
    assert factor == pytest.approx(convert(1.0, one, many), rel=1e-14)


@given(
    st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-200),
    st.sampled_from(["um", "mm", "cm", "m"]),
)
def test_lengths_are_rounded_once(value, unit):
    exact = Fraction(value) * Fraction(10) ** length_exponent(unit)
    assert float(to_mm(value, unit)) == float(exact)
    back = float(from_mm(to_mm(value, unit), unit))
    assert back == pytest.approx(value, rel=1e-15, abs=0)


def test_unknown_length_units():
    with pytest.raises(
        ValueError, match="length unit 'inch' is not known: use one of um, mm, cm, m"
    ):
        length_exponent("inch")
    assert length_exponent("µm") == -3


def test_pint_is_read_only_when_a_text_is():
    code = (
        "import sys; from cardiotwin.units import quantity; quantity(1.0, 'ms');"
        "print('pint' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
