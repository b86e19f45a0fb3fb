"""What `synth check` reads off a release."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hour_llava.videomarathon.checking import _stride_of


def test_a_clip_without_a_caption_does_not_widen_the_stride(
    make_memory_build: Callable[..., Any],
) -> None:
    captions = make_memory_build("endpoint", "truth").stages["caption_check"]
    assert [caption.span.start_ms for caption in captions[:3]] == [0, 20_000, 40_000]
    del captions[1]
    assert _stride_of(captions) == 20_000
    assert _stride_of(captions[:1]) == 20_000
