"""Reviewing on the page: decide, step back, filter, take along; against real routes and a store."""

import json

import pytest
from bird_view.BiRDLib import views

from bird_view.servers import RunningServer


@pytest.fixture
def a_page_with_findings(open_page, a_review_server):
    page = open_page(RunningServer(a_review_server.address)).connected()
    page.type(labels="liver\nspleen\ngallbladder", reviewer="Dr A")
    page.press("ground")
    page.until(lambda it: it.shows("lines") and not it.shows("busy"), "answered")
    return page


def status(page):
    """Label -> status, as the page's list has it."""
    return {line["cells"][0]: line["cells"][1] for line in page.shows("lines")}


def key(page, label):
    return next(line["key"] for line in page.shows("lines") if line["cells"][0] == label)


def all_sent(page):
    page.until(lambda it: "not sent" not in it.shows("tally"), "sent")


def test_the_list_is_counted_sorted_and_walked_through(a_page_with_findings):
    page = a_page_with_findings
    assert status(page) == {"liver": "proposed", "spleen": "proposed", "gallbladder": "absent"}
    assert page.shows("tally") == "0 of 2 reviewed"
    page.press("sort", "label")
    assert list(status(page)) == ["gallbladder", "liver", "spleen"]
    page.press("sort", "label")
    assert list(status(page)) == ["spleen", "liver", "gallbladder"]
    page.press("sort", "score")
    assert list(status(page)) == ["liver", "spleen", "gallbladder"]
    for by, label in ((1, "liver"), (1, "spleen"), (1, "spleen"), (-1, "liver")):
        page.press("step", by)
        assert page.shows("selected") == key(page, label)


def test_choosing_a_line_scrolls_the_views_to_it(a_page_with_findings):
    page = a_page_with_findings
    page.press("select", key(page, "spleen"))
    assert page.shows("selected") == key(page, "spleen")
    sagittal = page.viewer.app.view_manager.get_view("Yellow").get_view_node()
    assert views.sliceFrame(sagittal).middle[0] == pytest.approx(60 - 2 * 42, abs=1.1)


def test_a_decision_reaches_the_store_and_the_next_open_finding_is_chosen(
    a_page_with_findings, a_review_server
):
    page = a_page_with_findings
    page.press("select", key(page, "liver"))
    page.press("accept")
    assert status(page)["liver"].startswith("accepted")
    assert page.shows("selected") == key(page, "spleen")
    all_sent(page)
    assert page.shows("tally") == "1 of 2 reviewed"
    assert page.shows("kept") == 1
    (summary,) = a_review_server.store.summaries()
    report = a_review_server.store.report(summary.case.volume_digest)
    found = {finding.content.label: finding for finding in report.findings}
    assert found["liver"].status == "accepted"
    assert found["liver"].reviewer == "Dr A"
    assert found["spleen"].status == "proposed"


def test_a_decision_is_undone_and_redone(a_page_with_findings):
    page = a_page_with_findings
    assert not page.shows("can_undo")
    page.press("select", key(page, "liver"))
    page.press("reject")
    all_sent(page)
    assert status(page)["liver"] == "rejected"
    page.press("undo")
    all_sent(page)
    assert status(page)["liver"] == "proposed"
    assert page.shows("can_redo")
    page.press("redo")
    all_sent(page)
    assert status(page)["liver"] == "rejected"
    page.press("select", key(page, "liver"))
    page.press("reopen")
    assert status(page)["liver"].startswith("proposed")


def test_the_threshold_acts_at_once_on_list_and_views(a_page_with_findings):
    page = a_page_with_findings
    view = page.viewer.app.view_manager.get_view("Red").get_view_node()
    page.press("select", key(page, "spleen"))
    page.type(show_from=0.7)
    assert [line["cells"][0] for line in page.shows("lines")] == ["liver", "gallbladder"]
    assert page.shows("selected") == ""
    assert [outline.words for outline in page.viewer.core.pool.outlines(view)] == ["liver 0.90"]
    page.type(show_from=0.0)
    assert len(page.shows("lines")) == 3


def test_deciding_without_a_choice_says_what_to_do(a_page_with_findings):
    a_page_with_findings.press("accept")
    a_page_with_findings.said("Select a finding in the list.")


def test_report_and_boxes_can_be_taken_along(a_page_with_findings):
    page = a_page_with_findings
    assert page.press("markups") == ""
    page.said("Accept or select some first.")
    page.press("select", key(page, "liver"))
    page.press("accept")
    all_sent(page)
    report = page.press("report")
    assert "<html" in report
    assert "Dr A" in report
    (markup,) = json.loads(page.press("markups"))["markups"]
    assert markup["controlPoints"][0]["label"] == "liver"


def test_a_report_that_there_is_not_is_told(open_page, a_review_server):
    page = open_page(RunningServer(a_review_server.address)).connected()
    assert page.press("report") == ""
    page.said("The server has no review of this volume.")


def test_what_was_decided_once_is_there_the_next_time(
    a_page_with_findings, open_page, a_review_server
):
    page = a_page_with_findings
    page.press("select", key(page, "liver"))
    page.press("accept")
    all_sent(page)
    again = open_page(RunningServer(a_review_server.address))
    again.said("3 findings of an earlier time.")
    assert status(again) == {"liver": "accepted", "spleen": "proposed", "gallbladder": "absent"}
