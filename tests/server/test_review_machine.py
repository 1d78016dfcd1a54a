"""The store against a plain dictionary: random proposals, decisions, edits, notes and restarts."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
)

from bird_server.review.errors import NothingToUndoError, StaleRevisionError
from bird_server.review.lists import WorkFilter
from bird_server.review.records import STATUSES, Edit
from bird_server.review.replay import original_of, state_after
from review_cases import a_finding, a_proposal, a_store_in, by

# Far from each other, so that each place is an object of its own.
PLACES = [(2.0, 2.0, 9.0, 9.0), (20.0, 3.0, 30.0, 12.0), (5.0, 18.0, 15.0, 28.0)]
CASES = ["d1", "d2"]
LABELS = ["liver", "kidney_left", "Left Kidney"]
NAMES = {"liver": "liver", "kidney_left": "left kidney", "Left Kidney": "left kidney"}
PEOPLE = st.sampled_from(["ann", "bob"])
TEXTS = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Cf", "Zl", "Zp", "Zs", "Cn", "Co")), max_size=20
)
LEADS_TO = {"accept": "accepted", "reject": "rejected", "reopen": "proposed"}


class ReviewMachine(RuleBasedStateMachine):
    """`self.known` maps finding ids to what the store must say of them."""

    findings = Bundle("findings")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = a_store_in(self.folder)
        self.known: dict[str, dict] = {}
        self.absences: dict[str, dict[str, str]] = {}
        self.notes: dict[str, list[tuple[str, str]]] = {}

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    @rule(
        target=findings,
        digest=st.sampled_from(CASES),
        label=st.sampled_from(LABELS),
        places=st.sets(st.sampled_from(range(len(PLACES)))),
        last=st.sampled_from([5, 8]),
    )
    def propose(self, digest, label, places, last):
        """One prompt: found in some places, from slice 3 on; absent where in none."""
        found = [a_finding(label, 3, last, PLACES[place]) for place in sorted(places)]
        absent = () if found else (label,)

        done = self.store.propose(a_proposal(*found, digest=digest, absent=absent))

        self.notes.setdefault(digest, [])
        self.absences.setdefault(digest, {})
        if absent:
            self.absences[digest].setdefault(NAMES[label], label)
        added = iter(done.added)
        for place, finding in zip(sorted(places), found, strict=True):
            self._expect(digest, label, place, finding, added, done)
        assert next(added, None) is None
        return multiple(*done.added)

    def _expect(self, digest, label, place, finding, added, done):
        question = (digest, NAMES[label], place)
        same = [k for k, v in self.known.items() if v["question"] == question]
        if not same:
            self.known[next(added)] = {
                "question": question,
                "status": "proposed",
                "events": ["proposed"],
                "before": [],  # (status, content) to which an undo leads back
                "undone": [],
                "reviewer": None,
                "touched": False,
                "content": finding,
                "original": finding,
            }
            return
        (known,) = same
        entry = self.known[known]
        grows = len(finding.boxes) > len(entry["content"].boxes)
        if grows and not entry["touched"]:
            assert known in done.updated
            entry["events"].append("reproposed")
            entry.update(content=finding, original=finding)
        else:
            assert known in done.kept

    @rule(finding=findings, how=st.sampled_from(sorted(LEADS_TO)), person=PEOPLE, comment=TEXTS)
    def decide(self, finding, how, person, comment):
        entry = self.known[finding]
        found = getattr(self.store, how)(finding, by(person, len(entry["events"]), comment))
        assert found.comment == comment
        self._changes(entry)
        entry["events"].append(LEADS_TO[how] if how != "reopen" else "reopened")
        entry.update(status=LEADS_TO[how], reviewer=person, touched=True)

    @rule(finding=findings, person=PEOPLE, label=st.sampled_from(["spleen", "liver", "cyst"]))
    def rename(self, finding, person, label):
        entry = self.known[finding]
        if entry["content"].label == label:
            return
        self.store.edit(finding, by(person, len(entry["events"])), Edit(label=label))
        self._changes(entry)
        entry["events"].append("edited")
        content = replace(entry["content"], label=label)
        entry.update(status="edited", reviewer=person, touched=True, content=content)

    @rule(finding=findings, person=PEOPLE)
    def undo(self, finding, person):
        entry = self.known[finding]
        if not entry["before"]:
            with pytest.raises(NothingToUndoError):
                self.store.undo(finding, by(person, len(entry["events"])))
            return
        self.store.undo(finding, by(person, len(entry["events"])))
        entry["undone"].append((entry["status"], entry["content"]))
        self._step(entry, "undone", entry["before"].pop(), person)

    @rule(finding=findings, person=PEOPLE)
    def redo(self, finding, person):
        entry = self.known[finding]
        if not entry["undone"]:
            with pytest.raises(NothingToUndoError):
                self.store.redo(finding, by(person, len(entry["events"])))
            return
        self.store.redo(finding, by(person, len(entry["events"])))
        entry["before"].append((entry["status"], entry["content"]))
        self._step(entry, "redone", entry["undone"].pop(), person)

    def _step(self, entry, kind, target, person):
        status, content = target
        entry["events"].append(kind)
        entry.update(status=status, content=content, reviewer=person)

    def _changes(self, entry):
        entry["before"].append((entry["status"], entry["content"]))
        entry["undone"].clear()

    @rule(finding=findings, person=PEOPLE, behind=st.integers(1, 3))
    def decide_late(self, finding, person, behind):
        revision = len(self.known[finding]["events"])
        if behind >= revision:
            return
        with pytest.raises(StaleRevisionError) as refused:
            self.store.accept(finding, by(person, revision - behind))
        assert refused.value.revision == revision

    @precondition(lambda self: self.notes)
    @rule(data=st.data(), person=PEOPLE, text=TEXTS.filter(str.strip))
    def note(self, data, person, text):
        digest = data.draw(st.sampled_from(sorted(self.notes)))
        self.store.add_note(digest, person, text)
        if self.notes[digest][-1:] != [(person, text)]:
            self.notes[digest].append((person, text))

    @rule()
    def restart(self):
        self.store.close()
        self.store = a_store_in(self.folder)
        assert self.store.recovery is None

    @invariant()
    def every_finding_is_as_it_was_left(self):
        found = {f.finding_id: f for f in self.store.work_list(WorkFilter(limit=500)).findings}
        assert list(found) == list(self.known)
        for finding_id, entry in self.known.items():
            state = found[finding_id]
            assert state.content.finding() == entry["content"]
            assert (state.status, state.reviewer) == (entry["status"], entry["reviewer"])
            assert state.revision == len(entry["events"])
            left = (len(entry["before"]), len(entry["undone"]))
            assert (state.undoable, state.redoable) == left

    @invariant()
    def histories_lead_to_states_and_keep_originals(self):
        for finding_id, entry in self.known.items():
            history = self.store.history(finding_id)
            assert [event.kind for event in history] == entry["events"]
            state = state_after(history)
            assert (state.status, state.content.finding()) == (entry["status"], entry["content"])
            assert original_of(history).finding() == entry["original"]

    @invariant()
    def cases_tell_counts_and_what_is_missing(self):
        cases = {c.case.volume_digest: c for c in self.store.summaries()}
        assert set(cases) == set(self.notes)
        for digest, case in cases.items():
            mine = [e for e in self.known.values() if e["question"][0] == digest]
            for status in STATUSES:
                assert case.counts[status] == sum(e["status"] == status for e in mine)
            standing = [e for e in mine if e["status"] != "rejected"]
            answered = {e["question"][1] for e in standing}
            answered |= {NAMES.get(e["content"].label, e["content"].label) for e in standing}
            missing = [p for name, p in self.absences[digest].items() if name not in answered]
            assert list(case.missing) == missing
            told = [(n.reviewer, n.text) for n in self.store.report(digest).notes]
            assert told == self.notes[digest]


TestReviewMachine = ReviewMachine.TestCase
TestReviewMachine.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, print_blob=True
)
