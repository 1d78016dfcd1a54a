"""Tells the server's review store what was decided here: brings its state to the scene's.

States are compared, not steps replayed: what was decided while nobody was connected, undone again,
or sent and never confirmed needs no care of its own. Where another person decided meanwhile,
nothing is overwritten. Runs on a worker; knows nothing about MRML or HTTP.
"""

from collections import namedtuple

from .cases import read_stored_finding
from .errors import Conflict, NotFound
from .i18n import tr as _
from .places import same_place
from .statuses import ACCEPTED, EDITED, KEPT, PROPOSED, REJECTED

# A finding as it stands in the scene. server_id and revision: as last heard, or empty and 0;
# new_id: for one that the store does not know; proposed: the model's own Place, place: today's.
Wanted = namedtuple(
    "Wanted",
    "key server_id revision new_id status label prompt comment plane proposed place reviewer",
)
# finding: cases.StoredFinding, or None where the store need not know it; dispute: who decided
# otherwise and what, else empty.
Told = namedtuple("Told", "key finding dispute")
_ACTIONS = {ACCEPTED: "accept", EDITED: "accept", REJECTED: "reject", PROPOSED: "reopen"}


def tell(client, case, wanted):
    """A Told for each Wanted of one case; `client` is a reviewclient.ReviewClient."""
    try:
        known = list(client.case(case).findings)
    except NotFound as error:
        if error.code != "unknown_case":
            raise
        known = []
    return [_tell(client, case, each, _find(each, known)) for each in wanted]


def same_decision(wanted, other):
    """Whether two Wanted of one finding say the same."""
    said = [(each.status, each.label, each.comment) for each in (wanted, other)]
    places = [each.place for each in (wanted, other)]
    if any(place is None for place in places):
        return said[0] == said[1] and places[0] is places[1]
    return said[0] == said[1] and same_place(*places)


def _find(wanted, known):
    """The store's finding of a Wanted, taken out of `known`; None where there is none."""
    for found in known:
        if _is_it(wanted, found):
            known.remove(found)
            return found
    return None


def _is_it(wanted, found):
    if wanted.server_id:
        return found.finding_id == wanted.server_id
    same_question = (found.prompt, found.plane) == (wanted.prompt, wanted.plane)
    return found.finding_id == wanted.new_id or (
        same_question and wanted.proposed is not None and same_place(found.place, wanted.proposed)
    )


def _tell(client, case, wanted, found):
    if found is None:
        if wanted.status not in KEPT or wanted.place is None:
            return Told(wanted.key, None, "")
        label, place = wanted.label, wanted.place
        found = client.add(case, wanted.new_id, label, wanted.plane, place, wanted.reviewer,
                           wanted.comment)  # fmt: skip
        return Told(wanted.key, found, "")
    if wanted.status == PROPOSED and not wanted.server_id:
        return Told(wanted.key, found, "")  # undecided here: what the store says is news
    if _is_anothers(wanted, found):
        return Told(wanted.key, found, _words(found))
    try:
        return Told(wanted.key, _bring(client, found, wanted), "")
    except Conflict as error:
        if "present" not in error.told:
            raise
        present = read_stored_finding(error.told["present"])
        return Told(wanted.key, present, "" if _agree(present, wanted) else _words(present))


def _is_anothers(wanted, found):
    """Whether somebody else has decided otherwise since we last heard."""
    news = found.revision > wanted.revision and found.reviewer not in ("", wanted.reviewer)
    return news and not _agree(found, wanted)


def _agree(found, wanted):
    same_status = found.status == wanted.status or (
        found.status in KEPT and wanted.status == EDITED
    )
    return same_status and _same_content(found, wanted)


def _same_content(found, wanted):
    return found.finding.label == wanted.label and _placed(found, wanted)


def _placed(found, wanted):
    return wanted.place is None or same_place(found.place, wanted.place)


def _bring(client, found, wanted):
    """Changes the store's finding until it is as wanted; returns it."""
    back_to_model = wanted.proposed is not None and wanted.place is not None and same_place(
        wanted.place, wanted.proposed
    )  # fmt: skip
    while back_to_model and found.can_undo and not _placed(found, wanted):
        found = client.undo(found, wanted.reviewer)
    label = wanted.label if wanted.label != found.finding.label else None
    place = None if _placed(found, wanted) else wanted.place
    if label is not None or place is not None:
        found = client.change(found, "edit", wanted.reviewer, wanted.comment, label, place)
    if not _agree(found, wanted) or found.comment != wanted.comment:
        action = _ACTIONS[wanted.status]
        found = client.change(found, action, wanted.reviewer, wanted.comment)
    return found


def _words(found):
    who = found.reviewer or _("The model")
    return _("{}: {} says {} ({}).").format(found.finding.label, who, found.status, found.time)
