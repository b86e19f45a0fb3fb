"""From the tower's features to memories: the projector, and the tokens that MemAug reads.

A video's memory is made whole, or a range of frames at a time where it would not fit: then the
projector runs again for every layer of MemAug, and only the kept tokens are held.

Letters: F frames, P cells a frame, C tower channels, D hidden, M memory tokens, S kept tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hour_llava.memory.plan import MemoryTokens
from hour_llava.model.configuration_hour_llava import HourLlavaConfig
from hour_llava.model.image_geometry import sheet_tiles_wh, unpadded_box
from hour_llava.model.visual_plan import images_memory_positions, sheet_grid_hw, source_frames

PROJECT_TOKENS = 16_384
"""Tokens projected at a time where no gradient is wanted."""
FRACTION_HARMONICS = 4
PERIODS_SECONDS = tuple(15.0 * 4.0**k for k in range(6))
"""15 s to 4.3 h: the slow ones still tell hours apart, the fast ones neighbouring scenes."""


class Projector(nn.Module):
    """Lead the tower's features into the language model's space: linear, exact GELU, linear."""

    def __init__(self, num_channels: int, hidden_size: int, *, layer_norm: bool = False) -> None:
        super().__init__()
        self.fc1 = nn.Linear(num_channels, hidden_size)
        self.fc2 = nn.Linear(hidden_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size) if layer_norm else None

    def forward(self, features: Tensor) -> Tensor:
        """Project (.., C) to (.., D)."""
        tokens = self.fc2(F.gelu(self.fc1(features)))
        return tokens if self.norm is None else self.norm(tokens)


class TimeFeatures(nn.Module):
    """Tell memory tokens when they were: Fourier features of t / T and of seconds.

    Not in the released architecture. Without it a small model learns neither order nor "when".
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.proj = nn.Linear(2 * (FRACTION_HARMONICS + len(PERIODS_SECONDS)), hidden_size)

    def forward(self, fraction_F: Tensor, seconds_F: Tensor) -> Tensor:
        """Embed frame times; angles in float32.

        Args:
            fraction_F: place in the video, 0..1.
            seconds_F: presentation time.

        Returns:
            (F, D) of the weights' dtype.
        """
        half_turns = torch.pi * 2.0 ** torch.arange(FRACTION_HARMONICS, device=fraction_F.device)
        turns = 2 * math.pi / torch.tensor(PERIODS_SECONDS, device=fraction_F.device)
        angles = torch.cat(
            [fraction_F.float()[:, None] * half_turns, seconds_F.float()[:, None] * turns], dim=-1
        )
        features = torch.cat([angles.sin(), angles.cos()], dim=-1)
        return self.proj(features.to(self.proj.weight.dtype))


class StoredFeatures(Protocol):
    """What is read of a `MemoryRepository`: ranges of pooled features, and presentation times."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def times_F(self) -> Tensor: ...

    def frames(self, first: int, last: int) -> Tensor:
        """Give the features of frames first..last-1."""
        ...


VideoFeatures = Tensor | StoredFeatures


@dataclass(frozen=True, kw_only=True)
class FrameSource:
    """A video's pooled features, in memory or in a file, and the times of its frames."""

    features: Tensor | StoredFeatures
    seconds_F: Tensor

    @classmethod
    def of(cls, given: VideoFeatures, seconds_F: Tensor | None = None) -> FrameSource:
        """Take features (F, P, C) or (F, h, w, C), or a repository; times default to 1 FPS."""
        if not isinstance(given, Tensor):
            return cls(features=given, seconds_F=given.times_F.float())
        features = given.flatten(1, 2) if given.dim() == 4 else given
        if seconds_F is None:
            seconds_F = torch.arange(len(features), dtype=torch.float32)
        return cls(features=features, seconds_F=seconds_F.float())

    @property
    def num_frames(self) -> int:
        """Count the video's frames, before repetition."""
        return self.features.shape[0]

    def read(self, first: int, last: int) -> Tensor:
        """Read frames first..last-1; of a file, nothing more is held in memory."""
        if isinstance(self.features, Tensor):
            return self.features[first:last]
        return self.features.frames(first, last)

    def tubes(self, frames: Tensor, tube_size: int, like: Tensor) -> Tensor:
        """Read frames and join each with those before it (t, t - 1, ..); the first repeats itself.

        Returns:
            (n, P, C * tube_size) on `like`'s device, of its dtype.
        """
        wanted_Tn = torch.stack([(frames - back).clamp(min=0) for back in range(tube_size)])
        first, last = int(wanted_Tn.min()), int(wanted_Tn.max()) + 1
        if last - first <= 2 * wanted_Tn.numel():
            block, place_Tn = self.read(first, last), wanted_Tn - first
        else:
            rows, place_Tn = wanted_Tn.unique(return_inverse=True)
            block = torch.cat([self.read(row, row + 1) for row in rows.tolist()])
        block = block.to(like.device, like.dtype)
        if tube_size == 1 and torch.equal(place_Tn[0], torch.arange(len(block))):
            return block
        return torch.cat([block[place.to(block.device)] for place in place_Tn], dim=-1)

    def fractions(self) -> Tensor:
        """Give each frame's place in the video, 0..1: with equal steps, the middle of each."""
        span = float(self.seconds_F[-1] - self.seconds_F[0])
        if span <= 0:
            return (torch.arange(self.num_frames, dtype=torch.float32) + 0.5) / self.num_frames
        step = span / (self.num_frames - 1)
        return (self.seconds_F.cpu() - self.seconds_F[0].cpu() + step / 2) / (span + step)


