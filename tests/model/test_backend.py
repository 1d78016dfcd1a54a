"""A model on another server, through `bird`: a scripted server that really looks at the pictures.

It finds the phantom's block by its grey values and answers in the words of a family.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from bird_vlm.backbones.endpoint import EndpointEngine
from bird_vlm.backend import Backend, BackendError
from bird_vlm.boxes import BoxNorm, iou, mask_to_box_pixel, pixel_to_norm
from bird_vlm.cli import app
from bird_vlm.dialects import BoxDialect, ShownPicture, dialect_of, shown_to_qwen
from bird_vlm.endpoint_answers import read_answer
from bird_vlm.endpoint_errors import RefusedError
from bird_vlm.endpoint_privacy import without_words
from bird_vlm.engine import load_engine
from bird_vlm.errors import BadRequestError
from bird_vlm.running import Running

KEY = "very-secret-4712"
MODEL = "Qwen/Qwen3-VL-4B-Instruct"
WINDOW = "150,20"  # shows the block white and all else black
SLICES = "2:8"  # of which 3 to 6 show it
Reply = tuple[int, str, dict[str, str]]  # status, body, headers


def completion(text: str, logprobs: list[dict] | None = None) -> Reply:
    choice: dict[str, Any] = {"message": {"content": text}, "finish_reason": "stop"}
    if logprobs:
        choice["logprobs"] = {"content": logprobs}
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    return 200, json.dumps({"choices": [choice], "usage": usage}), {}


def refusal(status: int, message: str = "scripted", **headers: str) -> Reply:
    return status, json.dumps({"error": {"message": message}}), headers


def token(text: str, probability: float, **others: float) -> dict[str, Any]:
    top = [{"token": t, "logprob": math.log(p)} for t, p in ({text: probability} | others).items()]
    return {"token": text, "logprob": math.log(probability), "top_logprobs": top}


@dataclass
class Sight:
    """What one question shows."""

    prompt: str
    picture: np.ndarray  # (height, width)
    body: dict[str, Any]

    @property
    def box_norm(self) -> BoxNorm | None:
        height, width = self.picture.shape
        box_pixel = mask_to_box_pixel(self.picture > 200)
        return box_pixel and pixel_to_norm(box_pixel, width, height)

    @property
    def asks_for_boxes(self) -> bool:
        return "Locate" in self.prompt


@dataclass
class ModelServer:
    """Answers `answer(sight)`; may be told to do something else first, or to die."""

    url: str = ""
    answer: Callable[[Sight], Reply] = lambda sight: completion("no")
    models: list[str] = field(default_factory=lambda: [MODEL])
    before: list[Reply | float] = field(default_factory=list)  # replies, or seconds to sleep
    dies_after: int | None = None
    asked: list[Sight] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    under_way: int = 0
    most_under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def seen(body: dict[str, Any]) -> Sight:
    picture, text = body["messages"][0]["content"]
    data = base64.b64decode(picture["image_url"]["url"].partition(",")[2])
    return Sight(text["text"], np.asarray(Image.open(io.BytesIO(data)).convert("L")), body)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    world: ModelServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.reply(200, json.dumps({"data": [{"id": name} for name in self.world.models]}), {})

    def do_POST(self) -> None:
        sight = seen(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        world = self.world
        with world.lock:
            world.asked.append(sight)
            world.times.append(time.monotonic())
            world.keys.add(self.headers.get("Authorization", ""))
            if world.dies_after is not None and len(world.asked) > world.dies_after:
                self.close_connection = True
                return
            world.under_way += 1
            world.most_under_way = max(world.most_under_way, world.under_way)
            first = world.before.pop(0) if world.before else None
        if isinstance(first, float):
            time.sleep(first)
        answer = first if isinstance(first, tuple) else world.answer(sight)
        with world.lock:
            world.under_way -= 1
        self.reply(*answer)

    def reply(self, status: int, text: str, headers: dict[str, str]) -> None:
        data = text.encode()
        try:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(data))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client had enough


@pytest.fixture
def a_server(monkeypatch) -> Iterator[ModelServer]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    world = ModelServer()
    handler = type("Handler", (Handler,), {"world": world})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    world.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield world
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr("bird_vlm.endpoint._LONGEST_PAUSE_S", 0.05)


@pytest.fixture
def scan(a_phantom_volume, tmp_path) -> Path:
    return a_phantom_volume.save(tmp_path / "phantom.nii.gz")


@pytest.fixture
def a_scan_of_unlike_slices(a_phantom_volume, tmp_path) -> Path:
    """The phantom, its block a voxel longer from slice to slice: answers differ, cached or not."""
    for index in range(3, 7):
        a_phantom_volume.volume.array[4:9, 7 : 11 + index, index] = 200
    return a_phantom_volume.save(tmp_path / "unlike.nii.gz")


def a_knowing_model(
    dialect: BoxDialect, label: str = "the block", says: tuple[str, str] = ("Yes.", "No.")
) -> Callable[[Sight], Reply]:
    """A family's model that sees the block, and says so in its own language of boxes."""

    def answer(sight: Sight) -> Reply:
        box_norm = sight.box_norm
        if not sight.asks_for_boxes:
            return completion(says[0] if box_norm else says[1])
        height, width = sight.picture.shape
        resize = shown_to_qwen if dialect.name == "qwen2.5-vl" else ShownPicture.unresized
        shown = resize(width, height)
        return completion(dialect.format(label, (box_norm,) if box_norm else (), shown))

    return answer


