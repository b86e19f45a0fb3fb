from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
import torch

from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from hour_llava.model.processing_hour_llava import HourLlavaProcessor
from hour_llava.recipes.nano import FAMILIES, NanoSettings, make_config, make_tokenizer
from hour_llava.train.nano.abstain import confidences
from hour_llava.train.nano.batches import IGNORED, Composer, attributes_of_tubes, draw_questions
from hour_llava.train.nano.foreign import foreign_frames
from hour_llava.train.nano.lessons import LoopSettings, Stage
from hour_llava.train.nano.loop import train_on_features
from hour_llava.train.nano.objective import Heads, NanoObjective, Weights, word_loss
from hour_llava.train.nano.scratch import start_from_scratch
from hour_llava.train.nano.team import Team
from hour_llava.train.nano.tower import MEMORY_SIZES, attribute_classes, multi_hot
from hour_llava.world.labels import attributes_per_second
from hour_llava.world.timeline import make_timeline

ONE_HEAD = Weights(evidence_heads=1)
SETTINGS = NanoSettings(width=32, layers=1, tower_width=32, tower_layers=1)


@pytest.fixture(scope="module")
def tokenizer():
    torch.set_num_threads(1)
    return make_tokenizer()


@pytest.fixture
def model(tokenizer):
    model = HourLlavaForConditionalGeneration(make_config(SETTINGS, tokenizer))
    start_from_scratch(model, 0)
    return model.eval()


@pytest.fixture
def clips():
    return [make_timeline(20, seed) for seed in (1, 2)]


def make_batch(composer, clips, blur=None):
    rng = Random(0)
    questions = [draw_questions(clip, 3, FAMILIES, rng) for clip in clips]
    features = [torch.randn(20, 4, 32) for _ in clips]
    classes = torch.stack([attribute_classes(attributes_per_second(clip)) for clip in clips])
    return questions, composer.compose(features, questions, classes_VFPA=classes, blur=blur)


def test_rows_read_as_the_processor_writes_them_when_asking(model, tokenizer, clips) -> None:
    questions, batch = make_batch(Composer(model.config, tokenizer, FAMILIES), clips)
    processor = HourLlavaProcessor.from_config(
        model.config, tokenizer, chat_template=tokenizer.chat_template
    )
    content = [{"type": "video"}, {"type": "text", "text": questions[0][0].question}]
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    asked = processor(text=prompt, video_features=[batch.inputs["video_features"][0]])
    length = asked["input_ids"].shape[1]
    assert torch.equal(batch.inputs["input_ids"][0, :length], asked["input_ids"][0])
    assert torch.equal(batch.inputs["question_mask"][0, :length], asked["question_mask"][0])
    assert not batch.inputs["question_mask"][0, length:].any()


def test_labels_are_the_answer_and_the_end_mark_alone(model, tokenizer, clips) -> None:
    questions, batch = make_batch(Composer(model.config, tokenizer, FAMILIES), clips)
    flat = [question for own in questions for question in own]
    for row, question in zip(batch.labels_BL, flat, strict=True):
        words = tokenizer.decode(row[row != IGNORED])
        assert words.removesuffix("<|im_end|>").strip() == question.answer


def test_evidence_marks_the_seconds_of_each_question(model, tokenizer, clips) -> None:
    questions, batch = make_batch(Composer(model.config, tokenizer, FAMILIES), clips)
    for video, own in enumerate(questions):
        for number, question in enumerate(own):
            spans = batch.naming.spans_VQF[video, number]
            for count, span in enumerate(question.evidence, start=1):
                assert count in spans[int(span.start_seconds) : int(span.end_seconds)]
            assert (spans > 0).any() == bool(question.evidence)


def test_blurring_never_touches_shapes_and_scenes(tokenizer, model) -> None:
    composer = Composer(model.config, tokenizer, FAMILIES)
    ids = tokenizer("what colour is the heart in the forest?").input_ids
    heart, forest = (tokenizer.convert_tokens_to_ids(word) for word in ("heart", "forest"))
    blurred = [composer._blur(ids, Random(seed)) for seed in range(50)]
    assert all(heart in row and forest in row for row in blurred)
    assert any(row != ids for row in blurred)


def test_attribute_bits_say_what_stands_where() -> None:
    clip = make_timeline(20, 3)
    labels = attributes_per_second(clip)
    bits = multi_hot(attribute_classes(labels))
    assert bits.shape == (20, 4, sum(MEMORY_SIZES.values()))
    first_shape = MEMORY_SIZES["scene"]
    shapes = bits[..., first_shape : first_shape + MEMORY_SIZES["shape"]]
    assert torch.equal(shapes.sum(-1) > 0, torch.from_numpy(labels["shape"] >= 0))


def test_word_loss_calls_a_row_right_when_every_answer_word_is_likeliest() -> None:
    labels = torch.tensor([[IGNORED, 2, 3, IGNORED], [IGNORED, 2, 3, IGNORED]])
    logits = torch.zeros(2, 4, 5)
    logits[:, 0, 2] = logits[0, 1, 3] = logits[1, 1, 4] = 9.0
    losses, is_right = word_loss(logits, labels)
    assert is_right.tolist() == [True, False]
    assert losses[0] < 0.01 < losses[1]


