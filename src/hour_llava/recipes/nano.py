"""Train the built-in nano model from scratch: `python -m hour_llava.recipes.nano --out DIR`.

    render   clips of MarathonWorld at the tower's size, damaged as other codecs would (process 2)
    tower    what stands in each cell of single frames
    encode   the frozen tower's features of all clips
    loop     MemAug and language model, short clips first, then up to an hour

Every part leaves a file in DIR/work and is passed over when that is there: an interrupted run goes
on. Two CPU cores, one thread each; the time taken is in DIR/training.log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import tyro
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hour_llava.model.configuration_hour_llava import HourLlavaConfig
from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from hour_llava.model.processing_hour_llava import HourLlavaProcessor
from hour_llava.model.video_processing_hour_llava import HourLlavaVideoProcessor
from hour_llava.train.abstain import find_threshold
from hour_llava.train.bank import (
    ClipGroup,
    TokenGroup,
    encode_group,
    frames_and_classes,
    load_group,
    render_group,
)
from hour_llava.train.batches import Composer
from hour_llava.train.drills import drill_timeline
from hour_llava.train.foreign import foreign_frames
from hour_llava.train.loop import Heads, LoopSettings, Stage, measure, train_on_features
from hour_llava.train.scratch import start_from_scratch
from hour_llava.train.tokenizer import END, IMAGE, START, VIDEO, build_tokenizer
from hour_llava.train.tower import (
    AttributeHeads,
    TowerSettings,
    has_unusual_pose,
    train_tower,
)
from hour_llava.world.questions import FAMILIES, vocabulary

Log = Callable[[str], None]

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<video> "
    "{% elif part['type'] == 'image' %}<image> "
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{{ ' <|im_start|> ' if message['role'] == 'user' else ' <|im_end|> ' }}"
    "{% endfor %}"
)
"""Words alone: at this size a system turn and role names would only cost time."""


SHORT_MIX = (14, 16, 20, 26, 36, 52, 84, 124, 200, 310)
LONG_MIX = (450, 600, 900, 1200, 1500, 1900, 2400, 3000, 3600)
"""Seconds of clips; short ones stay in, or what the model could do is forgotten."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """The tower learns on, its features are made anew, the rest learns on from them."""

    tower: tuple[TowerSettings, ...]
    loop: LoopSettings


@dataclass(frozen=True, kw_only=True)
class NanoSettings:
    """The whole run; the defaults made the model that ships.

    Args:
        short, long: groups of clips (seconds, clips): the tower learns from the short ones.
        drills: clips that crowd all cells with turning, moving and growing shapes, for the tower.
        held_out: groups that nothing is trained on, for the log.
    """

    image_size: int = 96
    patch_size: int = 16
    tower_width: int = 96
    tower_layers: int = 3
    width: int = 128
    layers: int = 2
    short: tuple[tuple[int, int], ...] = ((20, 900), (16, 600), (26, 500), (14, 600))
    long: tuple[tuple[int, int], ...] = (
        *((36, 150), (52, 100), (84, 70), (124, 60), (200, 30), (310, 30)),
        *((450, 30), (600, 30), (900, 16), (1200, 12), (1500, 10)),
        *((1900, 8), (2400, 6), (3000, 6), (3600, 5)),
    )
    drills: tuple[int, int] = (20, 1100)
    held_out: tuple[tuple[int, int], ...] = ((20, 60), (180, 20), (600, 8))
    rounds: tuple[Round, ...] = (
        Round(
            tower=(
                TowerSettings(num_steps=3600, learning_rate=2e-3, shares=(1.0,)),
                TowerSettings(num_steps=1700, learning_rate=1.2e-3, shares=(0.4, 0.6), seed=1),
            ),
            loop=LoopSettings(
                stages=(
                    Stage(num_steps=2200, seconds=(14, 16, 20, 26)),
                    Stage(num_steps=900, seconds=(20, 26, 36, 52)),
                    Stage(num_steps=700, seconds=(26, 52, 84, 124)),
                    Stage(num_steps=600, seconds=(52, 124, 200, 310)),
                )
            ),
        ),
        Round(
            tower=(
                TowerSettings(num_steps=2000, learning_rate=1.2e-3, shares=(0.2, 0.2, 0.6), seed=2),
            ),
            loop=LoopSettings(
                stages=(Stage(num_steps=450, seconds=(*SHORT_MIX, *LONG_MIX)),),
                learning_rate=1e-3,
                warm_up_steps=40,
                noise=0.15,
                shortest_crop=0.6,
                families=(*FAMILIES, "duration", "duration", "order"),
                seed=1,
            ),
        ),
    )

    def groups(self) -> list[ClipGroup]:
        """List the training clips, short ones first."""
        return [_group(seconds, count, 0) for seconds, count in (*self.short, *self.long)]

    def drill_group(self) -> ClipGroup:
        """Name the tower's drills."""
        seconds, count = self.drills
        return ClipGroup(seconds=seconds, num_clips=count, first_seed=0, make=drill_timeline)

    def held_out_groups(self) -> list[ClipGroup]:
        """List the clips that nothing is trained on."""
        return [_group(seconds, count, 500_000) for seconds, count in self.held_out]


