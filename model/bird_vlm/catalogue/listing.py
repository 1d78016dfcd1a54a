"""Models as a person and a program read them: a table of all, one card in full, JSON.

Knows how cards, memory and folders are told; looks up none of them.
"""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from bird_vlm.catalogue.cards import BY_CONVERSION, DIALECTS, Card
from bird_vlm.catalogue.installed import WEIGHTS
from bird_vlm.catalogue.memory_need import GIB, PRECISIONS, Precision, Room, memory_need, widest_fit

UNKNOWN = "?"
_IN_TABLE: tuple[Precision, ...] = ("bf16", "int8", "int4")


@dataclass(frozen=True)
class Entry:
    """A model, and how it stands on this machine."""

    card: Card
    folder: Path | None  # where it lies; None where it is not here
    room: Room

    @property
    def needs(self) -> dict[Precision, float] | None:
        """Bytes by precision; None where the number of parameters is unknown."""
        count = self.card.parameters
        return None if count is None else {way: memory_need(count, way) for way in PRECISIONS}

    @property
    def fits_as(self) -> Precision | None:
        count = self.card.parameters
        return None if count is None else widest_fit(count, self.room)

    @property
    def is_shipped(self) -> bool:
        return bool(self.folder) and self.folder.resolve().parent == WEIGHTS


def models_json(entries: list[Entry], room: Room) -> dict[str, Any]:
    """All that is known, for programs; null for what is not known."""
    device = {"device": room.device, "name": room.name, "free_gib": round(room.free / GIB, 1)}
    return {"device": device, "models": [model_json(entry) for entry in entries]}


def model_json(entry: Entry) -> dict[str, Any]:
    needs = entry.needs
    return {
        **asdict(entry.card),
        "link": entry.card.link,
        "memory_gib": needs and {way: round(need / GIB, 1) for way, need in needs.items()},
        "fits_as": entry.fits_as,
        "folder": entry.folder and str(entry.folder),
    }


def models_table(entries: list[Entry], room: Room) -> Table:
    """One row a model, at most 100 columns wide."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold underline")
    table.title = f"Models · {room.name} ({room.device}), {room.free / GIB:.1f} GiB free"
    table.title_justify = table.caption_justify = "left"
    table.add_column("model", no_wrap=True)
    for heading in ("size", *_IN_TABLE):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("here", no_wrap=True)
    table.add_column("boxes, made for")
    table.add_column("licence")
    for entry in entries:
        table.add_row(*_row(entry))
    table.caption = (
        "bf16, int8, int4: GiB to answer, estimated. here: how it fits in what is free, and\n"
        "whether it is on this machine. ?: not known. One in full: bird models NAME"
    )
    return table


def card_table(entry: Entry) -> Table:
    """One model in full."""
    card, needs = entry.card, entry.needs
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    memory = needs and ", ".join(f"{way} {_gib(need)} GiB" for way, need in needs.items())
    rows = {
        "model": card.name,
        "page": card.link or ("ships with the package" if entry.is_shipped else None),
        "folder": str(entry.folder) if entry.folder else "not on this machine",
        "family": card.family,
        "parameters": None if card.parameters is None else f"{card.parameters:,}",
        "picture": _picture(card),
        "made for": ", ".join(card.made_for) or None,
        "boxes": card.dialect and f"{card.dialect}: {DIALECTS[card.dialect]}",
        "licence": card.licence,
        "research only": _yes_no(card.research_only),
        "gated": _yes_no(card.gated),
        "memory": memory,
        "fits here": f"{_fit(entry)} ({entry.room.name}, {_gib(entry.room.free)} GiB free)",
        "note": card.note or "-",
    }
    for heading, text in rows.items():
        table.add_row(heading, escape(text or UNKNOWN))
    return table


def next_steps(entry: Entry) -> list[str]:
    """What to do to use a model on this machine, in order."""
    card = entry.card
    steps = []
    if card.research_only:
        steps.append("research only: its licence or its training data forbid commercial use")
    if entry.needs and entry.fits_as is None:
        steps.append(f"it does not fit in the memory that is free on {entry.room.device}")
    if card.id and not entry.folder:
        steps += _ways_to_get(card)
    by_folder = entry.folder and not entry.is_shipped and card.id is None
    model = shlex.quote(str(entry.folder)) if by_folder else card.name
    if card.family in BY_CONVERSION:
        source = shlex.quote(str(entry.folder)) if entry.folder else "FOLDER"
        steps.append(f"turn it into ours: bird convert {source} bird-from-qwen")
        model = "bird-from-qwen"
    if entry.fits_as in ("int8", "int4"):
        model += f" --quantize {entry.fits_as}"
    steps.append(f"use it: bird ground scan.nii.gz --text liver --model {model}")
    return steps


def _ways_to_get(card: Card) -> list[str]:
    steps = []
    if card.gated:
        steps.append(f"accept its licence at {card.link}, then log in: hf auth login")
    size = f" ({card.parameters * 2 / GIB:.0f} GiB)" if card.parameters else ""
    only = f' --include "{card.subfolder}/*"' if card.subfolder else ""
    steps.append(f"get it{size}: --model {card.name} fetches it, or: hf download {card.id}{only}")
    return steps


def _row(entry: Entry) -> tuple[str, ...]:
    card, needs = entry.card, entry.needs
    memory = [_gib(needs[way]) if needs else UNKNOWN for way in _IN_TABLE]
    licence = escape(card.licence or UNKNOWN)
    if card.research_only:
        licence += "\n[red]research only[/red]"
    return (
        f"[bold]{escape(card.name)}[/bold]\n[dim]{escape(_second_line(entry))}[/dim]",
        _size(card.parameters),
        *memory,
        f"{_fit(entry)}\n[dim]{_standing(entry)}[/dim]",
        f"{card.dialect or UNKNOWN}\n[dim]{escape(_brief(card.made_for) or UNKNOWN)}[/dim]",
        licence,
    )


def _second_line(entry: Entry) -> str:
    return entry.card.id or ("ships with BiRD" if entry.is_shipped else "")


def _standing(entry: Entry) -> str:
    if entry.folder:
        return "shipped" if entry.is_shipped else "yes"
    return {True: "gated", False: "to get", None: "to get"}[entry.card.gated]


def _fit(entry: Entry) -> str:
    if entry.needs is None:
        return UNKNOWN
    return entry.fits_as or "no"


def _brief(made_for: tuple[str, ...]) -> str:
    return ", ".join(made_for) if len(made_for) < 4 else f"{', '.join(made_for[:2])} ..."


def _picture(card: Card) -> str | None:
    if isinstance(card.image_size, int):
        return f"{card.image_size} x {card.image_size} pixels"
    return card.image_size and "its own size, within limits"


def _size(parameters: int | None) -> str:
    if parameters is None:
        return UNKNOWN
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e8 else f"{parameters / 1e6:.1f}M"


def _gib(need: float) -> str:
    return f"{need / GIB:.1f}" if need < 99.5 * GIB else f"{need / GIB:.0f}"


def _yes_no(value: bool | None) -> str | None:
    return None if value is None else ("yes" if value else "no")
