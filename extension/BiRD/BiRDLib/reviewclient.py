"""The review routes of the BiRD server, in calls. Each blocks and fails as those of client.py do.

Knows nothing about scenes, nor which of these calls make sense when. A case is named by its
volume_id (of an upload) or its volume_digest (of the store); either will do.
"""

from urllib.parse import quote, urlencode

from .cases import read_case, read_cases, read_next_case, read_notes, read_stored_finding
from .client import json_body
from .i18n import tr as _

PAGE = 500  # cases of a work list, the most that the server tells at once
EXPORTS = {
    "html": _("Report, .html"),
    "csv": _("Table, .csv"),
    "markups": _("Slicer markups, .mrk.json"),
    "coco": _("COCO, .json"),
    "dicom-sr": _("DICOM SR, .dcm"),
}
STRATEGIES = ("uncertainty", "disagreement", "missing-organ", "random")


class ReviewClient:
    """The review store behind a client.Client."""

    def __init__(self, client):
        self._client = client

    def cases(self, unreviewed=False, any_missing=False, name=""):
        """(cases.CaseSummary list, total) of the work list."""
        wanted = {"unreviewed": unreviewed, "any_missing": any_missing}
        query = {key: "true" for key, value in wanted.items() if value}
        if name:
            query["name"] = name
        query["limit"] = PAGE
        return read_cases(self._client.call("GET", "/cases?" + urlencode(query)))

    def next_case(self, strategy, after=None):
        """cases.NextCase: the most useful one to review, without `after`."""
        query = {"strategy": strategy}
        if after:
            query["after"] = after
        return read_next_case(self._client.call("GET", "/cases/next?" + urlencode(query)))

    def case(self, case):
        """All that is known of a case, as cases.Case."""
        return read_case(self._client.call("GET", "/cases/" + quote(case)))

    def change(self, finding, action, reviewer, comment="", label=None, place=None):
        """accept, reject, edit or reopen a cases.StoredFinding; returns it as it stands then."""
        body = {"action": action, "revision": finding.revision, "reviewer": reviewer}
        body["comment"] = comment
        if label is not None:
            body["label"] = label
        if place is not None:
            body["roi"] = roi_json(place)
        target = "/findings/" + quote(finding.finding_id)
        return read_stored_finding(self._client.call("PATCH", target, *json_body(body)))

    def undo(self, finding, reviewer):
        """Takes back the last change of a cases.StoredFinding; returns it as it stands then."""
        body = {"revision": finding.revision, "reviewer": reviewer}
        target = "/findings/{}/undo".format(quote(finding.finding_id))
        return read_stored_finding(self._client.call("POST", target, *json_body(body)))

    def add(self, case, finding_id, label, plane, place, reviewer, comment=""):
        """A finding by hand under an id of our own: asked twice, it is stored once."""
        body = {
            "finding_id": finding_id,
            "label": label,
            "plane": plane,
            "roi": roi_json(place),
            "reviewer": reviewer,
            "comment": comment,
        }
        target = "/cases/{}/findings".format(quote(case))
        return read_stored_finding(self._client.call("POST", target, *json_body(body)))

    def note(self, case, reviewer, text):
        """Adds a remark about the volume; returns all of them (notes.Note)."""
        body = json_body({"reviewer": reviewer, "text": text})
        return read_notes(self._client.call("PUT", "/cases/{}/notes".format(quote(case)), *body))

    def export(self, case, kind, path, cancelled=None):
        """Writes a case in one of EXPORTS to `path`."""
        target = "/cases/{}/export/{}".format(quote(case), quote(kind))
        return self._client.download(target, path, cancelled)

    def image(self, image, path, cancelled=None):
        """Writes a scan of the server's studies to `path`, through MONAI Label's own route."""
        target = "/datastore/image?" + urlencode({"image": image})
        return self._client.download(target, path, cancelled, prefix="")


def roi_json(place):
    """A Place as the server reads it."""
    center_ras, size_mm, axes_ras = place
    return {
        "center_ras": [float(number) for number in center_ras],
        "size_mm": [float(number) for number in size_mm],
        "axes_ras": [[float(number) for number in row] for row in axes_ras],
    }
