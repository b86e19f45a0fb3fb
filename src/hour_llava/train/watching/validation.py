"""The validation loss: what samples that are not trained on cost, by the labelled token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hour_llava.data.collate import NOT_FOR_THE_MODEL
from hour_llava.data.conversation import IGNORED
from hour_llava.errors import DataError
from hour_llava.train.watching.terminal import say


class ValidationLoss:
    """Measures the mean loss of all samples of a dataset; a `Measurement.measure`.

    The samples are shared out over the processes, and each process makes the same number of
    forward passes: sharded models hang otherwise. Short shares repeat a sample that counts nothing.

    Args:
        dataset: Encoded samples by number; they forget the same at each call.
        collate: Merges them into a batch with `labels`.
        micro_batch_size: Samples a forward pass.
        rank, world_size: This process, and how many there are.
        inputs: More arguments of the forward pass, such as `loss_chunk_size`.

    Raises:
        DataError: there are no samples.
    """

    def __init__(
        self,
        dataset: Any,
        collate: Callable[[Sequence[Any]], dict[str, Any]],
        *,
        micro_batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        inputs: Mapping[str, Any] | None = None,
    ) -> None:
        if len(dataset) == 0:
            raise DataError("the validation set holds no sample; leave --data.validation out")
        self._dataset, self._collate = dataset, collate
        self._micro_batch_size, self._inputs = micro_batch_size, dict(inputs or {})
        self._told: set[str] = set()
        self._batch([0])  # a set that cannot be read is met now, not behind the last step
        own = list(range(rank, len(dataset), world_size))
        longest = -(-len(dataset) // world_size)
        self._shares = [own[i : i + micro_batch_size] for i in range(0, longest, micro_batch_size)]

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Run over all samples.

        Returns:
            loss; labels, how many tokens it is the mean of; broken, how many were replaced: each is
            named once on stderr.

        Raises:
            DataError: many one after another cannot be read.
        """
        device = next(model.parameters()).device
        sums = torch.zeros(3, dtype=torch.float64, device=device)
        for share in self._shares:
            batch = self._batch(share or [0])
            notes = {name: batch.pop(name, None) for name in NOT_FOR_THE_MODEL}
            self._tell(notes["broken"] or ())
            num_labels = int((batch["labels"][:, 1:] != IGNORED).sum())
            loss = model(**_placed(batch, device), **self._inputs).loss
            if share and num_labels:
                sums[0] += loss.double() * num_labels
                sums[1] += num_labels
                sums[2] += len(notes["broken"] or ())
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        total, num_labels, num_broken = sums.tolist()
        found = {"loss": total / max(1, num_labels), "labels": num_labels}
        return found | ({"broken": num_broken} if num_broken else {})

    def _batch(self, share: Sequence[int]) -> dict[str, Any]:
        try:
            return self._collate([self._dataset[number] for number in share])
        except DataError as error:
            raise DataError(
                f"--data.validation: {error}; what was trained is in the last checkpoint: go on "
                "with --resume and a mended set, or without one"
            ) from error

    def _tell(self, broken: Sequence[str]) -> None:
        for note in broken:
            if note not in self._told:
                self._told.add(note)
                say(f"--data.validation: {note}; another stands in for it")


def _placed(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {name: _placed(item, device) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_placed(item, device) for item in value]
    return value
