"""The log of a job: every listener hears all of it, in order, whenever it comes."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from bird_server.jobs.events import EventLog
from bird_server.jobs.job import Job
from bird_server.jobs.streams import event_id, number_after, server_sent_events


async def heard(log: EventLog, after: int = 0) -> list[str]:
    return [event.name async for event in log.follow(after, 5.0) if event]


def a_log(*names: str) -> EventLog:
    log = EventLog()
    for number, name in enumerate(names):
        log.add(name, done=number)
    return log


def test_a_late_listener_hears_everything():
    assert asyncio.run(heard(a_log("progress", "progress", "result"))) == [
        "progress",
        "progress",
        "result",
    ]


def test_a_listener_goes_on_where_it_was():
    assert asyncio.run(heard(a_log("progress", "item", "result"), after=2)) == ["result"]


def test_a_listener_that_has_heard_the_end_gets_nothing_and_does_not_wait():
    assert asyncio.run(heard(a_log("progress", "result"), after=2)) == []


def test_listeners_hear_what_another_thread_tells_while_they_wait():
    log = EventLog()

    async def two_listeners() -> list[list[str]]:
        listening = asyncio.gather(heard(log), heard(log))
        await asyncio.sleep(0.05)
        told = threading.Thread(target=lambda: [log.add("progress"), log.add("result")])
        told.start()
        result = await listening
        told.join()
        return result

    assert asyncio.run(two_listeners()) == [["progress", "result"]] * 2


def test_silence_is_told_so_that_the_connection_stays():
    async def first(log: EventLog):
        async for event in log.follow(0, patience_s=0.01):
            return event

    assert asyncio.run(first(EventLog())) is None


@pytest.mark.parametrize("last", ["result", "error", "cancelled", "stopped"])
def test_nothing_comes_after_the_end(last):
    log = a_log("progress", last)

    assert log.add("progress") is None
    assert log.last.name == last


def test_numbers_that_json_has_not_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        EventLog().add("progress", score=float("nan"))


def test_an_event_is_a_block_with_id_name_and_one_line_of_data():
    job = Job("ask", iter)
    job.attempt = 2
    job.log.add("result", result={"text": "two\nlines"})

    async def blocks() -> list[str]:
        return [block async for block in server_sent_events(job, 0)]

    (block,) = asyncio.run(blocks())
    number, name, data, *end = block.split("\n")
    assert (number, name, end) == ("id: 2-1", "event: result", ["", ""])
    assert json.loads(data.removeprefix("data: "))["result"] == {"text": "two\nlines"}


@pytest.mark.parametrize(
    ("last_id", "number"),
    [
        pytest.param("1-3", 3, id="ours"),
        pytest.param("2-3", 0, id="of another attempt"),
        pytest.param("", 0, id="none"),
        pytest.param("1-", 0, id="no number"),
        pytest.param("1--3", 0, id="negative"),
        pytest.param("1-" + "9" * 30, 0, id="endless"),
        pytest.param("liver", 0, id="a word"),
    ],
)
def test_a_stream_is_taken_up_after_a_known_id_or_from_the_start(last_id, number):
    assert number_after(Job("ask", iter), last_id) == number


def test_ids_come_back_as_numbers():
    job = Job("ask", iter)
    event = job.log.add("progress")

    assert number_after(job, event_id(job, event)) == event.number
