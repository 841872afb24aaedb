"""Why weights cannot be had."""

from __future__ import annotations


class WeightsError(Exception):
    """The weights cannot be had; the message says why and what to do."""


class Unreachable(WeightsError):
    """The server of the checkpoint cannot be reached (as opposed to: what it sent is wrong, or cannot be kept here)."""