def bird(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ground(server: ModelServer, scan: Path, *more: object) -> Result:
    options = ["--text", "the block", "--slices", SLICES, "--window", WINDOW]
    options += ["--backend", server.url, "--json", scan.parent / "out.json"]
    model = [] if "--model" in more else ["--model", MODEL]
    return bird("ground", scan, *options, *model, *more)


def found(scan: Path) -> dict[int, tuple[float, ...]]:
    """Boxes in pixels, by slice, of the one finding."""
    (finding,) = json.loads((scan.parent / "out.json").read_text())["findings"]
    return {box["slice"]: tuple(box["box_pixel"]) for box in finding["boxes"]}


def true_box(phantom) -> tuple[float, ...]:
    """On the axial slices; the phantom's axes are those of the picture."""
    (x0, y0, _), (x1, y1, _) = phantom.first_ijk, phantom.last_ijk
    return x0, y0, x1 + 1, y1 + 1


def error_line(result: Result) -> str:
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return line


def engine_on(server: ModelServer, dialect: str | None = None, **fields) -> EndpointEngine:
    engine = load_engine(MODEL, Running(backend=Backend(server.url, dialect, **fields)))
    assert isinstance(engine, EndpointEngine)
    return engine


@pytest.fixture
def a_picture() -> np.ndarray:
    picture = np.zeros((50, 80), np.uint8)
    picture[10:20, 40:60] = 255
    return picture


def asked_once(engine: EndpointEngine, picture: np.ndarray, **more):
    return engine.ground(engine.encode([picture]), ["the block"], **more)[0][0]


@pytest.mark.parametrize("dialect", ["qwen3-vl", "qwen2.5-vl", "gemma3"])
@pytest.mark.parametrize(
    "says",
    [
        pytest.param(("Yes.", "No."), id="yes or no"),
        pytest.param(("**yes**", "no, there is none"), id="with more around"),
        pytest.param(("Perhaps.", "Perhaps."), id="neither"),
    ],
)
def test_the_block_is_found_where_it_is(a_server, scan, a_phantom_volume, dialect, says):
    a_server.answer = a_knowing_model(dialect_of(dialect), says=says)
    result = ground(a_server, scan, "--dialect", dialect)
    assert result.exit_code == 0, result.output
    boxes = found(scan)
    assert sorted(boxes) == [3, 4, 5, 6]
    assert all(iou(box, true_box(a_phantom_volume)) > 0.95 for box in boxes.values())
    boxed = sum(sight.asks_for_boxes for sight in a_server.asked)
    assert boxed == (6 if says == ("Perhaps.", "Perhaps.") else 4)


def test_it_is_told_what_was_asked_and_what_it_took(a_server, scan):
    a_server.answer = a_knowing_model(dialect_of("qwen3-vl"))
    result = ground(a_server, scan)
    assert f"{a_server.url}: 10 answers; 1,000 tokens" in result.stderr
    assert "100 of answers" in result.stderr
    assert a_server.keys == {f"Bearer {KEY}"}
    assert {sight.body["model"] for sight in a_server.asked} == {MODEL}
    assert {sight.body["temperature"] for sight in a_server.asked} == {0.0}
    assert KEY not in result.output


def test_a_name_of_the_table_is_what_the_server_calls_it(a_server, scan):
    a_server.answer = a_knowing_model(dialect_of("qwen3-vl"))
    assert ground(a_server, scan, "--model", "qwen3-vl-4b").exit_code == 0
    assert {sight.body["model"] for sight in a_server.asked} == {MODEL}
    a_server.models = ["qwen3-vl-4b"]
    a_server.asked.clear()
    assert ground(a_server, scan, "--model", "qwen3-vl-4b").exit_code == 0
    assert {sight.body["model"] for sight in a_server.asked} == {"qwen3-vl-4b"}


@pytest.mark.parametrize(
    ("first", "presence"),
    [
        pytest.param([token("Yes", 0.6, No=0.2)], 0.75, id="both"),
        pytest.param([token("Yes", 0.5, **{" yes": 0.1, "no": 0.2})], 0.75, id="both ways"),
        pytest.param([token("\n", 0.9), token("No", 0.3, Yes=0.1)], 0.25, id="after a blank"),
        pytest.param([token("Yes", 0.9)], 1.0, id="one only"),
        pytest.param([token("A", 0.9)], 0.0, id="neither: the text tells"),
        pytest.param([{"token": "Yes", "logprob": None}], 0.0, id="malformed: the text tells"),
        pytest.param(None, 0.0, id="none: the text tells"),
    ],
)
def test_presence_is_read_off_the_first_word(a_server, a_picture, first, presence):
    a_server.answer = lambda sight: completion("no", first)
    engine = engine_on(a_server)
    answer = asked_once(engine, a_picture, threshold=0.9999)
    if presence < 1:
        assert answer.presence == pytest.approx(presence)
        assert len(a_server.asked) == 1
    else:
        assert len(a_server.asked) == 2


def test_a_box_is_as_certain_as_its_numbers(a_server, a_picture):
    parts = [('[{"bbox_2d": [', 0.1), ("500", 0.5), (", 200, ", 0.5), ("750, 400", 0.125)]
    parts += [('], "label": "the block"}', 0.1), (', {"bbox_2d": [0, 0, 9', 1.0)]
    parts += [(', 9], "label": "the block"}]', 1.0)]
    text = "".join(part for part, _ in parts)

    def answer(sight: Sight) -> Reply:
        if not sight.asks_for_boxes:
            return completion("Yes", [token("Yes", 0.8, No=0.2)])
        return completion(text, [token(part, probability) for part, probability in parts])

    a_server.answer = answer
    answered = asked_once(engine_on(a_server), a_picture)
    assert answered.presence == pytest.approx(0.8)
    assert answered.boxes_norm == ((500, 200, 750, 400), (0, 0, 9, 9))
    assert answered.scores == pytest.approx((math.cbrt(0.5 * 0.5 * 0.125), 1.0))


def test_a_server_that_refuses_to_tell_is_asked_again_without(a_server, a_picture):
    knowing = a_knowing_model(dialect_of("qwen3-vl"))

    def answer(sight: Sight) -> Reply:
        return refusal(422, "extra field") if "logprobs" in sight.body else knowing(sight)

    a_server.answer = answer
    engine = engine_on(a_server)
    assert asked_once(engine, a_picture).boxes_norm == ((500, 200, 750, 400),)
    assert asked_once(engine, a_picture).scores == (1.0,)
    assert ["logprobs" in sight.body for sight in a_server.asked] == [True] + [False] * 4


def test_families_that_mark_boxes_with_tokens_wish_to_see_them(a_server, a_picture):
    dialect = dialect_of("bird")
    a_server.answer = lambda sight: completion(dialect.format("the block", (sight.box_norm,), None))
    answer = asked_once(engine_on(a_server, "bird"), a_picture)
    assert (answer.presence, answer.boxes_norm) == (1.0, ((500, 200, 750, 400),))
    (sight,) = a_server.asked
    assert sight.body["skip_special_tokens"] is False


def test_answers_stay_with_their_pictures_and_labels(a_server, a_picture):
    pictures = [np.roll(a_picture, 5 * step, axis=0) for step in range(4)]
    labels = ["the block", "nothing"]
    knowing = a_knowing_model(dialect_of("qwen3-vl"))

    def answer(sight: Sight) -> Reply:
        time.sleep(0.02 * (hash(sight.prompt) % 3))
        return completion("no") if '"nothing"' in sight.prompt else knowing(sight)

    a_server.answer = answer
    engine = engine_on(a_server, concurrency=3)
    rows = engine.ground(engine.encode(pictures), labels)
    tops = [row[0].boxes_norm[0][1] for row in rows]
    assert tops == [200, 300, 400, 500]
    assert [row[1].boxes_norm for row in rows] == [()] * 4
    assert 1 < a_server.most_under_way <= 3


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(refusal(429), id="too many"),
        pytest.param(refusal(503), id="busy"),
        pytest.param((200, '{"choices": [', {}), id="half a reply"),
        pytest.param(0.7, id="slow"),
    ],
)
def test_what_may_pass_is_waited_for(a_server, scan, trouble):
    a_server.answer = a_knowing_model(dialect_of("qwen3-vl"))
    a_server.before = [trouble] * 2
    result = ground(a_server, scan, "--timeout", "0.4")
    assert result.exit_code == 0, result.output
    assert sorted(found(scan)) == [3, 4, 5, 6]
    assert "2 tries again" in result.stderr


