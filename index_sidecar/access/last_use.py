"""When API keys were last used: enough to see which can go."""

from __future__ import annotations

import json
import logging
from pathlib import Path

logger = logging.getLogger(__name__)


class LastUse:
    """When each key was last used, to the hour, so that there is hardly ever a write."""

    _GRAIN_S = 3600

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hours = self.read(path)
        self._told = False

    @classmethod
    def read(cls, path: Path) -> dict[str, float]:
        """By name, in Unix seconds; nothing where nothing is known."""
        try:
            return {str(name): float(at) for name, at in json.loads(path.read_text()).items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def note(self, name: str, now: float) -> None:
        """This key was used now, in Unix seconds."""
        hour = now // self._GRAIN_S * self._GRAIN_S
        if self._hours.get(name) == hour:
            return
        self._hours[name] = hour
        temporary = self._path.with_name(self._path.name + ".tmp")
        try:
            temporary.write_text(json.dumps(self._hours))
            temporary.replace(self._path)
        except OSError as error:
            if not self._told:
                logger.warning("when keys were last used cannot be kept: %s", error)
                self._told = True
