"""Figures of a calibration: leads, parameters, convergence."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

from cardiotwin.results._palette import INK, LINES
from cardiotwin.results.figures import _figure, _save

GREY = "#b8b8c0"


def leads_over(
    path: Path | str,
    t_ms: Float[np.ndarray, " times"],
    recorded: Float[np.ndarray, "times leads"],
    fitted: Float[np.ndarray, "times leads"],
    names: Sequence[str],
    *,
    spread: Float[np.ndarray, "draws times leads"] | None = None,
    by_lead: Mapping[str, float] | None = None,
    dpi: int = 150,
) -> Path:
    """Draw recorded and fitted QRS complexes, a panel a lead, all on the same axes.

    Args:
        path: the picture.
        t_ms: [times] ms.
        recorded: [times, leads] mV.
        fitted: [times, leads] mV.
        names: of the leads.
        spread: other answers, drawn as a band from 5 to 95 %.
        by_lead: correlation of each lead, written into its panel.
        dpi: dots an inch.
    """
    columns = 3 if len(names) <= 12 else 6
    rows = -(-len(names) // columns)
    figure = _figure(9.0, 1.7 * rows + 0.7)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    order = panels.T.ravel() if len(names) == 12 else panels.ravel()
    for k, (name, axes) in enumerate(zip(names, order, strict=False)):
        if spread is not None and len(spread) > 1:
            low, high = np.percentile(spread[:, :, k], [5.0, 95.0], axis=0)
            axes.fill_between(t_ms, low, high, color=LINES[0], alpha=0.25, lw=0)
        axes.plot(t_ms, recorded[:, k], color=INK, lw=1.4, label="recorded")
        axes.plot(t_ms, fitted[:, k], color=LINES[0], lw=1.4, label="fitted")
        axes.axhline(0.0, color=GREY, lw=0.5, zorder=0)
        text = name if by_lead is None else f"{name}   r = {by_lead[name]:.2f}"
        axes.set_title(text, fontsize=9, loc="left", pad=2)
        axes.tick_params(labelsize=7)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    for axes in order[len(names) :]:
        axes.set_visible(False)
    for axes in panels[-1]:
        axes.set_xlabel("ms from QRS onset", fontsize=8)
    for axes in panels[:, 0]:
        axes.set_ylabel("mV", fontsize=8)
    handles, labels = order[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper right", ncols=2, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.96))
    return _save(figure, path, dpi)


def parameters(
    path: Path | str,
    unknowns: Any,
    laplace: Any,
    ensemble: Any,
    latent: Float[np.ndarray, " latents"],
    *,
    dpi: int = 150,
) -> Path:
    """Draw every parameter's intervals in units of its prior.

    The axis runs over the prior's own distribution: 5, 50 and 95 % of it stand where they do for a
    normal one, so that parameters of all units share it; each row says its value.

    Args:
        path: the picture.
        unknowns: what moved (`cardiotwin.inference.Unknowns`).
        laplace: posterior.
        ensemble: posterior or None.
        latent: of the answer.
        dpi: dots an inch.
    """
    labels, count = unknowns.labels, unknowns.size
    value = np.asarray(unknowns.flat(np.asarray(latent)))
    figure = _figure(8.5, 0.32 * count + 1.0)
    axes = figure.subplots()
    place = np.arange(count)[::-1]
    edge = ndtri(0.95)
    axes.barh(place, 2 * edge, left=-edge, height=0.75, color="#ececf0", label="prior")
    for draws, colour, offset, label in (
        (laplace, LINES[0], 0.16, "Laplace"),
        (ensemble, LINES[1], -0.16, "fits to perturbed ECGs"),
    ):
        if draws is None or len(draws.latents) < 2:
            continue
        low, high = np.percentile(draws.latents, [5.0, 95.0], axis=0)
        axes.hlines(place + offset, low, high, color=colour, lw=3, label=label)
    axes.plot(latent, place, "|", color=INK, ms=11, mew=2, label="answer")
    units = unknowns.units
    texts = [f"{n}  {v:.3g} {u}".strip() for n, v, u in zip(labels, value, units, strict=True)]
    axes.set_yticks(place, texts, fontsize=8)
    span = max(3.0, float(np.abs(latent).max()) + 0.5)
    axes.set_xlim(-span, span)
    axes.set_xlabel("standard deviations of the prior", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.legend(fontsize=7, loc="lower right", frameon=False)
    figure.tight_layout()
    return _save(figure, path, dpi)


def convergence(
    path: Path | str, folder: Path | str, log_evidence: Mapping[int, float], *, dpi: int = 150
) -> Path:
    """Draw the cost of every descent against its evaluations, and the evidence.

    Args:
        path: the picture.
        folder: holds a folder a descent, each with its `evaluations.jsonl`.
        log_evidence: by number of root nodes, less that of the best.
        dpi: dots an inch.
    """
    figure = _figure(9.0, 3.2)
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    files = sorted(Path(folder).glob("*/evaluations.jsonl"))
    counts = sorted({file.parent.name.split("_")[1] for file in files})
    seen = set()
    for file in files:
        count = file.parent.name.split("_")[1]
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        costs = [line["costs"][0] for line in lines if line.get("stage") == "descent"]
        colour = LINES[counts.index(count) % len(LINES)]
        label = None if count in seen else f"{count} root nodes"
        seen.add(count)
        left.plot(np.arange(1, len(costs) + 1), costs, color=colour, lw=1.1, label=label)
    left.set_yscale("log")
    left.set_xlabel("evaluations (softened loss first)", fontsize=8)
    left.set_ylabel("cost", fontsize=8)
    left.legend(fontsize=7, frameon=False)
    right.plot([str(k) for k in log_evidence], list(log_evidence.values()), "o-", color=LINES[0])
    right.axhline(0.0, color=INK, lw=0.6)
    right.set_xlabel("root nodes", fontsize=8)
    right.set_ylabel("log evidence less the best", fontsize=8)
    for axes in (left, right):
        axes.tick_params(labelsize=7, which="both")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.tight_layout()
    return _save(figure, path, dpi)
