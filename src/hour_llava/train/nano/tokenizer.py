"""A word-level tokenizer for models whose world has a few hundred words."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

UNKNOWN, PAD, START, END = "<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"
IMAGE, VIDEO = "<image>", "<video>"
SPECIALS = (UNKNOWN, PAD, START, END, IMAGE, VIDEO)


def split_words(text: str) -> list[str]:
    """Cut a text into the lower-case words and signs that become tokens."""
    normal = _normalizer().normalize_str(text)
    return [word for word, _ in _splitter().pre_tokenize_str(normal)]


def build_tokenizer(texts: Iterable[str], *, max_length: int = 2048) -> PreTrainedTokenizerFast:
    """Make a tokenizer that knows every word of `texts`, lower-cased, and `<unk>` for the rest.

    Args:
        texts: everything the model will read or say; the order does not matter.
        max_length: the longest prompt, in tokens.
    """
    words = sorted({word for text in texts for word in split_words(text)} - set(SPECIALS))
    vocabulary = {word: index for index, word in enumerate((*SPECIALS, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = _normalizer()
    tokenizer.pre_tokenizer = _splitter()
    tokenizer.decoder = decoders.WordPiece(cleanup=True)  # "cave, ocean", not "cave , ocean"
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=UNKNOWN,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START, IMAGE, VIDEO],
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


def _normalizer() -> normalizers.Normalizer:
    return normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])


def _splitter() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
