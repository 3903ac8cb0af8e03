"""The report as one HTML file that needs nothing else: no network, no server, no other file."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from autotune.kept.outcome import Outcome
from autotune.report.findings import Findings
from autotune.report.plots import Plot, plots
from autotune.report.sentences import Section, sections


def page(findings: Findings) -> str:
    """The report of one study."""
    outcome = findings.outcome
    return render(f"Strategy report: {outcome.name}", subtitle(outcome), sections(findings), plots(findings))


def subtitle(outcome: Outcome) -> str:
    """What was searched for, how and how long."""
    objective, notes = outcome.objective, outcome.notes
    parts = [f"{objective.direction} {objective.metric}", f"{len(outcome.records):,} trials"]
    parts += [f"{each} {notes[each]}" for each in ("sampler", "pruner", "executor") if notes.get(each)]
    if outcome.seconds:
        parts.append(f"{outcome.seconds:,.0f} s of searching")
    return ", ".join(parts)


def render(title: str, subtitle: str, sections: Sequence[Section], plots: Sequence[Plot]) -> str:
    """A page of sentences, tables and figures. Plotly's source and the figures are packed, and unpacked by the page."""
    return str(
        _template().render(
            title=title,
            subtitle=subtitle,
            sections=sections,
            plots=plots,
            plotly=_plotly() if plots else "",
            figures=_packed(_written({plot.key: plot.figure for plot in plots})),
            footer=f"Made by autotune on {datetime.now(UTC):%Y-%m-%d at %H:%M} UTC. "
            "Drag to zoom in a figure, double-click to zoom out, click in a legend to hide.",
        )
    )


def _written(figures: Mapping[str, Mapping[str, Any]]) -> str:
    return json.dumps(figures, separators=(",", ":"), allow_nan=False)


def _packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return _packed(get_plotlyjs())


@cache
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("autotune.report", "."), autoescape=True, undefined=StrictUndefined, auto_reload=False
    )
    return environment.get_template("page.html")
