"""What a caller may do. Pure: no HTTP, no files."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Role(IntEnum):
    """Each role may do all that the ones before it may."""

    READER = 1
    """Search, recommend, look at contents and previews."""
    WRITER = 2
    """Also add, change and delete contents."""
    ADMIN = 3
    """Where its key is bound to a user, still the contents of others."""

    @property
    def word(self) -> str:
        """As it is written in keys and messages."""
        return self.name.lower()

    @classmethod
    def named(cls, word: str) -> Role:
        """Raises ValueError that names the roles there are."""
        for role in cls:
            if role.word == word:
                return role
        raise ValueError(f"{word!r} is no role: reader, writer or admin")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the name of the API key, what it may do, and the user it is bound to, if any."""

    name: str
    role: Role
    user: str | None = None

    @property
    def only_user(self) -> str | None:
        """The one user whose contents this caller may change; None when it may change everybody's."""
        return self.user if self.role < Role.ADMIN else None


OWNER = Caller("owner", Role.ADMIN)
"""Everybody, while access is open: the owner of the machine."""
