import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from launch.prompt_clusters import by_chance, clusters_by_size, effective_clusters, nearest_cosine, of_largest

CENTRES = np.array([[10.0, 0.0], [0.0, 10.0], [-10.0, 0.0], [0.0, -10.0]])
# Rows of each hand-made cluster, far apart from each other; two of equal size, that of row 1 earlier.
MEMBERS = {0: [3, 6, 9], 1: [0, 2, 4, 5, 10], 2: [8], 3: [1, 7, 11]}


def embeddings() -> np.ndarray:
    noise = np.random.default_rng(0).normal(scale=0.1, size=(12, 2))
    of_row = {row: cluster for cluster, rows in MEMBERS.items() for row in rows}
    return (CENTRES[[of_row[row] for row in range(12)]] + noise).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_clusters_are_numbered_by_size_then_by_their_earliest_prompt(seed):
    assert clusters_by_size(embeddings(), 4, seed).tolist() == [0, 1, 0, 2, 0, 0, 2, 1, 3, 2, 0, 1]


def test_the_largest_clusters_are_taken_whole():
    labels = clusters_by_size(embeddings(), 4, seed=0)
    assert of_largest(labels, 1).tolist() == MEMBERS[1]
    assert of_largest(labels, 3).tolist() == [row for row in range(12) if row != 8]
    assert of_largest(labels, 4).tolist() == list(range(12))


def test_fewer_distinct_prompts_than_clusters_leave_some_empty():
    # scikit-learn warns of it; the numbering has no gap all the same.
    with pytest.warns(Warning, match="distinct clusters"):
        labels = clusters_by_size(np.array([[0.0], [1.0], [1.0]]), 3, seed=0)
    assert labels.tolist() == [1, 0, 0]


def test_chance_takes_the_same_prompts_in_any_order_and_others_with_another_seed():
    uids = [f"train/{row}" for row in range(200)]
    chosen = by_chance(uids, 50, seed=3)
    assert len(set(chosen)) == 50
    assert chosen.tolist() == sorted(chosen)
    backwards = by_chance(uids[::-1], 50, seed=3)
    assert {uids[i] for i in chosen} == {uids[::-1][i] for i in backwards}
    other = by_chance(uids, 50, seed=4)
    # Hypergeometric: 12.5 expected in common, standard deviation 2.7.
    assert 2 < len(set(chosen) & set(other)) < 24
    assert set(by_chance(uids, 20, seed=3)) <= set(chosen)


def test_effective_clusters_of_equal_shares_is_their_number():
    assert effective_clusters(np.repeat([0, 3, 5], 4)) == pytest.approx(3.0)
    # Shares 1/2, 1/4, 1/4: e^H = 2^(3/2).
    assert effective_clusters(np.array([0, 0, 1, 2])) == pytest.approx(2**1.5)


def test_the_nearest_cosine_is_brute_force_across_blocks(monkeypatch):
    monkeypatch.setattr("launch.prompt_clusters.BLOCK", 7)
    points = np.random.default_rng(1).normal(size=(40, 5))
    cosines = cosine_similarity(points)
    np.fill_diagonal(cosines, -1)
    assert nearest_cosine(points) == pytest.approx(cosines.max(axis=1).mean())
    assert np.isnan(nearest_cosine(points[:1]))
