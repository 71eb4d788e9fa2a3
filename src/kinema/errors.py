"""Errors of the outside world: files, configs, checkpoints. The command line prints them as one line."""

from __future__ import annotations


class KinemaError(Exception):
    """One clear line that names the file or key, and the mend. Ends a command with exit code 2."""


class ConfigError(KinemaError):
    """A config file or `--set` that does not fit; names the key and the nearest valid one."""


class DecodeError(KinemaError):
    """A source that cannot be read as video or image."""


class DatasetError(KinemaError):
    """A dataset folder that is missing, empty or inconsistent."""


class CheckpointError(KinemaError):
    """A model folder or checkpoint that is missing, damaged, or of another shape."""


class OutputError(KinemaError):
    """An output folder that cannot be written, or a full disk."""


class TrainingError(KinemaError):
    """A run that cannot go on, such as a loss that is not a number; names the clips."""


class PeerError(KinemaError):
    """Another process of a run could not go on, and has said why itself."""


class Interrupted(KinemaError):  # noqa: N818 - a wish granted, not a fault
    """A run that was asked to stop, saved its state and can be resumed; says how."""


class CaptionError(KinemaError):
    """A captioner that gave no caption for one clip."""
