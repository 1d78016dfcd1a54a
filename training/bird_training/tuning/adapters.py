"""What of a model learns: parts of it, all of it, or low-rank adapters beside it (peft).

Knows nothing about data or schedules.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

from bird_training.tuning.families import FAMILY_PARTS
from bird_training.tuning.recipe import Recipe
from bird_vlm.errors import BirdError

if TYPE_CHECKING:
    from peft import PeftModel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def prepare_model(network: PreTrainedModel, recipe: Recipe) -> PreTrainedModel | PeftModel:
    """The model as the recipe trains it; changes `network` in place.

    Raises BirdError where the recipe's names fit nothing, or peft is missing.
    """
    parts = FAMILY_PARTS[network.config.model_type]
    if recipe.method == "lora":
        return _with_adapters(network, recipe, parts.named(recipe.lora_saved))
    freeze(network, parts.named(recipe.frozen), parts.named(recipe.trained))
    return network


def freeze(model: torch.nn.Module, frozen: Sequence[str], trained: Sequence[str]) -> None:
    """Let parameters learn unless their name begins with one of `frozen` and none of `trained`.

    Raises BirdError where a name is the beginning of no parameter's, or nothing would learn.
    """
    names = [name for name, _ in model.named_parameters()]
    for wanted in (*frozen, *trained):
        if not any(_begins(name, wanted) for name in names):
            parts = sorted({".".join(name.split(".")[:2]) for name in names})
            raise BirdError(
                f"frozen: the model has no parameters {wanted!r}; it has {', '.join(parts)}"
            )
    for name, parameter in model.named_parameters():
        still = any(_begins(name, part) for part in frozen)
        parameter.requires_grad_(not still or any(_begins(name, part) for part in trained))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise BirdError("frozen: nothing is left to train; freeze less")


def _begins(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def _with_adapters(network: PreTrainedModel, recipe: Recipe, saved: Sequence[str]) -> PeftModel:
    check_peft()
    from peft import LoraConfig, get_peft_model

    pattern = re.compile(recipe.lora_targets)
    if not any(pattern.fullmatch(name) for name, _ in network.named_modules()):
        raise BirdError(f"lora_targets: {recipe.lora_targets!r} fits no layer of the model")
    config = LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=recipe.lora_targets,
        modules_to_save=_whole_modules(network, saved) or None,
    )
    model = get_peft_model(network, config)
    for parameter in model.parameters():
        if parameter.requires_grad:  # steps of 1e-5 are lost on weights of eight bits
            parameter.data = parameter.data.float()
    return model


def _whole_modules(network: torch.nn.Module, names: Sequence[str]) -> list[str]:
    """Paths of the modules of these paths or last names; of a list of modules, each of them.

    The bridge learns as a whole, as in the paper: it is small beside the language model. Without
    being named here it would learn and not be stored.
    """
    found = []
    for name in names:
        fitting = [p for p, _ in network.named_modules() if p == name or p.endswith(f".{name}")]
        if not fitting:
            raise BirdError(f"lora_saved: the model has no module {name}")
        for path in fitting:
            module = network.get_submodule(path)
            is_list = isinstance(module, torch.nn.ModuleList)  # which peft cannot keep as one
            found += [f"{path}.{n}" for n, _ in module.named_children()] if is_list else [path]
    return found


def check_peft() -> None:
    """Raises BirdError where peft is not installed."""
    if find_spec("peft") is None:
        raise BirdError("method lora needs the peft package: pip install -e '.[training]'")


def merge(model: PeftModel) -> PreTrainedModel:
    """The plain model with the adapters added to its weights; `model` is used up."""
    return model.merge_and_unload(safe_merge=True)


def merge_folder(base: PreTrainedModel, adapter: str | Path) -> PreTrainedModel:
    """`base` with the adapters of a folder added to its weights.

    Raises BirdError where the folder holds no adapters of this model.
    """
    check_peft()
    from peft import PeftModel

    if not (Path(adapter) / "adapter_config.json").is_file():
        raise BirdError(f"adapter: {adapter} holds no adapter_config.json; name a run's adapter")
    try:
        return merge(PeftModel.from_pretrained(base, str(adapter)))
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BirdError(f"adapter: {adapter} does not fit the model ({reason})") from error