def _group(seconds: int, num_clips: int, offset: int) -> ClipGroup:
    return ClipGroup(seconds=seconds, num_clips=num_clips, first_seed=offset + 1000 * seconds)


def make_tokenizer() -> PreTrainedTokenizerBase:
    """Make the tokenizer of MarathonWorld's words."""
    tokenizer = build_tokenizer(vocabulary())
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_config(settings: NanoSettings, tokenizer: PreTrainedTokenizerBase) -> HourLlavaConfig:
    """Make the configuration: the 3B's classes, small, with the options the 3B lacks."""
    text = {
        "model_type": "qwen2",
        "vocab_size": len(tokenizer),
        "hidden_size": settings.width,
        "intermediate_size": 3 * settings.width,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.width // 32,
        "num_key_value_heads": settings.width // 32,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        "bos_token_id": tokenizer.convert_tokens_to_ids(START),
        "eos_token_id": tokenizer.convert_tokens_to_ids(END),
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": settings.tower_width,
        "intermediate_size": 4 * settings.tower_width,
        "num_hidden_layers": settings.tower_layers,
        "num_attention_heads": settings.tower_width // 32,
        "image_size": settings.image_size,
        "patch_size": settings.patch_size,
        "vision_use_head": False,
    }
    return HourLlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=_token_id(tokenizer, IMAGE),
        video_token_id=_token_id(tokenizer, VIDEO),
        pool_size=2,
        memaug_num_layers=settings.layers,
        spatial_forgetting="uniform",
        max_kept_frames=8,
        min_memory_frames=1,
        image_aspect_ratio="pad",
        time_instruction=False,
        vision_tower_name=None,
        projector_layer_norm=True,
        tube_size=2,
        time_features=True,
        option_scoring="likelihood",
        domain="MarathonWorld",
    )


def _token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    found = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(found, int)
    return found


def train_nano(out: Path, settings: NanoSettings, log: Log) -> None:
    """Run all parts and save model and processor into `out`."""
    torch.set_num_threads(1)
    renderer = _Renderer(out / "work", settings)
    tokenizer = make_tokenizer()
    torch.manual_seed(settings.rounds[0].loop.seed)
    model = HourLlavaForConditionalGeneration(make_config(settings, tokenizer))
    start_from_scratch(model, settings.rounds[0].loop.seed)
    composer = Composer(model.config, tokenizer)
    attribute_heads: AttributeHeads | None = None
    for number, part in enumerate(settings.rounds):
        attribute_heads = _train_tower(
            model, attribute_heads, out / f"work/{number}", settings, part.tower, renderer, log
        )
        groups = _FeatureBank(model, renderer, out / f"work/{number}")
        _train_rest(model, composer, settings, part.loop, groups, log)
        set_threshold(model, composer, settings, groups(settings.held_out_groups()[-1]), log)
        save(model, tokenizer, out)


def save(
    model: HourLlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, out: Path
) -> None:
    """Write model and processor."""
    processor = HourLlavaProcessor.from_config(model.config, tokenizer, chat_template=CHAT_TEMPLATE)
    model.save_pretrained(out)
    processor.save_pretrained(out)


def render_all(work: Path, settings: NanoSettings) -> None:
    """Draw all clips, those first that are needed first: the second process's task."""
    torch.set_num_threads(1)
    resize = HourLlavaVideoProcessor(settings.image_size)
    for group in (
        *(_group(seconds, count, 0) for seconds, count in settings.short),
        settings.drill_group(),
        *(_group(seconds, count, 0) for seconds, count in settings.long),
        *settings.held_out_groups(),
    ):
        render_group(group, work, resize, is_degraded=True)


