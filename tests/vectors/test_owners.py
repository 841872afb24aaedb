"""Whose the rows are."""

from __future__ import annotations

import random

from index_sidecar.vectors.owners import Owners


def test_the_name_of_a_user_goes_with_the_last_content() -> None:
    owners, numbers = Owners(), random.Random(1)
    plain: list[str | None] = []
    for _ in range(3000):
        user = numbers.choice((None, "ann", "bob", f"user {numbers.randrange(50)}"))
        if plain and numbers.random() < 0.45:
            row = numbers.randrange(len(plain))
            owners.remove(row)
            plain[row] = plain[-1]
            plain.pop()
        elif plain and numbers.random() < 0.3:
            row = numbers.randrange(len(plain))
            owners[row] = plain[row] = user
        else:
            owners.extend([user])
            plain.append(user)
        assert owners.names() == {user for user in plain if user is not None}
    assert [owners[row] for row in range(len(plain))] == plain
    for user in owners.names():
        assert owners.count(user) == plain.count(user)
        assert owners.others(user).tolist() == [each != user for each in plain]
    while plain:
        owners.remove(0)
        plain.pop()
    assert owners.names() == set()
