"""The errors that users see, each one line: what, which file, why, what to do.

HourLlavaError
├── VideoError (ValueError)            a video that cannot be read
│   ├── VideoNotFoundError             no such file, a folder, a URL, no permission
│   ├── NoVideoStreamError             audio only, a text file, cover art only
│   ├── BrokenVideoError               zero bytes, no index, nothing decodable
│   └── DecoderHungError               no frame and no progress for the watchdog's seconds
├── MemoryFileError (ValueError)       an .hlm that is corrupt, truncated, foreign or newer
├── CheckpointError (ValueError)       missing or extra keys, wrong shapes, another model
│   └── ModelNotFoundError             no built-in, folder or reachable hub id of that name
├── QuestionError (ValueError)         empty, or longer than the model can read
├── TokenCountError (ValueError)       processor and model disagree; both numbers are named
├── DataError (ValueError)             a manifest, a sample or a features file that cannot be used
├── ConfigError (ValueError)           settings of a training run that do not fit, or unknown ones
├── RecordError (ValueError)           a line of a dataset build that is no record of ours
├── BuildError (ValueError)            a build folder, its settings or its release are not usable
├── EndpointError (RuntimeError)       a model endpoint: wrong key, no model, no images, down
├── BudgetError (RuntimeError)         --max-usd, --max-calls or --max-tokens is spent
├── TrainingError (RuntimeError)       a run that cannot go on: its loss is no number
└── ResourceError (RuntimeError)       disk full, out of memory, a budget too small
"""

from __future__ import annotations


class HourLlavaError(Exception):
    """The root of all errors raised on purpose; the command line prints its text and exits 1."""


class VideoError(HourLlavaError, ValueError):
    """A video cannot be read; the message names the file, the reason and the remedy."""


class VideoNotFoundError(VideoError):
    """The path is not a readable file: missing, a folder, a URL, or without permission."""


class NoVideoStreamError(VideoError):
    """The file opens but holds no video: audio only, a text file, or nothing but cover art."""


class BrokenVideoError(VideoError):
    """The file claims to be a video, but no frame of it can be decoded."""


class DecoderHungError(VideoError):
    """The decoder gave neither a frame nor a progress mark within the watchdog's seconds."""


class MemoryFileError(HourLlavaError, ValueError):
    """A memory file is corrupt, truncated, foreign, or of a newer format version."""


class CheckpointError(HourLlavaError, ValueError):
    """A checkpoint does not fit: missing or extra keys, wrong shapes, or another model."""


class ModelNotFoundError(CheckpointError):
    """No built-in model, local folder or reachable hub id has this name."""


class QuestionError(HourLlavaError, ValueError):
    """A question is empty or longer than the model can read."""


class TokenCountError(HourLlavaError, ValueError):
    """The prompt's visual placeholders and the kept tokens differ; both numbers are named."""


class ResourceError(HourLlavaError, RuntimeError):
    """The machine has too little disk or memory; the message names the needed and the free size."""


class DataError(HourLlavaError, ValueError):
    """Training data cannot be used: a manifest, a sample, or a file of features."""


class ConfigError(HourLlavaError, ValueError):
    """Settings of a training run do not fit each other, this machine, or the run they resume."""


class RecordError(HourLlavaError, ValueError):
    """A line of a dataset build is no record of ours, or of a newer version."""


class BuildError(HourLlavaError, ValueError):
    """A build folder, its settings or its release cannot be used as asked."""


class EndpointError(HourLlavaError, RuntimeError):
    """A model endpoint cannot serve: wrong key, unknown model, no images, not reachable."""


class BudgetError(HourLlavaError, RuntimeError):
    """What may be spent is spent; the message names the limit and the sum."""


class TrainingError(HourLlavaError, RuntimeError):
    """A training run cannot go on; the message names the step and the samples."""
