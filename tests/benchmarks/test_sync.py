import numpy as np
import pytest
import torch

from benchmarks.sync import WholeModel, figures


def test_the_goal_is_thirty_milliseconds_and_four_copies():
    found = figures(10**8, syncs=[0.2, 0.1, 0.9], copies=[0.03, 0.005, 0.01])
    assert (found["sync_s"], found["copy_s"], found["sync_over_copy"]) == (0.2, 0.01, 20.0)
    assert found["goal_s"] == pytest.approx(0.07)
    assert found["share_of_goal"] == pytest.approx(0.2 / 0.07, abs=1e-3)
    assert found["bytes_per_s"] == 5 * 10**8


def test_a_model_in_memory_is_cut_into_buckets_of_whole_parameters():
    model = WholeModel({name: torch.full((size,), 1.0) for name, size in (("a", 2), ("b", 3), ("c", 9), ("d", 1))})
    buckets = [[spec.name for spec, _ in bucket] for bucket in model.full_parameters(20)]
    assert buckets == [["a", "b"], ["c"], ["d"]]
    assert [spec.size_bytes for spec in model.specs()] == [8, 12, 36, 4]
    assert all(np.all(tensor.numpy() == 1) for bucket in model.full_parameters(20) for _, tensor in bucket)
