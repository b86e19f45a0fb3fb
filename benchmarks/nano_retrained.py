"""What nano would be without its memory: the same model retrained on less, then examined.

    python benchmarks/nano_retrained.py --arm uniform_32 --features runs/nano/work

Frozen tower, token bank and questions are nano's; training starts from nano's own weights, which
favours the baselines, and runs `--steps` steps without `evidence_loss` (there is nothing to point
at). The features are what the recipe leaves in out/work. Results join
benchmarks/results/nano_exam.json.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from random import Random
from typing import Literal

import torch
import tyro
from torch import Tensor, nn

import hour_llava
from hour_llava.recipes.nano import FAMILIES, NanoSettings
from hour_llava.train.nano.bank import load_group
from hour_llava.train.nano.batches import Composer
from hour_llava.train.nano.heads import AnswerHead
from hour_llava.train.nano.loop import Stage, word_loss
from hour_llava.train.nano.splice import Scrapbook
from hour_llava.train.nano.tower import cosine_rate
from nano_exam import (
    RESULTS,
    Reader,
    kept_tokens,
    part_of,
    record,
    stamp_of,
    swaps,
    tokens_of_frames,
)

Arm = Literal["decayed", "uniform_32", "uniform_64"]
LENGTHS = Stage(num_steps=0, seconds=(52, 600))


def tokens_read(arm: Arm, seconds: int, width: int, max_kept: int) -> Tensor:
    """Name the memory tokens that an arm may read."""
    if arm == "decayed":
        return kept_tokens(seconds, width, max_kept)
    return tokens_of_frames(seconds, int(arm.removeprefix("uniform_")), width)


def retrain(model: nn.Module, composer: Composer, arm: Arm, features: Path, steps: int) -> None:
    """Train all but the tower on memories of which only a part can be read."""
    groups = [load_group(group, features) for group in NanoSettings().scrap_groups()]
    scraps, noise = Scrapbook(groups), NanoSettings().noise * groups[0].scale
    config = model.config
    head = AnswerHead(config.text_config.hidden_size, len(composer.answers))
    model.model.vision_tower.requires_grad_(False)
    parameters = [p for p in (*model.parameters(), *head.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1.0, betas=(0.9, 0.98), fused=True)
    rng, right, asked = Random(0), 0, 0
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = cosine_rate(step, steps, 1e-3, 30)
        seconds = LENGTHS.draw_seconds(rng)
        batch = composer.draw(scraps.videos(seconds, 6, rng), rng, num_questions=10, noise=noise)
        read = tokens_read(arm, seconds, config.num_cells + 1, config.max_kept_frames)
        wholes = model.project_memory(batch.inputs["video_features"])
        inputs = batch.inputs | {"video_features": [part_of(whole, read) for whole in wholes]}
        output = model(**inputs, use_cache=False)
        words, is_right = word_loss(output.logits, batch.labels_BL)
        augmented = output.augmented_tokens.unflatten(0, (len(words), -1))
        loss = words.mean() + head(augmented, batch.answers_B)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        right, asked = right + int(is_right.sum()), asked + len(is_right)
        if (step + 1) % 50 == 0:
            print(f"{arm} step {step + 1} right {right / asked:.3f}", flush=True)
            right = asked = 0
    model.eval()


def main(
    arm: Arm,
    features: Path,
    steps: int = 300,
    seconds: tuple[int, ...] = (180, 600),
    videos: int = 12,
    model: str = "nano",
) -> None:
    """Retrain one arm and examine it.

    Args:
        arm: what may be read.
        features: the folder of the recipe's features (out/work).
        steps: of training.
        seconds: lengths of the exam's videos.
        videos: a length.
        model: where it starts.
    """
    torch.set_num_threads(1)
    started = time.process_time()
    assistant = hour_llava.load(model)
    composer = Composer(assistant.model.config, assistant.processor.tokenizer, FAMILIES)
    retrain(assistant.model, composer, arm, features, steps)
    reader = Reader(assistant)
    for length in seconds:
        result = swaps(reader, length, videos, arms=(arm,))[arm]
        print(f"retrained {arm}, {length} s\n{result.to_markdown()}", flush=True)
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        command = f"nano_retrained.py --arm {arm} --steps {steps} --seconds {length}"
        known[f"retrained/{arm}/{length}"] = stamp_of(command, started) | record(result)
        RESULTS.write_text(json.dumps(known, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