def test_the_pause_that_the_server_wishes_is_kept(a_server, a_picture):
    a_server.answer = a_knowing_model(dialect_of("qwen3-vl"))
    a_server.before = [refusal(429, **{"Retry-After": "0.6"})]
    asked_once(engine_on(a_server), a_picture)
    assert a_server.times[1] - a_server.times[0] >= 0.6


def test_what_is_no_box_is_counted_and_left_out(a_server, scan):
    knowing = a_knowing_model(dialect_of("qwen3-vl"))
    garbled = ['[{"bbox_2d": [1, 2, 3', "I see it on the left."]

    def answer(sight: Sight) -> Reply:
        if sight.asks_for_boxes and garbled:
            return completion(garbled.pop())
        return knowing(sight)

    a_server.answer = answer
    result = ground(a_server, scan)
    assert result.exit_code == 0, result.output
    assert "2 answers were not in the language of boxes" in result.stderr
    assert json.loads((scan.parent / "out.json").read_text())["unreadable"] == 2


@pytest.mark.parametrize("dies_after", [7, 9])
def test_a_server_that_dies_is_told_and_what_was_found_is_kept(a_server, scan, dies_after):
    a_server.answer = a_knowing_model(dialect_of("qwen3-vl"))
    a_server.dies_after = dies_after
    result = ground(a_server, scan, "--slices", "3:9", "--concurrency", "1")
    line = error_line(result)
    assert a_server.url in line
    assert "cannot be reached" in line
    assert "is the server running" in line
    assert not (scan.parent / "out.json").exists()
    kept = json.loads((scan.parent / "out.unfinished.json").read_text())
    assert (kept["done"], kept["total"], kept["model"]) == (3, 6, MODEL)
    assert [box["slice"] for box in kept["boxes"]] == [3, 4, 5]
    assert "3 of 6 questions were answered, 3 boxes found" in result.stderr


