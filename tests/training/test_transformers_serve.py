"""Our client speaks to a server that we did not write: `transformers serve`, with a tiny model.

Its weights are random, so all that it says has to be refused, counted and listed.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from bird_training.facts import PictureFacts, PlacedObject
from bird_training.writers.offline import OfflineWriter
from bird_training.writers.options import WriterOptions, open_writer, totals, write_all
from bird_training.writers.plan import picture_rng
from bird_vlm.chat import ChatMessage, ChatRequest
from bird_vlm.endpoint import Endpoint, EndpointSettings

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
START_S = 180.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def a_model_folder(tmp_path_factory) -> Path:
    """A Qwen2 of two narrow layers that reads and writes bytes."""
    folder = tmp_path_factory.mktemp("qwen2")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHAT,
    )
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    tokenizer.save_pretrained(folder)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def a_serving_process(a_model_folder, tmp_path_factory):
    """The address of `transformers serve` with that model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("log") / "serve.log"
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(a_model_folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("w") as output:
        serving = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/health", serving, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        serving.terminate()
        try:
            serving.wait(20)
        except subprocess.TimeoutExpired:
            serving.kill()
            serving.wait()


def wait_until_healthy(address: str, serving: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert serving.poll() is None, log.read_text()[-3000:]
        try:
            with urlopen(address, timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.3)
    raise AssertionError(f"not healthy within {START_S} s: {log.read_text()[-3000:]}")


def test_it_answers_our_client_and_tells_what_it_took(a_serving_process, a_model_folder):
    settings = EndpointSettings(a_serving_process, str(a_model_folder), attempts=1)
    question = ChatRequest((ChatMessage("user", "Where is the liver?"),), max_tokens=12, seed=1)
    with Endpoint(settings) as endpoint:
        answer = endpoint.ask(question)
    assert isinstance(answer.text, str)
    assert answer.finish in ("stop", "length")
    assert 0 < answer.answer_tokens <= 12
    assert answer.question_tokens > 19  # a token per byte, and the chat around it


def test_its_babble_is_refused_counted_and_listed(a_serving_process, a_model_folder, tmp_path):
    objects = (PlacedObject("liver", (52, 180, 611, 790)),)
    pictures = [
        PictureFacts(
            f"ct_{n}", Path("a.png"), "ct", "BTCV", "1", "abdomen", "", objects, ("spleen",)
        )
        for n in range(2)
    ]
    options = WriterOptions(
        "llm",
        endpoint=a_serving_process,
        model=str(a_model_folder),
        tries=2,
        concurrency=2,
        extra={"max_tokens": 40},
        timeout_s=60,
    )
    with open_writer(options, tmp_path / "list.jsonl") as writer:
        done = list(write_all(writer, pictures, 0, options.threads))
    counts = totals(writer)
    for picture, written in done:
        assert written == OfflineWriter().write(picture, picture_rng(picture, 0))
    assert counts["pictures"] == {"offline": 2}
    assert counts["accepted"] == 0
    assert counts["requests"]["answered"] == 8  # caption and questions, twice each
    assert counts["refused"] == 2 * counts["given_up"] > 0
    listed = [json.loads(line) for line in (tmp_path / "list.jsonl").read_text().splitlines()]
    assert sorted(entry["id"] for entry in listed) == ["ct_0", "ct_1"]