@dataclass(frozen=True, kw_only=True)
class VideoMemory(MemoryTokens):
    """A video's projected memory, whole.

    Args:
        num_frames: frames of the video, before repetition.
        tokens_per_frame: cells and the newline.
    """

    num_frames: int
    tokens_per_frame: int

    def gather(self, kept_S: Tensor) -> Tensor:
        """Take kept tokens: (S, D)."""
        return self.tokens_MD[kept_S.to(self.tokens_MD.device)]

    def frame_means(self) -> Tensor:
        """Average each memory frame's tokens: (F, D)."""
        return self.tokens_MD.unflatten(0, (-1, self.tokens_per_frame)).mean(1)


ProjectFrames = Callable[[FrameSource, Tensor], Tensor]
"""(source, video frames (n,)) -> tokens (n, P + 1, D)."""


@dataclass(frozen=True, kw_only=True)
class ChunkedVideoMemory:
    """A video's memory that is projected a range of frames at a time, at every reading.

    Args:
        source: the features, such as a mapped file.
        project: projects named frames.
        frame_index: the video frame of each memory frame.
        chunk_frames: how many are projected at a time.
    """

    source: FrameSource
    project: ProjectFrames
    frame_index: Tensor
    chunk_frames: int
    tokens_per_frame: int

    @property
    def num_frames(self) -> int:
        """Count the video's frames, before repetition."""
        return self.source.num_frames

    @property
    def num_tokens(self) -> int:
        """Count the memory's tokens."""
        return len(self.frame_index) * self.tokens_per_frame

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Give (tokens_mD, positions_m) of one range of frames after another."""
        for start in range(0, len(self.frame_index), self.chunk_frames):
            frames = self.frame_index[start : start + self.chunk_frames]
            tokens = self.project(self.source, frames).flatten(0, 1)
            first = start * self.tokens_per_frame
            yield tokens, torch.arange(first, first + len(tokens), device=tokens.device)

    def gather(self, kept_S: Tensor) -> Tensor:
        """Project the frames that hold kept tokens, and take those tokens: (S, D)."""
        frames, place = (kept_S // self.tokens_per_frame).unique(return_inverse=True)
        tokens = self.project(self.source, self.frame_index[frames])
        within = (kept_S % self.tokens_per_frame).to(tokens.device)
        return tokens[place.to(tokens.device), within]

    def frame_means(self) -> Tensor:
        """Average each memory frame's tokens: (F, D)."""
        parts = (tokens.unflatten(0, (-1, self.tokens_per_frame)) for tokens, _ in self.chunks())
        return torch.cat([part.mean(1) for part in parts])


AnyVideoMemory = VideoMemory | ChunkedVideoMemory


def place_of(module: nn.Module) -> torch.device | None:
    """Say where a module's weights are; None where they come when called, and where it has none."""
    weight = next(module.parameters(), None)
    if weight is None:
        return None
    device = weight.device
    return None if device.type == "meta" else device


def moved(memory: Any, device: torch.device) -> Any:
    """Bring a whole memory to a device; chunks of others are moved as they are read."""
    if not isinstance(memory, MemoryTokens) or memory.tokens_MD.device == device:
        return memory
    tokens_MD, positions_M = memory.tokens_MD.to(device), memory.positions_M.to(device)
    return replace(memory, tokens_MD=tokens_MD, positions_M=positions_M)


