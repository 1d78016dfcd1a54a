"""Proposals into the database: each object once, and nothing that people have touched is changed.

The same model, prompt and plane on the same volume is the same question; a box that overlaps one
known from it is the same object. A rejected object stays rejected. Knows nothing about files.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Sequence
from dataclasses import replace

from bird_server.review.case_rows import case_row_of, model_row_of
from bird_server.review.matching import matches
from bird_server.review.records import Content, Event, Proposal, Proposed, content_of
from bird_server.review.replay import after, state_after
from bird_server.review.rows import history_of, write_event, write_state
from bird_server.review.sources import write_places
from bird_vlm.labels import natural_name


def write_proposal(connection: sqlite3.Connection, proposal: Proposal, time: str) -> Proposed:
    """Stores what is new of a proposal. Raises BadRequestError for a geometry that differs."""
    case = case_row_of(connection, proposal.case, proposal.result.volume, time)
    write_places(connection, case, proposal.places)
    model = model_row_of(connection, proposal.model)
    answers: dict[str, list[Content]] = {}
    for finding in proposal.result.findings:
        answers.setdefault(finding.label, []).append(content_of(finding))
    done = Proposed(absent=proposal.result.absent)
    for prompt, contents in answers.items():
        question = _Question(connection, case, model, prompt, proposal, time)
        done = question.store(contents, done)
    for prompt in proposal.result.absent:
        connection.execute(
            "INSERT INTO absences (case_id, model_id, prompt, prompt_name, plane, time) "
            "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (case, model, prompt, natural_name(prompt), proposal.result.plane, time),
        )
    return done


class _Question:
    """One prompt about one volume, and the findings that answer it."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        case: int,
        model: int,
        prompt: str,
        proposal: Proposal,
        time: str,
    ) -> None:
        self._connection, self._time = connection, time
        self._plane = proposal.result.plane
        window = proposal.result.window or (None, None)
        self._row = (case, model, prompt, natural_name(prompt), self._plane, *window)

    def store(self, contents: Sequence[Content], done: Proposed) -> Proposed:
        known = self._known()
        claims = [[event.content for event in history if event.content] for *_, history in known]
        pairs = matches(contents, claims)
        for position, content in enumerate(contents):
            if position not in pairs:
                done = replace(done, added=(*done.added, self._add(content)))
                continue
            row, uid, history = known[pairs[position]]
            if self._updates(row, content, history):
                done = replace(done, updated=(*done.updated, uid))
            else:
                done = replace(done, kept=(*done.kept, uid))
        return done

    def _known(self) -> list[tuple[int, str, tuple[Event, ...]]]:
        case, model, _, prompt_name, *_ = self._row
        found = self._connection.execute(
            "SELECT id, uid FROM findings"
            " WHERE case_id = ? AND model_id = ? AND prompt_name = ? AND plane = ? ORDER BY id",
            (case, model, prompt_name, self._plane),
        ).fetchall()
        return [(r["id"], r["uid"], history_of(self._connection, r["id"])) for r in found]

    def _add(self, content: Content) -> str:
        uid = uuid.uuid4().hex
        row = self._connection.execute(
            "INSERT INTO findings"
            " (uid, case_id, model_id, prompt, prompt_name, plane, level, width)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (uid, *self._row),
        ).lastrowid
        self._claim(row, Event(1, "proposed", "proposed", None, self._time, "", content))
        return uid

    def _updates(self, row: int, content: Content, history: tuple[Event, ...]) -> bool:
        """Whether the new answer takes the place of one that nobody has touched."""
        state = state_after(history)
        if any(event.reviewer for event in history) or state is None:
            return False
        if len(content.boxes) <= len(state.content.boxes):
            return False
        revision = state.revision + 1
        self._claim(row, Event(revision, "reproposed", "proposed", None, self._time, "", content))
        return True

    def _claim(self, row: int, event: Event) -> None:
        write_event(self._connection, row, event)
        write_state(self._connection, row, after(event.content, event))
