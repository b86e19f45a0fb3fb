from __future__ import annotations

import math

import pytest
import torch

from hour_llava.memory.memaug import MemAug
from hour_llava.memory.plan import MemoryTokens
from hour_llava.train.nano import heads
from hour_llava.train.nano.heads import (
    AnswerHead,
    AnsweringProbe,
    AttributeProbe,
    EvidenceObserver,
    LengthProbe,
    evidence_loss,
)


def keys_that_prefer(frame: int, num_frames: int, strength: float) -> torch.Tensor:
    """Two tokens a frame, one head of size 1: a query of 1 scores `strength` on one frame."""
    keys = torch.zeros(num_frames, 2)
    keys[frame] = strength
    return keys.view(1, 1, -1, 1)


def test_uniform_attention_scores_the_log_of_the_number_of_frames() -> None:
    evidence = torch.tensor([[[False, True, False, False]]])
    loss, _ = evidence_loss(
        torch.ones(1, 1, 3, 1),
        keys_that_prefer(0, 4, 0.0),
        evidence,
        torch.zeros(1, 3, dtype=torch.long),
        num_heads=1,
    )
    assert loss.item() == pytest.approx(math.log(4))


@pytest.mark.parametrize(("frame", "small"), [(1, True), (2, False)])
def test_attention_on_the_evidence_costs_nothing_and_elsewhere_much(
    frame: int, small: bool
) -> None:
    evidence = torch.tensor([[[False, True, False, False]]])
    loss, _ = evidence_loss(
        torch.ones(1, 1, 3, 1),
        keys_that_prefer(frame, 4, 20.0),
        evidence,
        torch.zeros(1, 3, dtype=torch.long),
        num_heads=1,
    )
    assert (loss.item() < 1e-3) is small
    assert small or loss.item() > 19


def test_questions_without_evidence_and_padding_rows_do_not_count() -> None:
    evidence = torch.tensor([[[False, True], [False, False]]])
    keys = keys_that_prefer(0, 2, 3.0)
    both, _ = evidence_loss(
        torch.ones(1, 1, 4, 1), keys, evidence, torch.tensor([[0, 1, 1, -1]]), num_heads=1
    )
    alone, _ = evidence_loss(
        torch.ones(1, 1, 1, 1), keys, evidence[:, :1], torch.tensor([[0]]), num_heads=1
    )
    assert both.item() == pytest.approx(alone.item())
    none, _ = evidence_loss(
        torch.ones(1, 1, 2, 1), keys, evidence[:, 1:], torch.tensor([[0, 0]]), num_heads=1
    )
    assert none.item() == 0.0


@pytest.mark.parametrize(("frames", "small"), [((1, 3), True), ((1, 1), False)])
def test_all_spans_must_be_seen_by_some_row(frames: tuple[int, int], small: bool) -> None:
    spans = torch.tensor([[[0, 1, 0, 2]]], dtype=torch.int8)
    queries = 20 * torch.eye(4)[list(frames)].view(1, 1, 2, 4)
    keys = torch.eye(4).view(1, 1, 4, 4)
    located, spread = evidence_loss(
        queries, keys, spans, torch.zeros(1, 2, dtype=torch.long), num_heads=1
    )
    assert located.item() < 1e-3
    assert (spread.item() < 1e-3) is small
    assert small or spread.item() > 2


def test_the_loss_is_that_of_attention_row_by_row() -> None:
    torch.manual_seed(0)
    num_frames, cells = 7, 5
    queries, keys = torch.randn(1, 1, 4, 8), torch.randn(1, 1, num_frames * cells, 8)
    evidence = torch.zeros(1, 2, num_frames, dtype=torch.bool)
    evidence[0, 0, 2], evidence[0, 1, 4:6] = True, True
    rows = torch.tensor([[0, 1, 1, 0]])
    weights = (queries[0, 0] @ keys[0, 0].T / math.sqrt(8)).softmax(-1)
    by_frame = weights.unflatten(-1, (num_frames, cells)).sum(-1)
    expected = [-by_frame[row][evidence[0, rows[0, row]]].sum().log() for row in range(4)]
    loss, _ = evidence_loss(queries, keys, evidence, rows, num_heads=1)
    assert loss.item() == pytest.approx(float(torch.stack(expected).mean()), rel=1e-5)


def test_of_long_videos_some_rows_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    num_rows = 4000
    queries, keys = torch.randn(1, 1, num_rows, 8), torch.randn(1, 1, 60, 8)
    evidence = torch.zeros(1, 1, 12, dtype=torch.bool)
    evidence[..., 3] = True
    rows = torch.zeros(1, num_rows, dtype=torch.long)
    monkeypatch.setattr(heads, "MOST_SCORES", 60 * 1000)
    some, _ = evidence_loss(queries, keys, evidence, rows, num_heads=1)
    monkeypatch.setattr(heads, "MOST_SCORES", 60 * num_rows)
    every, _ = evidence_loss(queries, keys, evidence, rows, num_heads=1)
    assert some.item() != every.item()
    assert some.item() == pytest.approx(every.item(), rel=0.05)


