"""What the short overrides of ``cardiotwin calibrate`` stand for."""

from collections.abc import Sequence


def calibration_overrides(words: Sequence[str]) -> list[str]:
    """Overrides with `ecg=FILE` and `twin=FOLDER` written out, and a calibration chosen.

    Args:
        words: as they stand on the command line.
    """
    found: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key == "ecg":
            found.append(f"calibration.ecg={value}")
        elif equals and key == "twin":
            found += ["experiment=twin", f"mesh.path={value}"]
        else:
            found.append(word)
    if not any(word.partition("=")[0] == "calibration" for word in found):
        found.insert(0, "calibration=qrs")
    return found
