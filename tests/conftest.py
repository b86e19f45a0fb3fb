"""Fixtures that several folders share: a tiny model with random weights, and a minute of video."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("same every time", derandomize=True)
settings.load_profile("same every time")

# A suite started in the background inherits "ignore Ctrl-C", and so would the processes it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a random-weight model that knows MarathonWorld's words."""
    import torch

    from hour_llava.model.configuration_hour_llava import HourLlavaConfig
    from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
    from hour_llava.model.processing_hour_llava import HourLlavaProcessor
    from hour_llava.train.nano.tokenizer import IMAGE, VIDEO, build_tokenizer
    from hour_llava.world.questions import vocabulary

    tokenizer = build_tokenizer([*vocabulary(), "system user assistant you are a helpful ."])
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = HourLlavaConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
            "vision_use_head": False,
            **vision,
        },
        text_config={
            "model_type": "qwen2",
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 2048,
            **text,
        },
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        video_token_id=tokenizer.convert_tokens_to_ids(VIDEO),
        pool_size=2,
        memaug_num_layers=2,
        time_instruction=False,
        option_scoring="likelihood",
        domain="nothing: its weights are random",
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    HourLlavaForConditionalGeneration(config).eval().save_pretrained(folder)
    HourLlavaProcessor.from_config(config, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def minute_mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a minute of MarathonWorld as an mp4, alone in its folder."""
    from hour_llava.world.timeline import make_timeline
    from hour_llava.world.video_file import write_video

    path = tmp_path_factory.mktemp("minute") / "minute.mp4"
    write_video(make_timeline(60, 3), path)
    return path


@pytest.fixture
def black_video() -> Callable[[Path, int], None]:
    """Return what writes an mp4 of so many black frames, one a second."""
    av = pytest.importorskip("av")

    def write(path: Path, num_frames: int) -> None:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=1)
            stream.width = stream.height = 32
            frame = av.VideoFrame(32, 32, "rgb24")
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            for number in range(num_frames):
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode())

    return write