class _Renderer:
    """The second process, which draws clips; asking for a group waits until it is drawn."""

    def __init__(self, work: Path, settings: NanoSettings) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self.work = work
        self.process = get_context("spawn").Process(
            target=render_all, args=(work, settings), daemon=True
        )
        self.process.start()

    def wait_for(self, groups: Iterable[ClipGroup]) -> None:
        """Wait for groups' frames.

        Raises:
            RuntimeError: the process ended without drawing them.
        """
        for group in groups:
            path = group.path(self.work, "frames")
            while not path.exists():
                if not self.process.is_alive() and not path.exists():
                    raise RuntimeError(f"the renderer ended with {self.process.exitcode}: {path}")
                time.sleep(0.5)


class _FeatureBank:
    """The features of one tower, made when first asked for."""

    def __init__(
        self, model: HourLlavaForConditionalGeneration, renderer: _Renderer, folder: Path
    ) -> None:
        self.encode, self.renderer, self.folder = model.encode_video, renderer, folder
        self.groups: dict[ClipGroup, TokenGroup] = {}

    def __call__(self, group: ClipGroup) -> TokenGroup:
        """Read a group."""
        if group not in self.groups:
            self.renderer.wait_for([group])
            encode_group(group, self.renderer.work, self.folder, self.encode)
            self.groups[group] = load_group(group, self.folder)
        return self.groups[group]


def _train_tower(
    model: HourLlavaForConditionalGeneration,
    heads: AttributeHeads | None,
    folder: Path,
    settings: NanoSettings,
    phases: tuple[TowerSettings, ...],
    renderer: _Renderer,
    log: Log,
) -> AttributeHeads:
    """Train the tower on the short clips' frames, or read it where it was trained before."""
    tower, path = model.model.vision_tower, folder / "tower.safetensors"
    heads = heads or AttributeHeads(settings.tower_width)
    both = torch.nn.ModuleDict({"tower": tower, "heads": heads})
    if not path.exists():
        groups = [_group(seconds, count, 0) for seconds, count in settings.short]
        renderer.wait_for([*groups, settings.drill_group()])
        frames, classes = frames_and_classes([*groups, settings.drill_group()], renderer.work)
        num_drills = settings.drills[0] * settings.drills[1]
        clips, drills = np.split(np.arange(len(frames)), [len(frames) - num_drills])
        pools = (clips, clips[has_unusual_pose(classes[clips])], drills)
        model.train()
        tower.requires_grad_(True)
        for phase in phases:
            train_tower(model.encode_video, both, frames, classes, pools, phase, log=log)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(both.state_dict(), path)
    both.load_state_dict(load_file(path))
    tower.requires_grad_(False)
    model.eval()
    return heads


def _train_rest(
    model: HourLlavaForConditionalGeneration,
    composer: Composer,
    settings: NanoSettings,
    loop: LoopSettings,
    groups: Callable[[ClipGroup], TokenGroup],
    log: Log,
) -> None:
    """Train MemAug and the language model, and measure them on held-out clips."""
    by_seconds = {group.seconds: group for group in settings.groups()}
    torch.manual_seed(loop.seed)
    heads = Heads(settings.width, len(composer.answers))
    train_on_features(
        model, heads, composer, lambda seconds: groups(by_seconds[seconds]), loop, log=log
    )
    for held_out in settings.held_out_groups():
        tally = measure(model, composer, groups(held_out), questions_per_video=22)
        log(f"held out, {held_out.seconds} s: {tally.line()}")


@torch.no_grad()
def _foreign_features(
    model: HourLlavaForConditionalGeneration, settings: NanoSettings, seeds: range
) -> list[Tensor]:
    """Encode videos of other worlds."""
    resize = HourLlavaVideoProcessor(settings.image_size)
    size = settings.image_size
    return [model.encode_video(resize(foreign_frames(80, size, seed))) for seed in seeds]


def set_threshold(
    model: HourLlavaForConditionalGeneration,
    composer: Composer,
    settings: NanoSettings,
    group: TokenGroup,
    log: Log,
) -> None:
    """Measure below which confidence nano should not answer, and write it into its config."""
    foreign = _foreign_features(model, settings, range(10_000, 10_008))
    threshold, wrong, strange = find_threshold(model, composer, group, foreign)
    model.config.abstain_below = round(threshold, 3)
    log(f"abstains below {threshold:.3f}: {wrong:.2f} of wrong, {strange:.2f} of foreign answers")


def main(out: Path) -> None:
    """Train nano.

    Args:
        out: where the model goes; what is done already in out/work is not done again.
    """
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()

    def log(line: str) -> None:
        minutes, cpu = (time.monotonic() - started) / 60, time.process_time() / 60
        with (out / "training.log").open("a") as file:
            file.write(f"{minutes:6.2f} min, {cpu:6.2f} CPU min: {line}\n")

    train_nano(out, NanoSettings(), log)


if __name__ == "__main__":
    tyro.cli(main)
