"""The paper's recipes have table 8's values: by heart, and as `../shared/PAPER.md` writes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hour_llava.recipes import RECIPES
from hour_llava.train.config import TrainConfig

PAPER = Path(__file__).parents[4] / "shared" / "PAPER.md"

# size, stage: rates of vision, projector, MemAug, language model; global batch
TABLE_8 = {
    ("3b", 1): ((0, 0, 1e-4, 0), 128),
    ("3b", 2): ((5e-6, 1e-4, 1e-4, 2e-5), 128),
    ("3b", 3): ((0, 1e-4, 1e-4, 2e-5), 128),
    ("7b", 1): ((0, 0, 1e-4, 0), 128),
    ("7b", 2): ((5e-6, 1e-4, 1e-4, 1e-5), 128),
    ("7b", 3): ((0, 1e-4, 1e-4, 2e-5), 256),
}
STARTS = {
    ("3b", 1): "jylins/llava-onevision-qwen25-3b-si",
    ("3b", 2): "jylins/hourllava-qwen25-3b-s1",
    ("3b", 3): "jylins/hourllava-qwen25-3b-s2",
    ("7b", 1): "lmms-lab/llava-onevision-qwen2-7b-si",
    ("7b", 2): "jylins/hourllava-qwen2-7b-s1",
    ("7b", 3): "jylins/hourllava-qwen2-7b-s2",
}


def recipe(size: str, stage: int) -> TrainConfig:
    return RECIPES[f"hour_llava_{size}_stage{stage}"].config()


def test_there_are_three_stages_of_two_sizes_and_of_the_debug_model() -> None:
    sizes = ("hour_llava_3b", "hour_llava_7b", "debug")
    assert {f"{size}_stage{stage}" for size in sizes for stage in (1, 2, 3)} <= set(RECIPES)
    for name, found in RECIPES.items():
        config = found.config()
        assert (config.name, f"stage{config.stage}") == (name, name.rsplit("_", 1)[1])


@pytest.mark.parametrize(("size", "stage"), TABLE_8)
def test_a_recipe_has_the_values_of_table_8(size: str, stage: int) -> None:
    config = recipe(size, stage)
    rates, global_batch_size = TABLE_8[size, stage]
    assert tuple(config.optim.rates().values()) == rates
    assert config.batch.global_batch_size == global_batch_size
    assert config.model.start == STARTS[size, stage]
    assert (config.batch.epochs, config.batch.max_steps) == (1, None)
    assert (config.optim.schedule, config.optim.warm_up) == ("cosine", 0.03)
    assert (config.optim.weight_decay, config.optim.max_grad_norm) == (0, 1)
    assert config.hardware.precision == "bf16"
    assert config.data.max_length == 32_768
    assert (config.data.mode, config.data.question_scope) == ("per_stream", "conversation")
    assert (config.model.spatial_forgetting, config.model.temporal_forgetting) == (
        "random",
        "uniform",
    )
    assert config.model.lora.rank == 0


@pytest.mark.skipif(not PAPER.is_file(), reason="PAPER.md stands beside the repository only")
def test_the_values_are_those_that_the_paper_s_facts_state() -> None:
    text = PAPER.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([^|]+?) \| (.+) \|$", text.partition("table 8")[2], re.MULTILINE))
    head = re.search(r"^## 4\..*table 8.*$", text, re.MULTILINE)
    assert head is not None
    for words in ("one epoch", "AdamW", "cosine", "warm-up 3 %", "bf16", "no weight decay"):
        assert words in head[0]
    assert "max length 32,768" in head[0]
    rates = rows["lr vision / projector / MemAug / LLM"].split(" | ")
    batches = rows["global batch"].split(" | ")
    for stage in (1, 2, 3):
        for size in ("3b", "7b"):
            config = recipe(size, stage)
            assert list(config.optim.rates().values()) == _rates(rates[stage - 1], size)
            assert config.batch.global_batch_size == _batch(batches[stage - 1], size)


def _rates(cell: str, size: str) -> list[float]:
    """Read "5e-6 / 1e-4 / 1e-4 / 2e-5 (7B: 1e-5)"."""
    plain, _, other = cell.partition(" (7B: ")
    values = [float(value) for value in plain.split(" / ")]
    if other and size == "7b":
        values[-1] = float(other.rstrip(")"))
    return values


def _batch(cell: str, size: str) -> int:
    """Read "128", or "128 (3B), 256 (7B)"."""
    named = re.findall(r"(\d+) \((\d)B\)", cell)
    return next((int(n) for n, b in named if size.startswith(b)), None) or int(cell)
