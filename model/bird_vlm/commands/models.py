"""`bird models`: which models there are, whether they fit here, and how to get one.

Reads the table, this machine's memory and its folders; never the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bird_vlm.console import plain_errors

if TYPE_CHECKING:
    from bird_vlm.catalogue.cards import Card
    from bird_vlm.catalogue.listing import Entry
    from bird_vlm.catalogue.memory_need import Room

EPILOG = "bird models medgemma-1.5-4b"
WIDTH = 100  # columns of the table, where it goes to a file or another program


@plain_errors
def models(
    name: Annotated[
        str | None,
        typer.Argument(help="One in full: a name of the table, a hub id (owner/name) or a folder."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead, with null for what is not known.")
    ] = False,
    device: Annotated[
        str | None,
        typer.Option(help="Whose free memory to compare with: cpu, cuda or cuda:1."),
    ] = None,
) -> None:
    """List the models that BiRD knows: size, licence, boxes, memory, and whether they are here.

    Every name works as --model NAME: a model that is not here is fetched from the hub on first
    use. Any other model of the same families works by its hub id (owner/name) or its folder;
    those in the hub's cache are listed too. Memory is an estimate for a few slices at a time.
    """
    from bird_vlm.catalogue.listing import model_json, models_json, models_table
    from bird_vlm.catalogue.memory_need import free_memory

    out = Console()
    if not out.is_terminal:
        out.width = max(out.width, WIDTH)
    room = free_memory(device)
    if name is not None:
        entry = _entry(name, room)
        if json:
            out.print_json(data=model_json(entry))
        else:
            _show(entry, out)
        return
    entries = _entries(room)
    if json:
        out.print_json(data=models_json(entries, room))
    else:
        out.print(models_table(entries, room))


def _show(entry: Entry, out: Console) -> None:
    from bird_vlm.catalogue.listing import card_table, next_steps

    out.print(card_table(entry))
    out.print("\nNext:", style="bold")
    for number, step in enumerate(next_steps(entry), start=1):
        out.print(f"{number}. {step}", markup=False, highlight=False, soft_wrap=True)


def _entries(room: Room) -> list[Entry]:
    """The table, and what else the hub's cache holds of the same families."""
    from bird_vlm.catalogue.installed import cached_models, model_here
    from bird_vlm.catalogue.known import KNOWN, known_model
    from bird_vlm.catalogue.listing import Entry

    entries = [Entry(card, model_here(card), room) for card in KNOWN]
    others = {i: folder for i, folder in cached_models().items() if not known_model(i)}
    return entries + [Entry(_cached_card(i, folder), folder, room) for i, folder in others.items()]


def _entry(name: str, room: Room) -> Entry:
    from bird_vlm.catalogue.installed import cached_folder, folder_card
    from bird_vlm.catalogue.listing import Entry
    from bird_vlm.catalogue.names import find_source
    from bird_vlm.errors import CheckpointError

    source = find_source(name)
    folder = source.folder or cached_folder(source.id, source.subfolder)
    if source.card:
        return Entry(source.card, folder, room)
    if folder is None:
        raise CheckpointError(
            f"model: {source.id} is not in the table and not on this machine, so nothing is known "
            f"of it; see https://huggingface.co/{source.id}, or name one of `bird models`"
        )
    card = _cached_card(source.id, folder) if source.id else folder_card(folder)
    return Entry(card, folder, room)


def _cached_card(model_id: str, folder: Path) -> Card:
    from dataclasses import replace

    from bird_vlm.catalogue.installed import folder_card

    return replace(folder_card(folder), name=model_id, id=model_id, gated=None)
