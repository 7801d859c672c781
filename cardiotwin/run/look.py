"""A picture of a heart's surfaces, for who asks, and where their finding is uncertain."""

from pathlib import Path

from cardiotwin.anatomy.finding import find_surfaces
from cardiotwin.anatomy.mesh import STANDARD_SURFACES, Mesh
from cardiotwin.results.heart_picture import draw_heart


def look_at_surfaces(source: Path, mesh: Mesh, picture: str | Path | None = None) -> list[str]:
    """Find the surfaces that a mesh does not name, say what is doubtful, and draw them.

    Args:
        source: of the mesh; the picture of a doubtful finding is named after it.
        mesh: with or without surfaces.
        picture: where to draw; None draws a doubtful finding only, in the working folder.

    Returns:
        What was found and where it was drawn, line by line.

    Raises:
        ValueError: a picture is asked for and there are no surfaces to draw.
    """
    lines = []
    doubts: tuple[str, ...] = ()
    if not set(STANDARD_SURFACES) & mesh.surfaces.keys():
        try:
            found = find_surfaces(mesh)
        except ValueError as error:
            if picture is not None:
                raise ValueError(f"{source}: there is nothing to draw: {error}") from error
            return [f"surfaces by shape: {error}"]
        doubts, mesh = found.doubts, mesh.replaced(surfaces=found.surfaces)
        lines.append(
            "surfaces by shape: " + ", ".join(f"{k} {len(f):,}" for k, f in found.surfaces.items())
        )
        lines += [f"uncertain: {doubt}" for doubt in doubts]
    if picture is None and doubts:
        picture = f"{source.name.partition('.')[0]}_surfaces.png"
    if picture is not None:
        lines.append(f"look at them: {draw_heart(picture, mesh)}")
    return lines
