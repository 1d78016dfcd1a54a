"""What one step of a training takes, without weights: parameters, arithmetic, memory.

The network is made on the meta device and run forwards and backwards on fake tensors, which have
shapes and no contents; every operation is counted and every tensor's life is followed. So the
numbers follow the model's code, not a formula about it. Knows nothing about devices or data.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from transformers import AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel

from bird_training.tuning.adapters import DTYPES, prepare_model
from bird_training.tuning.families import FAMILY_PARTS, Parts
from bird_training.tuning.looking import look_of
from bird_training.tuning.recipe import Recipe

if TYPE_CHECKING:
    from peft import PeftModel

_aten = torch.ops.aten


@dataclass(frozen=True)
class Sizes:
    """How much of what a model holds; works on the meta device too."""

    parameters: int  # stored numbers, fixed positions included
    trained: int
    by_part: dict[str, int]
    weight_bytes: int
    trained_bytes: int  # of the trained weights; their gradients take as much
    unit: int  # parameters of the largest block that is never split over devices
    root: int  # parameters outside such blocks


@dataclass(frozen=True)
class Simulation:
    """Of one micro-batch of one sequence without padding, on one device."""

    sizes: Sizes
    text_flops: float  # forwards, recomputation and backwards of a sequence in the decoder
    picture_flops: float  # the same for one picture
    text_bytes: int  # highest use beside weights and gradients
    picture_bytes: int

    def flops(self, pictures: float) -> float:
        """Of a sequence with so many pictures."""
        return self.text_flops + pictures * self.picture_flops

    def activations(self, sequences: int, pictures: float) -> float:
        """Bytes of a micro-batch of so many sequences with so many pictures each."""
        return sequences * (self.text_bytes + pictures * self.picture_bytes)


def simulate(
    config: PreTrainedConfig, recipe: Recipe, *, sharded: bool = False, picture_tokens: int = 256
) -> Simulation:
    """Run one sequence of `recipe.tokens` tokens, and one picture, through a fake model.

    The picture is a square of about `picture_tokens` image tokens, where the family has a choice.
    Features that Qwen3-VL adds to its first layers are counted with the picture, their addition
    is not.

    `sharded`: weights come to a device already in the type that is calculated in, as FSDP brings
    them; otherwise they are cast on the way, which takes memory.
    """
    with torch.device("meta"):
        network = AutoModelForImageTextToText.from_config(config)
    learner = prepare_model(network.to(DTYPES[recipe.weights]), recipe)
    sizes = sizes_of(learner)
    casts = recipe.compute != recipe.weights and not sharded
    if sharded:
        learner.to(DTYPES[recipe.compute])
    look = look_of(config, picture_tokens)
    with FakeTensorMode(allow_non_fake_inputs=True):
        learner.to_empty(device="cpu")
        if recipe.gradient_checkpointing:
            network.activation_checkpointing_enable()
        network.train()
        for parameter in learner.parameters():
            if parameter.requires_grad:  # as after an earlier micro-batch
                parameter.grad = torch.empty_like(parameter)
        mixed = casts or recipe.method == "lora"
        text = _measure(network, lambda: _read_text(network, recipe.tokens), mixed)
        picture = _measure(network, lambda: look(network), mixed)
    return Simulation(
        sizes=sizes,
        text_flops=text[0],
        picture_flops=picture[0],
        text_bytes=text[1],
        picture_bytes=picture[1],
    )


def sizes_of(learner: PreTrainedModel | PeftModel) -> Sizes:
    """Sizes of a model; adapters and trained copies are parts of their own."""
    parts = FAMILY_PARTS[learner.config.model_type]
    by_part: dict[str, int] = {}
    stored = [*learner.named_parameters(), *_positions(learner)]
    for name, tensor in stored:
        part = _part(name, parts)
        by_part[part] = by_part.get(part, 0) + tensor.numel()
    learning = [p for p in learner.parameters() if p.requires_grad]
    blocks = [
        sum(p.numel() for p in module.parameters())
        for module in learner.modules()
        if type(module).__name__ in learner._no_split_modules
    ]
    parameters = sum(tensor.numel() for _, tensor in stored)
    return Sizes(
        parameters=parameters,
        trained=sum(p.numel() for p in learning),
        by_part=by_part,
        weight_bytes=sum(tensor.nbytes for _, tensor in stored),
        trained_bytes=sum(p.nbytes for p in learning),
        unit=max(blocks),
        root=parameters - sum(blocks),
    )


def _positions(learner: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    stored = learner.state_dict()
    return [(name, buffer) for name, buffer in learner.named_buffers() if name in stored]


def _part(name: str, parts: Parts) -> str:
    for part, *signs in (
        ("adapters", "lora_"),
        ("trained copies", "modules_to_save"),
        ("bridge", *parts.bridge),
        ("vision tower", *parts.vision),
        ("embeddings", "embed_tokens"),
        ("output head", "lm_head"),
    ):
        if any(sign in name for sign in signs):
            return part
    return "decoder"


def _measure(network: torch.nn.Module, run, mixed: bool) -> tuple[float, int]:
    """(floating-point operations, highest bytes) of `run` and of its gradient."""
    known = [*network.parameters(), *network.buffers()]
    known += [p.grad for p in network.parameters() if p.grad is not None]
    attention = _aten._scaled_dot_product_flash_attention_for_cpu
    backward = _aten._scaled_dot_product_flash_attention_for_cpu_backward
    formulas = {attention: _attention_flops, backward: _attention_backward_flops}
    peak = PeakBytes(known)
    with FlopCounterMode(display=False, custom_mapping=formulas) as flops, peak:
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            result = run()
        if result.requires_grad:
            result.backward(torch.empty_like(result))
    return float(flops.get_total_flops()), peak.peak


def _attention_flops(query, key, value, *_, out_shape=None, **__) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward_flops(grad, query, key, value, *_, out_shape=None, **__) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


def _read_text(network: PreTrainedModel, tokens: int) -> torch.Tensor:
    width = network.config.text_config.hidden_size
    return network(
        inputs_embeds=torch.empty(1, tokens, width, dtype=network.dtype, requires_grad=True),
        attention_mask=torch.empty(1, 1, tokens, tokens, dtype=torch.bool),
        position_ids=torch.empty(1, tokens, dtype=torch.long),
        labels=torch.empty(1, tokens, dtype=torch.long),
    ).loss


class PeakBytes(TorchDispatchMode):
    """Follows every tensor that is made within; `peak` is the most bytes alive at once."""

    def __init__(self, known: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage()._cdata for tensor in known}
        self.alive: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._note(leaf.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self.known or key in self.alive:
            return
        self.alive[key] = storage.nbytes()
        self.now += self.alive[key]
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self.alive.pop(key)