def test_the_answer_begins_behind_the_mark_that_the_last_probes_read(
    model, tokenizer, clips
) -> None:
    composer = Composer(model.config, tokenizer, FAMILIES)
    _, batch = make_batch(composer, clips)
    read: list[torch.Tensor] = []
    heads = Heads(32, len(composer.answers), SETTINGS.tube_size)
    objective = NanoObjective(model, heads, ONE_HEAD)
    heads.asked.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    before_last = model.model.language_model.layers[max(0, SETTINGS.language_layers - 2)]
    hidden: list[torch.Tensor] = []
    before_last.register_forward_hook(lambda *given: hidden.append(given[2]))
    objective(**batch.arguments())
    is_mark = batch.inputs["input_ids"] == composer.start_id
    assert is_mark.sum() == len(is_mark)
    assert torch.equal(read[0], hidden[0][is_mark])


def test_heads_of_weight_0_are_neither_asked_nor_trained(model, tokenizer, clips) -> None:
    composer = Composer(model.config, tokenizer, FAMILIES)
    _, batch = make_batch(composer, clips)
    heads = Heads(32, len(composer.answers), SETTINGS.tube_size)
    heads.asked.register_forward_pre_hook(lambda *_: pytest.fail("asked"))
    objective = NanoObjective(model, heads, replace(ONE_HEAD, asked=0.0))
    losses = objective(**batch.arguments()).losses
    assert "asked" not in losses
    assert {"pairs", "lengths"} <= set(losses)
    assert not any("asked" in name for name, _ in objective.named_parameters())


def test_of_a_thinned_video_frames_are_told_by_their_seconds(model, tokenizer, clips) -> None:
    composer = Composer(model.config, tokenizer, FAMILIES)
    timeline = clips[0]
    questions = draw_questions(timeline, 6, FAMILIES, Random(3))
    seconds = torch.cat([torch.arange(0, 4), torch.arange(6, timeline.duration_seconds)])
    features = torch.randn(20, 4, 32)
    whole = composer.compose([features], [questions])
    thinned = composer.compose([features[seconds]], [questions], seconds_VF=[seconds])
    assert torch.equal(thinned.naming.spans_VQF, whole.naming.spans_VQF[..., seconds])
    assert torch.equal(thinned.inputs["video_seconds"][0], seconds)


def test_a_step_reaches_every_trained_part(model, tokenizer, clips) -> None:
    composer = Composer(model.config, tokenizer, FAMILIES)
    objective = NanoObjective(
        model.train(), Heads(32, len(composer.answers), SETTINGS.tube_size), ONE_HEAD
    )
    model.model.vision_tower.requires_grad_(False)
    _, batch = make_batch(composer, clips)
    scored = objective(**batch.arguments())
    told = {"evidence", "spread", "probe", "names", "slots", "asked", "pairs", "lengths"}
    assert set(scored.losses) == {"words", "answer", *told}
    assert sum(objective.tally.asked.values()) == 6
    scored.loss.backward()
    trained = [(n, p) for n, p in objective.named_parameters() if p.requires_grad]
    assert [name for name, p in trained if p.grad is None] == []


def test_clock_time_stays_out_of_the_memory(model, tokenizer, clips, tmp_path) -> None:
    composer = Composer(model.config, tokenizer, FAMILIES)
    heads = Heads(32, len(composer.answers), SETTINGS.tube_size)
    _, batch = make_batch(composer, clips)

    class OneBatch(Composer):
        def draw(self, *args, **kwargs):
            return batch

    train_on_features(
        model,
        heads,
        OneBatch(model.config, tokenizer, FAMILIES),
        lambda seconds, count, rng, num_frames=None: [],
        LoopSettings(
            stages=(Stage(num_steps=3, seconds=(20, 20)),),
            weights=ONE_HEAD,
            is_clock_held=True,
            log_every=3,
        ),
        out=tmp_path,
        noise=0.0,
        team=Team(),
        log=lambda line: None,
    )
    times = model.model.memory_maker.time_features
    assert (times.proj.weight[:, 4:10] == 0).all()
    assert (times.proj.weight[:, 14:] == 0).all()
    assert (times.proj.weight[:, :4] != 0).all()


def test_the_probe_is_told_what_stood_there_in_the_seconds_before() -> None:
    classes = attribute_classes(attributes_per_second(make_timeline(20, 3)))[None]
    now, before, earlier = attributes_of_tubes(classes, 3).chunk(3, dim=-1)
    assert torch.equal(before[:, 1:], now[:, :-1])
    assert torch.equal(earlier[:, 2:], now[:, :-2])
    assert torch.equal(now, multi_hot(classes))


def test_foreign_frames_are_of_no_world(model, tokenizer) -> None:
    frames = foreign_frames(12, 32, seed=0)
    assert frames.shape == (12, 32, 32, 3)
    assert frames.std() > 30
    questions = draw_questions(make_timeline(20, 3), 4, FAMILIES, Random(0))
    sure, right = confidences(
        model, Composer(model.config, tokenizer, FAMILIES), torch.randn(12, 4, 32), questions
    )
    assert ((sure > 0) & (sure <= 1)).all()
    assert len(right) == 4


def test_a_video_that_nothing_can_be_asked_of_ends_with_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to ask of a video of 14 s: act_sequence"):
        draw_questions(make_timeline(14, 3), 2, ("act_sequence",), Random(0))
