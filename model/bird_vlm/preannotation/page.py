"""The index as a page: one file that needs no network and no program but a browser.

All names and errors go through the template's escaping. Knows nothing about how results came about.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined, Template

from bird_vlm.overlay import label_colours

_FOLDER = Path(__file__).parent


def page_html(index: Mapping[str, Any]) -> str:
    """`index.html` for the content of `index.json`."""
    labels = index["asked"]["labels"]
    rows = [_row(row) for row in index["cases"]]
    return _template().render(
        index=index,
        counts=index["counts"],
        asked=index["asked"],
        colours={label: f"rgb{rgb}" for label, rgb in label_colours(labels).items()},
        rows=rows,
        seconds=sum(row["seconds"] for row in rows),
        style=(_FOLDER / "page.css").read_text(encoding="utf-8"),
        script=(_FOLDER / "page.js").read_text(encoding="utf-8"),
    )


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A case with its findings by label, best first, and whether a person should look at it."""
    by_label: dict[str, list[float]] = {}
    for finding in row["findings"]:
        by_label.setdefault(finding["label"], []).append(finding["score"])
    found = [
        {"label": label, "best": max(scores), "count": len(scores)}
        for label, scores in by_label.items()
    ]
    order = {"failed": 0, "done": 1 if row["missing"] else 2, "pending": 3}
    return {
        **row,
        "found": found,
        "links": {name: quote(place) for name, place in row["files"].items()},
        "seconds": row["timing_s"].get("total", 0.0),
        "rank": order[row["status"]],
        "flagged": row["status"] == "failed" or bool(row["missing"]),
    }


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string((_FOLDER / "page.html").read_text(encoding="utf-8"))