def test_only_the_told_heads_are_told() -> None:
    queries = torch.randn(1, 2, 3, 4, requires_grad=True)
    keys = torch.randn(1, 2, 8, 4)
    evidence = torch.zeros(1, 1, 4, dtype=torch.bool)
    evidence[..., 2] = True
    rows = torch.zeros(1, 3, dtype=torch.long)
    evidence_loss(queries, keys, evidence, rows, num_heads=1)[0].backward()
    assert queries.grad is not None
    assert queries.grad[:, 0].abs().sum() > 0
    assert queries.grad[:, 1].abs().sum() == 0


def test_the_observer_sees_every_layer_and_memories_of_unequal_length() -> None:
    torch.manual_seed(0)
    memaug = MemAug(
        hidden_size=32, num_heads=4, num_key_value_heads=2, num_layers=2, rope_theta=1e4
    )
    memories = [
        MemoryTokens(tokens_MD=torch.randn(n, 32), positions_M=torch.arange(n)) for n in (30, 20)
    ]
    evidence = [torch.zeros(2, frames, dtype=torch.bool) for frames in (6, 4)]
    evidence[0][0, 2] = evidence[1][1, 3] = True
    told = [[0] * 5 + [1] * 6, [0] * 7 + [1] * 5]
    observer = EvidenceObserver(evidence, told, num_heads=3)
    memaug(
        torch.randn(23, 32),
        lengths=[5, 6, 7, 5],
        positions_N=torch.arange(23),
        memories=memories,
        memory_index=[0, 0, 1, 1],
        observer=observer,
    )
    loss = observer.loss(2)
    assert len(observer.losses) == 4
    assert math.log(4) - 1 < loss.item() < math.log(6) + 1
    loss.backward()
    assert memaug.layers[0].cross_attn.q_proj.weight.grad is not None


def test_answer_head_and_probe_learn_what_is_linearly_there() -> None:
    torch.manual_seed(0)
    tokens, answers = torch.randn(64, 3, 16), torch.arange(64) % 4
    tokens[torch.arange(64), :, answers] += 6
    bits = torch.nn.functional.one_hot(answers, 4)
    head, probe = AnswerHead(16, 4), AttributeProbe(16, 4)
    optimizer = torch.optim.Adam([*head.parameters(), *probe.parameters()], lr=0.1)
    first = head(tokens, answers) + probe(tokens.mean(1), bits)
    for _ in range(50):
        loss = head(tokens, answers) + probe(tokens.mean(1), bits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1 * first


def test_probes_of_the_answering_token_read_the_named_place_of_the_named_question() -> None:
    hidden = torch.eye(3)  # three questions, each with a token of its own
    questions, places = torch.tensor([2, 0]), torch.tensor([1, 3])
    bits, rungs = torch.tensor([[1, 0], [0, 1]]), torch.tensor([1, 0])
    probe = AnsweringProbe(3, 4, 2)
    silence(probe.linear)
    assert probe(hidden, questions, places, bits).item() == pytest.approx(2 * math.log(2))
    with torch.no_grad():
        probe.linear.weight.view(4, 2, 3)[1, :, 2] = torch.tensor([20.0, -20.0])
        probe.linear.weight.view(4, 2, 3)[3, :, 0] = torch.tensor([-20.0, 20.0])
    assert probe(hidden, questions, places, bits).item() < 1e-6
    lengths = LengthProbe(3, 4, 5)
    silence(lengths.linear)
    assert lengths(hidden, questions, places, rungs).item() == pytest.approx(math.log(5))
    with torch.no_grad():
        lengths.linear.weight.view(4, 5, 3)[1, 1, 2] = 20.0
        lengths.linear.weight.view(4, 5, 3)[3, 0, 0] = 20.0
    assert lengths(hidden, questions, places, rungs).item() < 1e-6


def test_probes_of_no_names_cost_nothing() -> None:
    nothing = torch.zeros(0, dtype=torch.long)
    no_bits = torch.zeros(0, 2)
    assert AnsweringProbe(3, 4, 2)(torch.eye(3), nothing, nothing, no_bits).item() == 0
    assert LengthProbe(3, 4, 5)(torch.eye(3), nothing, nothing, nothing).item() == 0


def silence(linear: torch.nn.Linear) -> None:
    torch.nn.init.zeros_(linear.weight)
    torch.nn.init.zeros_(linear.bias)
