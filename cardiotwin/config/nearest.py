"""Naming what the user probably meant."""

import difflib
from collections.abc import Iterable


def suggestion(name: str, known: Iterable[str]) -> str:
    """Phrase the nearest known name as a question.

    Dotted names are compared whole first, then by their last part, so that ``edge_length`` finds
    ``mesh.edge_length``.

    Args:
        name: what was written.
        known: the names that exist.

    Returns:
        ``"; did you mean 'x'?"``, or an empty text where nothing is near.
    """
    candidates = sorted(set(known))
    lowered = {candidate.lower(): candidate for candidate in reversed(candidates)}
    found = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    if found:
        return f"; did you mean {lowered[found[0]]!r}?"
    last = {candidate.rpartition(".")[2].lower(): candidate for candidate in reversed(candidates)}
    found = difflib.get_close_matches(name.rpartition(".")[2].lower(), last, n=1, cutoff=0.75)
    return f"; did you mean {last[found[0]]!r}?" if found else ""
