"""The loss in chunks is the plain loss: its value, and the gradient of everything."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from hour_llava.model.loss import chunked_cross_entropy, cross_entropy, num_labelled


def case() -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    head = nn.Linear(8, 11, bias=False)
    hidden = torch.randn(3, 7, 8, generator=generator, requires_grad=True)
    labels = torch.randint(0, 11, (3, 7), generator=generator)
    labels[torch.rand(3, 7, generator=generator) < 0.4] = -100
    labels[1] = -100
    return head, hidden, labels


@pytest.mark.parametrize("chunk_size", [1, 4, 1000])
@pytest.mark.parametrize("num_items", [None, 29])
def test_chunks_change_neither_loss_nor_gradients(chunk_size: int, num_items: int | None) -> None:
    head, hidden, labels = case()
    plain = cross_entropy(head(hidden), labels, num_items=num_items)
    wanted = torch.autograd.grad(plain, [hidden, head.weight])
    loss = chunked_cross_entropy(head, hidden, labels, chunk_size=chunk_size, num_items=num_items)
    found = torch.autograd.grad(loss, [hidden, head.weight])
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(found, wanted)


def test_logits_of_a_chunk_alone_exist() -> None:
    head, hidden, labels = case()
    seen: list[int] = []
    head.register_forward_hook(lambda _, inputs, output: seen.append(len(output)))
    chunked_cross_entropy(head, hidden, labels, chunk_size=4).backward()
    assert max(seen) == 4
    assert sum(seen) == 2 * num_labelled(labels)  # forward, and again in backward


def test_a_batch_without_labels_loses_nothing_and_still_has_gradients() -> None:
    head, hidden, labels = case()
    labels = torch.full_like(labels, -100)
    assert cross_entropy(head(hidden), labels) == 0
    loss = chunked_cross_entropy(head, hidden, labels, chunk_size=4)
    loss.backward()
    assert loss == 0
    assert hidden.grad is not None and not hidden.grad.any()
    assert head.weight.grad is not None and not head.weight.grad.any()


def test_the_first_position_is_not_learned() -> None:
    assert num_labelled(torch.tensor([[5, -100, 3], [4, 4, -100]])) == 2


def test_the_model_gives_one_loss_by_either_way(tiny_model: Path) -> None:
    from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration

    model = HourLlavaForConditionalGeneration.from_pretrained(tiny_model)
    ids = torch.arange(8, 20).reshape(2, 6)
    plain = model(input_ids=ids, labels=ids)
    chunked = model(input_ids=ids, labels=ids, loss_chunk_size=3)
    torch.testing.assert_close(chunked.loss, plain.loss)
    assert plain.logits is not None and chunked.logits is None
