from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer

from hour_llava.train.nano.tokenizer import END, START, VIDEO, build_tokenizer


def test_known_texts_come_back_in_lower_case() -> None:
    tokenizer = build_tokenizer(["Which colour is the heart?", "top left"])
    for text in ("top left", "which colour is the heart?"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_case_and_spaces_make_no_difference() -> None:
    tokenizer = build_tokenizer(["Which colour is the heart?"])
    assert tokenizer("which  COLOUR is\nthe Heart ?").input_ids == (
        tokenizer("Which colour is the heart?").input_ids
    )


def test_a_new_word_is_one_unknown_token() -> None:
    tokenizer = build_tokenizer(["the heart"])
    assert tokenizer("the zebra").input_ids[1:] == [tokenizer.unk_token_id]


def test_special_tokens_are_never_split() -> None:
    tokenizer = build_tokenizer(["the heart"])
    ids = tokenizer(f"{VIDEO} the heart {START} heart {END}").input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == [VIDEO, "the", "heart", START, "heart", END]
    assert ids[-1] == tokenizer.eos_token_id


def test_it_loads_from_a_folder_as_it_was_saved(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(["which colour is the heart?"])
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("which heart?").input_ids == tokenizer("which heart?").input_ids
    assert len(loaded) == len(tokenizer)


def test_lists_are_said_without_a_blank_before_the_comma() -> None:
    tokenizer = build_tokenizer(["cave, ocean, snow"])
    ids = tokenizer("cave, ocean, snow").input_ids
    assert tokenizer.decode(ids) == "cave, ocean, snow"