def test_with_a_cache_the_same_command_goes_on(a_server, a_scan_of_unlike_slices, tmp_path):
    scan = a_scan_of_unlike_slices
    a_server.answer = a_knowing_model(dialect_of("qwen3-vl"))
    a_server.dies_after = 5
    more = ["--cache", tmp_path / "answers", "--concurrency", "1", "--slices", "3:7"]
    assert ground(a_server, scan, *more).exit_code == 2
    a_server.dies_after = None
    a_server.asked.clear()
    result = ground(a_server, scan, *more)
    assert result.exit_code == 0, result.output
    assert sorted(found(scan)) == [3, 4, 5, 6]
    assert len(a_server.asked) == 3
    assert "3 answers, 5 from disk" in result.stderr


def test_nobody_there_is_told_before_anything_is_asked(scan):
    nowhere = ModelServer("http://127.0.0.1:9/v1")
    begin = time.monotonic()
    line = error_line(ground(nowhere, scan))
    assert "endpoint http://127.0.0.1:9/v1" in line
    assert "cannot be reached" in line
    assert time.monotonic() - begin < 5


def test_a_question_that_is_refused_ends_it(a_server, a_picture):
    a_server.answer = lambda sight: refusal(400, "context of 512 tokens exceeded")
    with pytest.raises(BackendError, match="context of 512 tokens exceeded") as caught:
        asked_once(engine_on(a_server), a_picture)
    assert a_server.url in str(caught.value)


def test_neither_key_nor_words_get_into_errors_or_logs(a_server, a_picture, caplog):
    caplog.set_level(logging.DEBUG)
    label = "".join(["pheo", "chromocytoma"])  # tracebacks quote this file
    a_server.answer = lambda sight: refusal(400, f"bad: {sight.prompt} with {KEY}")
    engine = engine_on(a_server)
    with pytest.raises(BackendError) as grounding:
        engine.ground(engine.encode([a_picture]), [label])
    with pytest.raises(BackendError) as asking:
        engine.ask(engine.encode([a_picture]), f"Is the {label} resectable?")
    a_server.answer = a_knowing_model(dialect_of("qwen3-vl"))
    engine.ground(engine.encode([a_picture]), [label])
    logging.getLogger(__name__).error("failed", exc_info=grounding.value)
    for text in (str(grounding.value), str(asking.value), caplog.text):
        assert label not in text
        assert KEY not in text
    assert "left out here" in str(asking.value)


