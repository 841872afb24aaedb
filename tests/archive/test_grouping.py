"""The mathematics of recommendations."""

from __future__ import annotations

import numpy as np
import pytest

from index_sidecar.archive.grouping import NEAR_IDENTICAL, choose, new_to, seeds_of, seeds_of_all
from index_sidecar.archive.relevance import Calibration, calibrate

from ..support.contents import content_of
from ..support.themes import bytes_of, planted


def test_a_cluster_weighs_its_size_and_its_recency() -> None:
    one, other = [planted(f"a{i}", 0, i) for i in range(6)], [planted(f"b{i}", 1, i) for i in range(6)]
    newest_first = [*one, *other]
    seeds, outliers = seeds_of(newest_first)
    assert [seed.content in one for seed in seeds] == [True, False]
    assert 1.5 < seeds[0].weight / seeds[1].weight < 2.5
    assert outliers == []


def test_a_medoid_is_a_member_of_its_cluster_nearest_to_all_of_it() -> None:
    history = [planted(f"a{i}", i % 2, i) for i in range(20)]
    seeds, _ = seeds_of(history)
    vectors = {each.id: each.embedding.vector for each in history}
    for seed in seeds:
        members = [each.id for each in history if int(each.id[1:]) % 2 == int(seed.content.id[1:]) % 2]
        sums = {each: sum(float(vectors[each] @ vectors[other]) for other in members) for each in members}
        assert seed.content.id == max(sums, key=lambda each: sums[each])


def test_diversity_trades_relevance_for_novelty() -> None:
    near = [content_of(f"near {i}", bytes_of(0, i)) for i in range(20)]
    seeds = seeds_of_all([[planted("own", 0, 1000)]], 0)
    calibration = calibrate({"text": [planted(str(i), i % 7, i) for i in range(70)], "image": []})

    def spread(diversity: float) -> float:
        chosen = {each.hit.id for each in choose(near, seeds, 5, diversity, calibration)}
        vectors = np.stack([each.embedding.vector for each in near if each.id in chosen])
        return float((vectors @ vectors.T).mean())

    straight = choose(near, seeds, 5, 0.0, Calibration())
    best = sorted(float(each.embedding.vector @ seeds[0].content.embedding.vector) for each in near)[:-6:-1]
    assert [each.hit.score for each in straight] == pytest.approx(best)
    assert spread(1.0) < spread(0.0)


def test_nothing_nearly_identical_is_new() -> None:
    own = planted("own", 0, 1)
    copy, other = planted("copy", 0, 1, user="eve"), planted("other", 0, 2, user="eve")
    assert float(own.embedding.vector @ other.embedding.vector) < NEAR_IDENTICAL
    assert new_to([own], [copy, other]) == [other]
    assert new_to([own], []) == []


def test_nothing_comes_of_nothing() -> None:
    assert seeds_of([]) == ([], [])
    assert choose([], seeds_of_all([[planted("own", 0, 1)]], 0), 5, 0.3, Calibration()) == []
