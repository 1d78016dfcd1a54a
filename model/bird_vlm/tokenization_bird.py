"""Text to token ids and back: Qwen-VL's byte-level BPE, or a small one of the same dialect.

Knows nothing about images, chats or boxes beyond the spelling of their tokens. In both
vocabularies every digit is one token, `),(` is one token, and any text comes back as it went in
(after NFC normalisation). The small one may know larger numbers as one token each.
"""

import base64
import binascii
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import AutoTokenizer, TokenizersBackend
from transformers.convert_slow_tokenizer import bytes_to_unicode

from bird_vlm.configuration_bird import BirdConfig
from bird_vlm.errors import CheckpointError

END_OF_TEXT = "<|endoftext|>"
CHAT_TOKENS = (END_OF_TEXT, "<|im_start|>", "<|im_end|>")
MARKUP_TOKENS = ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>")
IMAGE_TOKENS = ("<img>", "</img>", "<imgpad>")
EXTRA_TOKENS = tuple(f"<|extra_{index}|>" for index in range(205))
CORNER_JOINT = "),("
_DIGITS = 10
TIKTOKEN_FILE = "qwen.tiktoken"

# Contractions; words; single digits; runs of punctuation; line ends; white space.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class BirdTokenizer(TokenizersBackend):
    """A `tokenizer.json` of the Qwen-VL dialect, whatever its size."""

    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012


def tokenizer_from_tiktoken(path: str | Path) -> BirdTokenizer:
    """Build Qwen-VL's tokenizer from its ranks file (`qwen.tiktoken`).

    Raises:
        CheckpointError: the file is not a list of base64 tokens and ranks.
    """
    ranks = _read_ranks(Path(path))
    spell = bytes_to_unicode()
    vocabulary = {_spelling(token, spell): rank for token, rank in ranks.items()}
    merges = [(_spelling(a, spell), _spelling(b, spell)) for a, b in _merges(ranks)]
    model = BPE(vocab=vocabulary, merges=merges, ignore_merges=True)
    return _finish(_dialect(model), (*CHAT_TOKENS, *EXTRA_TOKENS))


def write_tiktoken(tokenizer: BirdTokenizer, path: str | Path) -> None:
    """Write the ranks file that `tokenizer_from_tiktoken` reads."""
    added = tokenizer.get_added_vocab()
    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    ranked = sorted((id_, text) for text, id_ in tokenizer.get_vocab().items() if text not in added)
    lines = (
        f"{base64.b64encode(bytes(byte_of[c] for c in text)).decode()} {id_}\n"
        for id_, text in ranked
    )
    Path(path).write_text("".join(lines), encoding="ascii")


def train_small_tokenizer(
    texts: Iterable[str], vocab_size: int, numbers: int = _DIGITS
) -> BirdTokenizer:
    """Train a byte-level BPE of the same dialect on `texts`.

    Args:
        texts: what the model reads and writes; any other text is spelled with smaller tokens.
        vocab_size: the most tokens it may have, control tokens included; at least 270.
        numbers: so many whole numbers, from 0, are one token each; those above the ten digits come
            on top of `vocab_size`. A small model hits a coordinate that is one choice among ordered
            tokens better than one of three digits, where a wrong first digit spoils the rest.
    """
    fixed = len(CHAT_TOKENS) + len(MARKUP_TOKENS) + len(IMAGE_TOKENS) + 1
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocab_size < fixed + len(alphabet):
        raise CheckpointError(
            f"vocab_size: bytes and control tokens alone need {fixed + len(alphabet)}, "
            f"got {vocab_size}"
        )
    backend = _dialect(BPE())
    backend.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size - fixed, initial_alphabet=alphabet, show_progress=False
        ),
    )
    words = [CORNER_JOINT, *map(str, range(_DIGITS, numbers))]
    backend.add_tokens([AddedToken(word, normalized=False) for word in words])
    return _finish(backend, CHAT_TOKENS)


def number_ids(tokenizer: TokenizersBackend, numbers: int) -> list[int]:
    """Token ids of 0, 1, ..., `numbers` - 1; empty where some of them take several tokens."""
    vocabulary = tokenizer.get_vocab()
    ids = [vocabulary.get(str(number)) for number in range(numbers)]
    return [] if None in ids else ids


def _read_ranks(path: Path) -> dict[bytes, int]:
    ranks = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise CheckpointError(
                f"{path}: line {number} is not a base64 token and a rank; fetch the file again"
            ) from error
    if sorted(ranks.values()) != list(range(len(ranks))) or len(ranks) < 256:
        raise CheckpointError(f"{path}: its {len(ranks)} ranks have gaps; fetch the file again")
    return ranks


def _merges(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Every pair that joins to a known token, in the order in which tiktoken would join it."""
    merges = []
    for token in sorted(ranks, key=ranks.__getitem__):
        splits = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
        known = [(a, b) for a, b in splits if a in ranks and b in ranks]
        merges.extend(sorted(known, key=lambda pair: (ranks[pair[0]], ranks[pair[1]])))
    return merges


def _spelling(token: bytes, spell: dict[int, str]) -> str:
    return "".join(spell[byte] for byte in token)


def _dialect(model: BPE) -> Tokenizer:
    backend = Tokenizer(model)
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def _finish(backend: Tokenizer, before_markup: tuple[str, ...]) -> BirdTokenizer:
    """Add the control tokens in Qwen-VL's order; the markup of boxes stays visible on decoding."""
    backend.add_special_tokens([AddedToken(t, normalized=False) for t in before_markup])
    backend.add_tokens([AddedToken(t, normalized=False) for t in MARKUP_TOKENS])
    backend.add_special_tokens([AddedToken(t, normalized=False) for t in IMAGE_TOKENS])
    return BirdTokenizer(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token=END_OF_TEXT,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


AutoTokenizer.register(BirdConfig, BirdTokenizer)