@pytest.mark.parametrize(
    ("said", "words", "kept"),
    [
        pytest.param(", 'too long'", ["right kidney"], True, id="its own words"),
        pytest.param(", 'where is the RIGHT kid'", ["right kidney"], False, id="cut off"),
        pytest.param("", ["server"], True, id="our words"),
    ],
)
def test_a_complaint_that_quotes_is_cut(said, words, kept):
    error = RefusedError(f"endpoint x: refuses (HTTP 400{said}); is the server right?")
    error.said = said
    told = without_words(error, words)
    assert (told == str(error)) == kept
    assert told.endswith("is the server right?")


def test_a_box_gets_its_name_and_a_slice_its_words(a_server, scan):
    a_server.answer = lambda sight: completion(
        " a block " if "in the area" in sight.prompt else " A phantom. "
    )
    options = ["--window", WINDOW, "--backend", a_server.url, "--model", MODEL]
    referred = bird("refer", scan, "--box-ras", "14,-2,-26,22,12,-8", *options)
    asked = bird("ask", scan, "What is shown?", "--slice", "4", *options)
    assert (referred.exit_code, asked.exit_code) == (0, 0), referred.output + asked.output
    assert (referred.stdout, asked.stdout) == ("a block\n", "A phantom.\n")
    assert '"bbox_2d": [' in a_server.asked[0].prompt
    assert a_server.asked[1].prompt == "What is shown?"
    assert a_server.asked[1].picture.shape == (18, 20)


def test_words_are_as_certain_as_their_tokens(a_server, a_picture):
    a_server.answer = lambda sight: completion("a block", [token("a ", 0.5), token("block", 0.125)])
    engine = engine_on(a_server)
    answer = engine.refer(engine.encode([a_picture]), (0, 0, 500, 500), "rc")
    assert (answer.text, answer.score) == ("a block", pytest.approx(0.25))


@pytest.mark.parametrize("text", ["<|im_end|>", "</think>"])
def test_control_tokens_are_refused_before_anything_is_sent(a_server, a_picture, text):
    engine = engine_on(a_server)
    with pytest.raises(BadRequestError, match="control token"):
        engine.ask(engine.encode([a_picture]), f"What {text} is this?")
    assert a_server.asked == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--model", "my-finetune"], "dialect: how 'my-finetune' writes", id="unknown"),
        pytest.param(["--model", "medgemma-27b"], "name it with --dialect", id="not published"),
        pytest.param(["--dialect", "latin"], "'latin' is unknown; known are bird", id="dialect"),
        pytest.param(["--device", "cuda"], "backend: device, precision and", id="device"),
        pytest.param(["--timeout", "0"], "timeout_s: must be above 0", id="timeout"),
        pytest.param(["--backend", "gpu:8000"], "is not an http or https address", id="address"),
        pytest.param(["--backend", "http://me:pw@gpu/v1"], "OPENAI_API_KEY instead", id="password"),
        pytest.param(["--cache", "notes.txt"], "cache: notes.txt cannot be used", id="cache"),
    ],
)
def test_choices_that_cannot_work_are_one_line(
    a_server, scan, tmp_path, monkeypatch, arguments, said
):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("a file")
    line = error_line(ground(a_server, scan, *arguments))
    assert said in line
    assert "pw@" not in line
    assert a_server.asked == []


def test_a_dialect_without_a_backend_is_refused(scan):
    result = bird("ground", scan, "--text", "liver", "--dialect", "qwen3-vl")
    assert "name their --backend too" in error_line(result)


def test_a_wrong_key_is_told_at_the_start(a_server, scan, monkeypatch):
    monkeypatch.setattr(Handler, "do_GET", lambda self: self.reply(*refusal(401, f"bad {KEY}")))
    line = error_line(ground(a_server, scan, "--key-variable", "OPENAI_API_KEY"))
    assert "refused the key" in line
    assert "OPENAI_API_KEY" in line
    assert KEY not in line


def test_a_server_that_lists_nothing_is_asked_all_the_same(a_server, scan, monkeypatch):
    monkeypatch.setattr(Handler, "do_GET", lambda self: self.reply(*refusal(404)))
    a_server.answer = a_knowing_model(dialect_of("qwen3-vl"))
    assert ground(a_server, scan).exit_code == 0


def test_what_a_server_tells_of_its_tokens_is_read():
    reply = completion("Yes", [token("Yes", 0.6, No=0.2)])[1]
    answer = read_answer(reply)
    assert dict(answer.tokens) == {"Yes": pytest.approx(0.6)}
    assert dict(answer.first_tokens) == {"Yes": pytest.approx(0.6), "No": pytest.approx(0.2)}
    assert (answer.question_tokens, answer.answer_tokens) == (100, 10)