def pool_grid(features_NTC: Tensor, pool_size: int) -> Tensor:
    """Pool square grids bilinearly, without antialias: (N, cells, C) to (N, pool_size**2, C)."""
    side = math.isqrt(features_NTC.shape[1])
    if side * side != features_NTC.shape[1]:
        raise ValueError(f"{features_NTC.shape[1]} tokens a frame are not a square grid to pool")
    grid = features_NTC.transpose(1, 2).unflatten(2, (side, side))
    pooled = F.interpolate(grid, size=(pool_size, pool_size), mode="bilinear", align_corners=False)
    return pooled.flatten(2).transpose(1, 2)


def sheet_tokens(
    tiles_TGD: Tensor,
    newline_D: Tensor,
    *,
    tiles_wh: tuple[int, int],
    box: tuple[int, int, int, int],
    grid_hw: tuple[int, int],
) -> Tensor:
    """Merge an image's projected tiles into its memory.

    Args:
        tiles_TGD: tile 0 (the whole image), then the sheet's tiles row by row; G cells a tile.
        newline_D: ends every merged row.
        tiles_wh: columns and rows of tiles.
        box: what of the merged grid shows the image (top, bottom, left, right).
        grid_hw: rows and columns after shrinking (bilinear where that changes anything).

    Returns:
        (M, D): the base tile's cells, then each merged row and its newline.
    """
    side = math.isqrt(tiles_TGD.shape[1])
    columns, rows = tiles_wh
    grid = tiles_TGD[1:].unflatten(0, (rows, columns)).unflatten(2, (side, side))
    merged_DHW = grid.permute(4, 0, 2, 1, 3).flatten(1, 2).flatten(2, 3)
    top, bottom, left, right = box
    merged_DHW = merged_DHW[:, top:bottom, left:right]
    if merged_DHW.shape[1:] != grid_hw:
        merged_DHW = F.interpolate(merged_DHW[None], size=grid_hw, mode="bilinear")[0]
    newline = newline_D[:, None, None].expand(-1, grid_hw[0], 1)
    with_newline = torch.cat([merged_DHW, newline], dim=2)
    return torch.cat([tiles_TGD[0], with_newline.flatten(1).transpose(0, 1)])


