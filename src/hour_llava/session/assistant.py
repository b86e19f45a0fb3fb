"""A loaded model that watches videos and answers questions about them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hour_llava.errors import MemoryFileError, ResourceError, VideoNotFoundError
from hour_llava.memory.repository import MemoryRepository
from hour_llava.model.checkpoints import BUILTIN, load_pretrained
from hour_llava.model.modeling_hour_llava import HourLlavaForConditionalGeneration
from hour_llava.model.processing_hour_llava import HourLlavaProcessor
from hour_llava.session.answer import Answer, Progress, ProgressCallback
from hour_llava.session.answering import answer_question, prepare_question
from hour_llava.session.cache import is_memory_file
from hour_llava.session.encoder import FrameEncoder
from hour_llava.session.options import RememberOptions
from hour_llava.session.remembering import Remembered, remember_video, verify_unless_huge
from hour_llava.video.container import check_path

# Below this a model is run in float32 everywhere: it is quick anyway, and was measured so.
_SMALL_PARAMETERS = 300_000_000
_DTYPES = ("float32", "bfloat16", "float16")


def builtin_models() -> list[str]:
    """Return the names of the models that ship with the package."""
    return sorted(path.parent.name for path in BUILTIN.glob("*/config.json"))


def load(
    name: str = "nano", device: str | None = None, dtype: str | torch.dtype | None = None
) -> Assistant:
    """Load a model.

    Args:
        name: a built-in name, a local folder (ours or in the released layout), or a hub id.
        device: the best there is by default.
        dtype: by default float32 for small models and the stored one for large ones.

    Raises:
        ModelNotFoundError: no built-in, folder or reachable hub id has this name.
        CheckpointError: the folder holds something else; the message names what.
        ResourceError: no such device or dtype on this machine.
    """
    chosen = _device(device)
    wanted = _dtype(dtype)
    model, processor = load_pretrained(name, dtype=wanted, device=None)
    num_parameters = sum(weight.numel() for weight in model.parameters())
    if wanted is None and num_parameters < _SMALL_PARAMETERS:
        model = model.float()
    model.to(chosen)  # pyright: ignore[reportArgumentType] - a decorated method
    return Assistant(model.eval(), processor, name=Path(name).name or name)


class Assistant:
    """A model, its processor, and what they are used for: `remember`, then `ask`.

    Args:
        model: in evaluation mode, on its device.
        processor: the model's own.
        name: shown in answers and written into memories.
    """

    def __init__(
        self,
        model: HourLlavaForConditionalGeneration,
        processor: HourLlavaProcessor,
        *,
        name: str = "model",
    ) -> None:
        self.model, self.processor, self.name = model, processor, name
        self.encoder = FrameEncoder(model, processor)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def num_parameters(self) -> int:
        return sum(weight.numel() for weight in self.model.parameters())

    @property
    def domain(self) -> str | None:
        """What the model knows, None if it was not trained for one thing only."""
        return self.model.config.domain

    def remember(
        self,
        path: str | Path,
        fps: float = 1.0,
        start: float | None = None,
        end: float | None = None,
        progress: ProgressCallback | None = None,
        use_cache: bool = True,
    ) -> MemoryRepository:
        """Watch a video once and keep its memory; the next call finds it again.

        Args:
            path: a video file.
            fps: frames a second to watch.
            start: seconds, the video's own start by default.
            end: seconds, the video's own end by default.
            progress: is told how far it is, and what it will cost.
            use_cache: False neither reads nor keeps anything on disk.

        Returns:
            The memory, question-free, its features left on disk until asked for.

        Raises:
            VideoError: the file cannot be read as a video.
            ResourceError: the disk is full, or the cache folder cannot be written.
        """
        options = RememberOptions(
            fps=fps,
            start=start,
            end=end,
            progress=progress or RememberOptions.progress,
            use_cache=use_cache,
        )
        return self.remember_with_report(path, options).memory

    def remember_with_report(
        self, path: str | Path, options: RememberOptions | None = None
    ) -> Remembered:
        """Do what `remember` does, and say what it cost."""
        options = options or RememberOptions()
        check_path(path)  # as it was typed: a Path drops a slash of a URL
        return remember_video(Path(path), self.encoder, options, model=self.name)

    def open_or_remember(
        self, path: str | Path, options: RememberOptions | None = None
    ) -> Remembered:
        """Open a memory file (.hlm), or remember a video; a memory is cropped to start and end.

        Raises:
            MemoryFileError: the memory file is broken, of another rate than the one asked for, or
                another vision tower made it.
        """
        options = options or RememberOptions()
        if not is_memory_file(path):
            return self.remember_with_report(path, options)
        path = Path(path)
        if not path.exists():
            raise VideoNotFoundError(f"{path}: no such file; check the name")
        memory = MemoryRepository.open(path)
        verify_unless_huge(memory)
        self.require_own_tower(memory)
        _require_rate(memory, path, options.fps)
        if not options.use_cache:
            note = f"{path} is read as it is: no cache has a part in it"
            options.progress(Progress(num_done=0, num_frames=0, note=note))
        if options.start is not None or options.end is not None:
            memory = _crop(memory, path, options.start, options.end)
        return Remembered(memory=memory, path=path, is_cached=True)

    def ask(
        self,
        memory: MemoryRepository,
        question: str,
        options: Sequence[str] | None = None,
        evidence: bool = False,
        seed: int = 0,
        max_new_tokens: int = 64,
        max_memory: int | None = None,
    ) -> Answer:
        """Answer a question about a remembered video.

        The same memory, question and seed give the same answer, on any day and in any process.

        Args:
            memory: of the video.
            question: in plain words.
            options: answer with one of these.
            evidence: also find the stretches that the answer was read from.
            seed: of the random forgetting.
            max_new_tokens: the longest answer.
            max_memory: bytes of RAM that the process may take; long memories are read in chunks.

        Raises:
            QuestionError: empty, too long, or options that are no choice.
            ResourceError: `max_memory` is too small; needed and given bytes are named.
            MemoryFileError: another vision tower made the memory.
        """
        self.require_own_tower(memory)
        return answer_question(
            self.model,
            self.processor,
            memory,
            question,
            options=options or (),
            wants_evidence=evidence,
            seed=seed,
            max_new_tokens=max_new_tokens,
            max_memory=max_memory,
            name=self.name,
        )

    def require_answerable(
        self,
        memory: MemoryRepository,
        question: str,
        options: Sequence[str] | None = None,
        max_new_tokens: int = 64,
        max_memory: int | None = None,
    ) -> None:
        """Refuse what `ask` would refuse; the memory's features are not needed for that.

        What the process holds may grow until `ask`, which looks at the budget again.

        Raises:
            QuestionError, ResourceError: as `ask`.
        """
        prepare_question(
            self.model,
            self.processor,
            memory,
            question,
            options=options or (),
            seed=0,
            max_new_tokens=max_new_tokens,
            max_memory=max_memory,
        )

    def encode(self, frames: Sequence[np.ndarray]) -> Tensor:
        """Return the features (F, P, D) of RGB frames (H, W, 3) uint8 of one size."""
        return self.encoder.encode_frames(frames)

    def require_own_tower(self, memory: MemoryRepository) -> None:
        """Refuse a memory whose features another vision tower made; unnamed features are taken.

        Raises:
            MemoryFileError: names the memory's model and this one.
        """
        own = self.encoder
        where = memory.path or "the memory"
        if memory.shape[1:] != (own.tokens_per_frame, own.feature_size) or (
            memory.tower_digest and memory.tower_digest != own.tower_digest
        ):
            raise MemoryFileError(
                f"{where}: made by {memory.model or 'another model'} "
                f"(tower {memory.tower_digest[:12] or '?'}, {memory.shape[1:]} a frame), but "
                f"{self.name} has tower {own.tower_digest[:12]}, "
                f"{(own.tokens_per_frame, own.feature_size)} a frame; ask with the model that made "
                "it, or run `hour-llava remember` with this one"
            )


def _require_rate(memory: MemoryRepository, path: Path, fps: float | None) -> None:
    """Refuse to pretend that a finished memory could be watched at another rate."""
    own = memory.sampling.fps
    if fps is not None and fps != own:
        raise MemoryFileError(
            f"{path}: made at {own:g} frames a second, which --fps {fps:g} cannot change; leave "
            "--fps out, or remember the video again"
        )


def _crop(
    memory: MemoryRepository, path: Path, start: float | None, end: float | None
) -> MemoryRepository:
    try:
        return memory.crop(start, end)
    except ValueError as error:
        raise MemoryFileError(f"{path}: {error}") from error


def _device(name: str | None) -> torch.device:
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ResourceError(
            f"device {name!r} cannot be used here ({reason}); take cpu, or see `hour-llava doctor`"
        ) from error
    return device


def _dtype(name: str | torch.dtype | None) -> torch.dtype | None:
    if name is None or isinstance(name, torch.dtype):
        return name
    if name not in _DTYPES:
        raise ResourceError(f"dtype {name!r} is not known; take {', '.join(_DTYPES)}")
    return getattr(torch, name)
