"""Recipes: every number of a fine-tuning, read from YAML, overridable, and written beside the run.

In lists of names, "vision" and "bridge" stand for what the model's family calls so (families.py).

Knows nothing about torch; `adapters.py` and `tuning.py` act on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from bird_vlm.errors import BirdError

RECIPES = Path(__file__).parent / "recipes"
_NOT_RECIPES = ("fsdp", "zero3")
DType = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Recipe:
    """How a model is fine-tuned; names in lists are beginnings of parameter names."""

    method: Literal["full", "lora"] = "full"
    frozen: tuple[str, ...] = ()  # full: what does not learn ...
    trained: tuple[str, ...] = ()  # ... and what of it learns all the same
    lora_rank: int = 64
    lora_alpha: float = 16.0
    lora_dropout: float = 0.05
    lora_targets: str = r".*language_model\.layers\.\d+\.self_attn\.[qkvo]_proj"  # full match
    lora_saved: tuple[str, ...] = ()  # modules that learn as a whole: "bridge", paths or last names
    merge: bool = True  # lora: also write the model with its adapters folded in

    epochs: float = 2.0
    steps: int | None = None  # optimiser steps, in place of epochs
    batch: int = 128  # packed sequences per step over all devices
    micro_batch: int = 1  # of them at once on one device
    learning_rate: float = 2e-5
    warm_up: float = 0.01  # share of the steps
    weight_decay: float = 0.1
    adam_beta2: float = 0.95
    max_grad_norm: float = 1.0

    tokens: int = 2048  # of a packed sequence
    share_pictures: bool = True  # questions about one picture read it once
    too_long: Literal["cut", "skip", "stop"] = "cut"
    picture_tokens: int | None = None  # at most; of families that read pictures at their own size

    weights: DType = "float32"  # what the optimiser changes
    compute: DType = "bfloat16"  # what the layers calculate in
    saved: Literal["float32", "bfloat16", "float16"] = "bfloat16"  # of the finished model
    gradient_checkpointing: bool = True

    save_every: int = 100  # steps
    keep: int = 2  # checkpoints
    log_every: int = 10  # steps
    workers: int = 2  # processes per device that read pictures
    seed: int = 0

    def __post_init__(self) -> None:
        for name, good, wanted in (
            ("lora_rank", self.lora_rank >= 1, "at least 1"),
            ("lora_alpha", self.lora_alpha > 0, "above 0"),
            ("lora_dropout", 0 <= self.lora_dropout < 1, "in 0..1"),
            ("epochs", self.epochs > 0, "above 0"),
            ("steps", self.steps is None or self.steps >= 1, "at least 1"),
            ("batch", self.batch >= 1, "at least 1"),
            ("micro_batch", self.micro_batch >= 1, "at least 1"),
            ("learning_rate", self.learning_rate > 0, "above 0"),
            ("warm_up", 0 <= self.warm_up < 1, "in 0..1"),
            ("weight_decay", self.weight_decay >= 0, "at least 0"),
            ("adam_beta2", 0 < self.adam_beta2 < 1, "in 0..1"),
            ("max_grad_norm", self.max_grad_norm > 0, "above 0"),
            ("tokens", self.tokens >= 8, "at least 8"),
            (
                "picture_tokens",
                self.picture_tokens is None or self.picture_tokens >= 4,
                "at least 4",
            ),
            (
                "weights",
                self.weights != "bfloat16" or self.compute == "bfloat16",
                "float32 where the layers calculate in float32",
            ),
            ("save_every", self.save_every >= 1, "at least 1"),
            ("keep", self.keep >= 2, "at least 2, so that a whole one is there while one is made"),
            ("log_every", self.log_every >= 1, "at least 1"),
            ("workers", self.workers >= 0, "at least 0"),
            ("seed", self.seed >= 0, "at least 0"),
        ):
            if not good:
                raise BirdError(f"{name}: must be {wanted}, got {getattr(self, name)!r}")

    def accumulation(self, devices: int) -> int:
        """Micro-batches per step on each of `devices`. Raises BirdError where it is no integer."""
        if self.batch % (self.micro_batch * devices):
            raise BirdError(
                f"batch: {self.batch} is no multiple of micro_batch {self.micro_batch} x "
                f"{devices} processes; change --batch or --micro-batch"
            )
        return self.batch // (self.micro_batch * devices)

    def steps_for(self, sequences: int) -> int:
        """Optimiser steps of a training on so many packed sequences."""
        return self.steps or math.ceil(self.epochs * math.ceil(sequences / self.batch))


# What may differ when a run goes on: how fast, not what comes out.
RUNNING = ("micro_batch", "gradient_checkpointing", "save_every", "keep", "log_every", "workers")


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(p.stem for p in RECIPES.glob("*.yaml") if p.stem not in _NOT_RECIPES)


def load_recipe(name: str | Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """A shipped recipe by name, or a YAML file, with `changes` made.

    Raises BirdError for an unknown recipe or field, or a value that does not fit.
    """
    path = RECIPES / f"{name}.yaml" if str(name) in recipe_names() else Path(name)
    if not path.is_file():
        raise BirdError(
            f"recipe: {str(name)!r} is neither a YAML file nor one of {', '.join(recipe_names())}"
        )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise BirdError(f"recipe: {path} cannot be read ({error})") from error
    if not isinstance(values, dict):
        raise BirdError(f"recipe: {path} must hold `name: value` lines")
    return make_recipe({**values, **(changes or {})})


def make_recipe(values: Mapping[str, Any]) -> Recipe:
    """A recipe from values as YAML or the command line give them. Raises BirdError."""
    kinds = get_type_hints(Recipe)
    unknown = [str(name) for name in values if name not in kinds]
    if unknown:
        close = get_close_matches(unknown[0], kinds, n=1)
        raise BirdError(
            f"recipe: no such setting as {', '.join(unknown)}"
            + (f" (did you mean {close[0]}?)" if close else "")
            + f"; there are {', '.join(kinds)}"
        )
    return Recipe(**{name: _fitting(name, kinds[name], value) for name, value in values.items()})


def parse_changes(texts: Sequence[str]) -> dict[str, Any]:
    """`--set name=value` texts; values are YAML. Raises BirdError."""
    changes = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            changes[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise BirdError(f"set: {text!r} has a value that is no YAML") from error
        if not equals:
            raise BirdError(f"set: write name=value, got {text!r}")
    return changes


def save_recipe(recipe: Recipe, path: Path, **facts: object) -> None:
    """Write every setting; `facts` (data, model, versions) go above as comments."""
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(recipe).items()}
    notes = "".join(f"# {name}: {value}\n" for name, value in facts.items())
    text = notes + yaml.safe_dump(values, sort_keys=False)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def check_same(recorded: Recipe, wanted: Recipe) -> None:
    """Raises BirdError where a resumed run would not end as the one that was begun."""
    for field in fields(Recipe):
        was, now = getattr(recorded, field.name), getattr(wanted, field.name)
        if was != now and field.name not in RUNNING:
            raise BirdError(
                f"resume: {field.name} was {was!r} and is now {now!r}; leave it as it was, "
                "or start a new run in another folder"
            )


def _fitting(name: str, kind: Any, value: Any) -> Any:
    """`value` as the field's type, where nothing is lost by it."""
    options = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if value is None and type(None) in options:
        return None
    kind = options[0]
    if get_origin(kind) is Literal and value in get_args(kind):
        return value
    if get_origin(kind) is tuple and isinstance(value, (list, tuple)):
        return tuple(map(str, value))
    if kind is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:  # YAML takes 2e-5 for a text
            return float(value)
        except ValueError as error:
            raise BirdError(f"{name}: must be a number, got {value!r}") from error
    if kind in (int, bool, str) and type(value) is kind:
        return value
    wanted = " or ".join(map(str, get_args(kind))) if get_origin(kind) else kind.__name__
    raise BirdError(f"{name}: must be {wanted}, got {value!r}")
