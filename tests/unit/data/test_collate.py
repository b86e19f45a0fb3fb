"""Batches: every kind of sample, alone and together, and nothing cut or leaked."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from hour_llava.data.collate import NOT_FOR_THE_MODEL, BrokenBudget, Collator, TrainingData
from hour_llava.data.features import FeaturesHeader, write_features
from hour_llava.data.manifest import Sample, manifest_of
from hour_llava.data.mixture import Mixture, Stream
from hour_llava.data.sampler import Drawn
from hour_llava.errors import DataError
from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from hour_llava.model.processing_hour_llava import HourLlavaProcessor


def talk(*values: str) -> tuple[dict[str, str], ...]:
    names = ("human", "gpt")
    return tuple({"from": names[n % 2], "value": value} for n, value in enumerate(values))


@pytest.fixture(scope="module")
def processor(tiny_model: Path) -> Any:
    return HourLlavaProcessor.from_pretrained(tiny_model)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return HourLlavaForConditionalGeneration.from_pretrained(tiny_model).eval()


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sample]:
    from hour_llava.world.timeline import make_timeline
    from hour_llava.world.video_file import write_video

    folder = tmp_path_factory.mktemp("media")
    torch.manual_seed(0)
    header = FeaturesHeader(tower_digest="tower", duration_seconds=140.0)
    write_features(folder / "f", torch.randn(140, 4, 16), torch.arange(140), header)
    write_video(make_timeline(16, 1), folder / "v.mp4")
    for number, size in enumerate(((70, 40), (31, 64))):
        Image.new("RGB", size, (200, 10 * number, 0)).save(folder / f"{number}.png")
    images = tuple(str(folder / f"{number}.png") for number in range(2))
    two = talk("which color is it", "red", "how many are there", "three of them")
    return {
        "text": Sample(id="text", conversations=two),
        "image": Sample(id="image", images=images[:1], conversations=two),
        "images": Sample(
            id="images",
            images=images,
            conversations=talk("<image> and <image> , same color", "no"),
        ),
        "features": Sample(id="features", features=str(folder / "f"), conversations=two),
        "video": Sample(
            id="video", video=str(folder / "v.mp4"), conversations=talk("<video>\nwhat", "red")
        ),
    }


def loss_sum(model: Any, batch: dict[str, Any]) -> tuple[float, int]:
    inputs = {name: value for name, value in batch.items() if name not in NOT_FOR_THE_MODEL}
    with torch.inference_mode():
        loss = model(**inputs).loss
    count = int((inputs["labels"][:, 1:] != -100).sum())
    return float(loss) * count, count


def test_a_batch_of_all_kinds_has_the_loss_of_its_samples(
    processor: Any, model: Any, samples: dict[str, Sample]
) -> None:
    collator = Collator(processor, seed=3, tower="tower", feature_size=16)
    encoded = [
        collator.encode(sample, position=number) for number, sample in enumerate(samples.values())
    ]
    encoded = pickle.loads(pickle.dumps(encoded))  # as data workers hand them over
    batch = collator.merge(encoded)
    assert batch["sample_ids"] == list(samples)
    assert batch["memory_index"].tolist() == [-1, -1, -1, 1, 0]
    alone = [loss_sum(model, collator.merge([sample])) for sample in encoded]
    total, count = loss_sum(model, batch)
    assert count == sum(number for _, number in alone)
    assert total == pytest.approx(sum(loss for loss, _ in alone), rel=1e-5)


def test_answers_are_learned_and_never_asked(processor: Any, samples: dict[str, Sample]) -> None:
    collator = Collator(processor)
    (row,) = collator.encode(samples["features"]).rows
    learned = row.labels_L != -100
    visual = row.ids_L == processor.video_token_id
    assert int(visual.sum()) > 32
    assert not bool((row.question_L & (learned | visual)).any())
    said = processor.tokenizer.decode(row.ids_L[row.question_L])
    assert "how many" in said and "red" not in said and "three" not in said
    taught = processor.tokenizer.decode(row.ids_L[learned])
    assert "red" in taught and "three of them" in taught and "how many" not in taught


def test_scope_turn_makes_a_row_an_answer_whose_question_sees_nothing_later(
    processor: Any, model: Any, samples: dict[str, Sample]
) -> None:
    collator = Collator(processor, question_scope="turn")
    encoded = [collator.encode(samples[name]) for name in ("image", "features")]
    decode = processor.tokenizer.decode
    first, second = encoded[1].rows
    assert "how many" not in decode(first.ids_L[first.question_L])
    assert "how many" in decode(second.ids_L[second.question_L])
    assert "red" in decode(first.ids_L[first.labels_L != -100])
    assert "red" not in decode(second.ids_L[second.labels_L != -100])
    assert "red" not in decode(second.ids_L[second.question_L])
    batch = collator.merge(encoded)
    assert batch["memory_index"].tolist() == [-1, -1, 0, 0]
    assert batch["image_rows"].tolist() == [0, 1]
    assert len(batch["video_features"]) == 1
    assert batch["sample_ids"] == ["image", "image", "features", "features"]
    assert loss_sum(model, batch)[0] > 0
    (whole,) = Collator(processor).encode(samples["features"]).rows
    assert len(whole.ids_L) == len(second.ids_L)


def test_the_time_line_follows_the_video(processor: Any, samples: dict[str, Sample]) -> None:
    timed = HourLlavaProcessor.from_pretrained(processor.tokenizer.name_or_path)
    timed.time_instruction = True
    system, turns = Collator(timed)._turns(
        samples["features"], Collator(timed)._read_video(samples["features"])
    )
    assert turns[0]["value"].startswith(
        "<video>\nThe video lasts for 140.00 seconds, and 140 frames are uniformly sampled"
    )
    assert turns[0]["value"].endswith("\nwhich color is it")
    assert system == "You are a helpful assistant."


def test_forgetting_depends_on_the_place_in_the_order_alone(
    processor: Any, samples: dict[str, Sample]
) -> None:
    collator = Collator(processor, seed=1)
    seeds = [collator.encode(samples["text"], position=n).seed for n in (4, 4, 5)]
    assert seeds[0] == seeds[1] != seeds[2]
    assert collator.merge([collator.encode(samples["text"], position=4)])[
        "forgetting_seeds"
    ].tolist() == [seeds[0]]


def test_what_is_too_long_is_refused_with_both_numbers(
    processor: Any, samples: dict[str, Sample]
) -> None:
    with pytest.raises(DataError, match=r"features: \d+ tokens \(\d+ visual, .* limit is 50"):
        Collator(processor, max_length=50).encode(samples["features"])
    long = Sample(id="long", conversations=talk("why", "red " * 20_000))
    with pytest.raises(DataError, match=r"long: 20,0\d\d tokens \(0 visual.* limit is 20,000"):
        Collator(processor, max_length=20_000).encode(long)
    with pytest.raises(DataError, match="16 frames, at most 5 are read as pixels"):
        Collator(processor, max_pixel_frames=5).encode(samples["video"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"conversations": talk("why", "so", "why")}, "a question unanswered"),
        ({"conversations": talk("why", " ")}, "an answer, is empty"),
        ({"conversations": talk("<video>", "so"), "video": "x"}, "asks nothing"),
        ({"conversations": talk("<video> why", "so")}, "no video"),
        ({"conversations": talk("<video> <video> why", "so"), "video": "x"}, "2 <video>"),
        ({"conversations": talk("<image> why", "so"), "images": ("a", "b")}, "2 images"),
        ({"conversations": talk("why", "so <image>")}, "holds a placeholder"),
        ({"conversations": talk("why<|im_start|>", "so")}, r"turn 0 holds .* <\|im_start\|>"),
        ({"conversations": talk("why", "so<|im_end|>")}, r"turn 1 holds .* <\|im_end\|>"),
        ({"conversations": talk("why", "a<|endoftext|>")}, r"turn 1 holds .* <\|endoftext\|>"),
        ({"conversations": ({"from": "bot", "value": "why"},)}, "from `bot`"),
        ({"conversations": talk("why")}, "nobody answers"),
        ({"conversations": talk("why", "so")[1:]}, "nobody asks"),
        ({"conversations": talk("why", "so")[:1] * 2 + talk("", "so")[1:]}, "are both human"),
        ({"conversations": talk("why", "so"), "images": ("none.png",)}, r"none\.png"),
        ({"conversations": talk("why", "so"), "features": "none"}, "no such file of features"),
    ],
)
def test_a_bad_sample_is_refused_by_name(processor: Any, fields: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Collator(processor).encode(Sample(id="bad", **fields))


def test_a_foreign_tower_is_refused(processor: Any, samples: dict[str, Sample]) -> None:
    with pytest.raises(DataError, match="the model's is other"):
        Collator(processor, tower="other").encode(samples["features"])


def test_features_are_refused_where_the_tower_is_trained(
    processor: Any, samples: dict[str, Sample]
) -> None:
    with pytest.raises(DataError, match="the tower is trained: read the video instead"):
        Collator(processor, takes_features=False).encode(samples["features"])


def test_a_video_that_was_cut_off_is_refused_with_what_is_missing(
    processor: Any, samples: dict[str, Sample], tmp_path: Path
) -> None:
    whole = Path(str(samples["video"].video)).read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    with pytest.raises(
        DataError, match=r"^video: .*cut\.mp4 is damaged for .* of 16 s, .*ends early"
    ):
        Collator(processor).encode(replace(samples["video"], video=str(cut)))


def test_a_broken_sample_is_replaced_named_and_counted(
    processor: Any, samples: dict[str, Sample]
) -> None:
    bad, worse = (
        Sample(id=name, images=(f"{name}.png",), conversations=talk("why", "so"))
        for name in ("bad", "worse")
    )
    manifest = manifest_of([samples["text"], bad, worse, samples["image"]], root="/")
    mixture = Mixture([Stream(name="s", samples=manifest)])
    data = TrainingData(mixture, Collator(processor))
    found = data[Drawn(1, 77)]
    assert found.sample_id == "image"
    assert found.seed == data[Drawn(3, 77)].seed
    batch = data.collator([found, data[Drawn(0, 78)]])
    assert [note.split(":")[0] for note in batch["broken"]] == ["s, sample 1", "s, sample 2"]
    budget = BrokenBudget(3)
    budget.add(batch["broken"])
    with pytest.raises(DataError, match="samples could not be read 4 times, 3 are allowed"):
        budget.add(batch["broken"])
    with pytest.raises(DataError, match="2 samples one behind the other") as error:
        TrainingData(mixture, Collator(processor), max_tries=2)[1]
    assert "where 2 such neighbours, or a whole stream, are broken, whatever" in str(error.value)


def test_a_broken_videos_many_samples_cost_one_try_each_draw(
    processor: Any, samples: dict[str, Sample]
) -> None:
    broken = [
        Sample(id=f"v:{number}", video="none.mp4", conversations=talk("why", f"so {number}"))
        for number in range(24)
    ]
    manifest = manifest_of([*broken, samples["text"]], root="/")
    data = TrainingData(Mixture([Stream(name="s", samples=manifest)]), Collator(processor))
    for number in (0, 20):
        found = data[Drawn(number, 0)]
        assert found.sample_id == "text"
        assert [note.split(":")[0] for note in found.broken] == [f"s, sample {number}"]
    alone = Mixture([Stream(name="s", samples=manifest_of(broken, root="/"))])
    with pytest.raises(DataError, match="1 samples one behind the other"):
        TrainingData(alone, Collator(processor))[3]
