"""Clusters of prompts by their embeddings, and subsets of prompts by cluster or by chance. Pure.

Jin et al. (arXiv 2511.05993, section 6.3 and appendix D.3): K-means over the mean-pooled last layer of the policy,
clusters sorted by size, all prompts of the largest ones against a random subset of equal size.
"""

from collections.abc import Sequence

import numpy as np

from rollout.seeds import keyed_hash

# Rows of the matrix of cosines held at a time.
BLOCK = 1024


def clusters_by_size(embeddings: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """The cluster of each prompt, int [prompts], 0 the largest; of equal ones that with the earlier prompt first.

    K-means with k-means++ from one start, scikit-learn's own settings.

    embeddings  float [prompts, hidden], at least as many rows as `clusters`
    """
    from sklearn.cluster import KMeans

    labels = KMeans(clusters, random_state=seed, n_init=1).fit_predict(embeddings.astype(np.float64))
    found, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    rank = np.empty(clusters, int)
    rank[found[np.lexsort((first, -sizes))]] = np.arange(len(found))
    return rank[labels]


def of_largest(labels: np.ndarray, top: int) -> np.ndarray:
    """Positions of the prompts in the `top` largest clusters, ascending."""
    return np.flatnonzero(labels < top)


def by_chance(uids: Sequence[str], size: int, seed: int) -> np.ndarray:
    """Positions of `size` of the prompts, ascending, by keyed hash: for any order of `uids` the same prompts."""
    order = sorted(range(len(uids)), key=lambda position: keyed_hash("random subset", seed, uids[position]))
    return np.array(sorted(order[:size]), int)


def effective_clusters(labels: np.ndarray) -> float:
    """e to the entropy of the shares of the clusters: between 1 and their number."""
    shares = np.bincount(labels) / len(labels)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def nearest_cosine(embeddings: np.ndarray) -> float:
    """Mean over the prompts of the cosine with the nearest other prompt; nan for fewer than two."""
    if len(embeddings) < 2:
        return float("nan")
    unit = embeddings.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    nearest = []
    for start in range(0, len(unit), BLOCK):
        cosines = unit[start : start + BLOCK] @ unit.T
        cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -np.inf
        nearest.append(cosines.max(axis=1))
    return float(np.concatenate(nearest).mean())
