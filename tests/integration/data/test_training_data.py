"""From a manifest on disk to batches in a DataLoader with workers, as training reads it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.data import DataLoader

from hour_llava.data.collate import Collator, TrainingData
from hour_llava.data.features import FeaturesHeader, write_features
from hour_llava.data.manifest import Sample, features_path, read_manifest, write_manifest
from hour_llava.data.mixture import GlobalOrder, Mixture, Stream
from hour_llava.data.sampler import GlobalBatchSampler
from hour_llava.model.processing_hour_llava import HourLlavaProcessor


def test_workers_and_ranks_give_the_batches_of_one_process(
    tmp_path: Path, tiny_model: Path
) -> None:
    turns = ({"from": "human", "value": "what color"}, {"from": "gpt", "value": "red"})
    texts = [Sample(id=f"t{n}", conversations=turns) for n in range(5)]
    videos = [Sample(id=f"v{n}", video=f"{n % 3}.mp4", conversations=turns) for n in range(9)]
    for name in {str(sample.video) for sample in videos}:
        header = FeaturesHeader(tower_digest="t", duration_seconds=4)
        path = features_path(tmp_path / "features", name)
        write_features(path, torch.randn(4, 4, 16), torch.arange(4), header, storage="int8")
    write_manifest(tmp_path / "texts.jsonl", texts)
    write_manifest(tmp_path / "videos.jsonl", videos)
    mixture = Mixture(
        [
            Stream(
                name=name,
                samples=read_manifest(tmp_path / f"{name}.jsonl", features=tmp_path / "features"),
            )
            for name in ("texts", "videos")
        ]
    )
    collator = Collator(HourLlavaProcessor.from_pretrained(tiny_model), tower="t", feature_size=16)
    data = TrainingData(mixture, collator)
    order = GlobalOrder.of(mixture, global_batch_size=4, mode="per_stream", window=4)

    def batches(rank: int, world: int, workers: int) -> list[dict[str, object]]:
        sampler = GlobalBatchSampler(
            order,
            num_batches=order.num_batches(1),
            rank=rank,
            world_size=world,
            micro_batch_size=2,
        )
        loader = DataLoader(data, batch_sampler=sampler, collate_fn=collator, num_workers=workers)
        assert len(loader) == len(sampler)
        return list(loader)

    alone = batches(0, 1, workers=0)
    ranks = [batches(rank, 2, workers=rank) for rank in range(2)]
    seen: list[str] = []
    for number in range(order.num_batches(1)):
        one = [row for batch in alone[2 * number : 2 * number + 2] for row in rows(batch)]
        two = [row for rank in ranks for row in rows(rank[number])]
        assert sorted(one) == sorted(two)
        assert len({name[0] for name, _ in one}) == 1  # one stream a batch
        seen += [name for name, _ in one]
    assert set(seen) == {sample.id for sample in texts + videos}


def rows(batch: dict[str, object]) -> list[tuple[str, int]]:
    names, seeds = batch["sample_ids"], batch["forgetting_seeds"]
    assert isinstance(names, list) and isinstance(seeds, torch.Tensor)
    assert not batch["broken"]
    return list(zip(names, seeds.tolist(), strict=True))