class MemoryMaker(nn.Module):
    """Make memories: the projector, the newline that ends every frame, and times."""

    def __init__(self, config: HourLlavaConfig) -> None:
        super().__init__()
        hidden_size = config.text_config.hidden_size
        self.config = config
        self.projector = Projector(
            config.num_projector_channels, hidden_size, layer_norm=config.projector_layer_norm
        )
        self.newline = nn.Parameter(torch.zeros(hidden_size))
        self.time_features = TimeFeatures(hidden_size) if config.time_features else None

    def video_memories(
        self, sources: Sequence[FrameSource], *, max_memory_bytes: int | None = None
    ) -> list[AnyVideoMemory]:
        """Make the memories of videos: whole ones in one pass, those that do not fit chunked."""
        limit = max_memory_bytes or math.inf
        fits = [self._memory_bytes(source) <= limit for source in sources]
        whole = iter(self._whole([s for s, fit in zip(sources, fits, strict=True) if fit]))
        return [
            next(whole) if fit else self._chunked(source, int(limit))
            for source, fit in zip(sources, fits, strict=True)
        ]

    def source(self, features: VideoFeatures, seconds_F: Tensor | None = None) -> FrameSource:
        """Take a video's features, pooled where they are not; refuse another model's.

        Raises:
            ValueError: names the features' shape and what this model reads.
        """
        source = FrameSource.of(features, seconds_F)
        found, wanted = tuple(source.features.shape), self.config.vision_config.hidden_size
        if (
            len(found) != 3
            or found[0] == 0
            or found[2] != wanted
            or found[1] < self.config.num_cells
        ):
            raise ValueError(
                f"video features have shape {found} (frames, cells, channels); this model "
                f"reads at least 1 frame of {self.config.num_cells} cells of {wanted} channels"
            )
        if found[1] == self.config.num_cells:
            return source
        whole = source.read(0, source.num_frames).to(self.newline.dtype)
        pooled = pool_grid(whole, self.config.pool_size)
        return FrameSource(features=pooled, seconds_F=source.seconds_F)

    def _memory_bytes(self, source: FrameSource) -> int:
        frames = len(source_frames(source.num_frames, self.config))
        width = self.newline.numel() * self.newline.element_size()
        return frames * (self.config.num_cells + 1) * width

    def _chunked(self, source: FrameSource, max_memory_bytes: int) -> ChunkedVideoMemory:
        frame_index = source_frames(source.num_frames, self.config)
        # A chunk's features, hidden layer, tokens, keys and values live at the same time.
        frame_bytes = 6 * self._memory_bytes(source) // len(frame_index)
        return ChunkedVideoMemory(
            source=source,
            project=self.project_frames,
            frame_index=frame_index,
            chunk_frames=max(1, max_memory_bytes // max(1, frame_bytes)),
            tokens_per_frame=self.config.num_cells + 1,
        )

    def _whole(self, sources: list[FrameSource]) -> list[VideoMemory]:
        if not sources:
            return []
        if torch.is_grad_enabled():
            tokens = self._project_together(sources)
        else:
            tokens = [self._project_in_parts(source) for source in sources]
        memories: list[VideoMemory] = []
        for source, own_FPD in zip(sources, tokens, strict=True):
            index = source_frames(source.num_frames, self.config)
            repeated = own_FPD if len(index) == len(own_FPD) else own_FPD[index.to(own_FPD.device)]
            flat = repeated.flatten(0, 1)
            memories.append(
                VideoMemory(
                    tokens_MD=flat,
                    positions_M=torch.arange(len(flat), device=flat.device),
                    num_frames=source.num_frames,
                    tokens_per_frame=own_FPD.shape[1],
                )
            )
        return memories

    def _project_together(self, sources: Sequence[FrameSource]) -> Sequence[Tensor]:
        """Project the frames of all videos in one pass: training's way."""
        tube, like = self.config.tube_size, self.newline
        features = [s.tubes(torch.arange(s.num_frames), tube, like) for s in sources]
        fractions = torch.cat([s.fractions() for s in sources])
        seconds = torch.cat([s.seconds_F.cpu() for s in sources])
        tokens = self._tokens_of(torch.cat(features), fractions, seconds)
        return tokens.split([s.num_frames for s in sources])

    def _project_in_parts(self, source: FrameSource) -> Tensor:
        """Project a few frames at a time into place: no second copy of an hour's tokens."""
        shape = (source.num_frames, self.config.num_cells + 1, len(self.newline))
        tokens = self.newline.new_empty(shape)
        step = max(1, PROJECT_TOKENS // shape[1])
        for frames in torch.arange(source.num_frames).split(step):
            tokens[frames[0] : frames[-1] + 1] = self.project_frames(source, frames)
        return tokens

    def project_frames(self, source: FrameSource, frames: Tensor) -> Tensor:
        """Project named frames of a video: (n, P + 1, D), the newline last."""
        features = source.tubes(frames, self.config.tube_size, self.newline)
        return self._tokens_of(
            features,
            source.fractions()[frames],
            source.seconds_F[frames.to(source.seconds_F.device)],
        )

    def _tokens_of(self, features: Tensor, fraction_F: Tensor, seconds_F: Tensor) -> Tensor:
        tokens = self.projector(features)
        newline = self.newline.expand(len(tokens), 1, -1)
        tokens = torch.cat([tokens, newline], dim=1)
        if self.time_features is not None:
            device = tokens.device
            tokens = (
                tokens + self.time_features(fraction_F.to(device), seconds_F.to(device))[:, None]
            )
        return tokens

    def image_memory(
        self, features_TGC: Tensor, sizes_hw: list[tuple[int, int]], num_tiles: list[int]
    ) -> MemoryTokens:
        """Make the memory of a row's images from their tiles; `visual_plan` tells its layout."""
        tubes = features_TGC.repeat(1, 1, self.config.tube_size)
        tokens = self.projector(tubes.to(self.newline.device, self.newline.dtype))
        positions = images_memory_positions(sizes_hw, num_tiles, self.config).to(tokens.device)
        if len(num_tiles) == 1 and num_tiles[0] > 1:
            return MemoryTokens(tokens_MD=self._sheet(tokens, sizes_hw[0]), positions_M=positions)
        newline = self.newline.expand(len(tokens), 1, -1)
        flat = torch.cat([tokens, newline], dim=1).flatten(0, 1)
        return MemoryTokens(tokens_MD=flat, positions_M=positions)

    def _sheet(self, tiles_TGD: Tensor, size_hw: tuple[int, int]) -> Tensor:
        config, (height, width) = self.config, size_hw
        tiles_wh = sheet_tiles_wh((width, height), config.image_grid_pinpoints, config.tile_size)
        grid = (tiles_wh[1] * config.grid_side, tiles_wh[0] * config.grid_side)
        return sheet_tokens(
            tiles_TGD,
            self.newline,
            tiles_wh=tiles_wh,
            box=unpadded_box((width, height), grid),
            grid_hw=sheet_grid_hw(size_hw, config),
        )
