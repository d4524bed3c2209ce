"""A snapshot of any layout goes on in any other: bit for bit in the same one."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from launch.config import RunConfig, compose
from learner.config import ObjectiveConfig
from learner.group import LearnerGroup
from learner.snapshots import Header, StateMismatch, Wholes, joined
from learner.types import TokenBatch

STEPS = 3


@dataclass(frozen=True)
class Layout:
    ranks: int
    learner: str
    dtype: str = "float32"
    overrides: tuple[str, ...] = ()


ADAPTERS = ("learner.lora_rank=4", "learner.lora_alpha=8")
LAYOUTS = {
    "zero1": Layout(2, "zero1"),
    "zero3": Layout(2, "zero3"),
    "zero0": Layout(2, "zero0"),
    "zero2": Layout(2, "zero2"),
    "zero2_one_rank": Layout(1, "zero2"),
    "zero2_offload": Layout(2, "zero2_offload"),
    "zero3_offload": Layout(2, "zero3_offload"),
    "zero1_bfloat16": Layout(2, "zero1", "bfloat16"),
    "zero3_bfloat16": Layout(2, "zero3", "bfloat16"),
    "zero2_adapters": Layout(2, "zero2", "float32", ADAPTERS),
    "zero3_adapters": Layout(2, "zero3", "float32", ADAPTERS),
    "sgd": Layout(2, "zero1", "float32", ("learner.optimizer=sgd",)),
}


def settings(layout: Layout) -> RunConfig:
    return compose(
        [
            "output.folder=unused",
            "off_policy=updates2",
            "entropy=[adaptive_bonus,temperature]",
            f"steps={STEPS}",
            f"learner={layout.learner}",
            f"learner.ranks={layout.ranks}",
            *layout.overrides,
        ]
    )


@contextmanager
def started(layout: Layout, model: Path) -> Iterator[LearnerGroup]:
    config = settings(layout)
    objective = ObjectiveConfig(config.algorithm, config.clip, config.reference, config.correction)
    group = LearnerGroup(
        config.learner,
        objective,
        config.entropy,
        config.probe,
        config.off_policy,
        config.seed,
        config.steps,
        device="cpu",
        threads=1,
    )
    try:
        ray.get(group.begin_start(str(model), layout.dtype, False), timeout=180)
        yield group
    finally:
        group.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """The larger matrices exceed 100,000 elements, below which ZeRO-3 shards nothing."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    shape = Qwen3Config(
        vocab_size=1024,
        hidden_size=128,
        intermediate_size=801,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=0,
    )
    Qwen3ForCausalLM(shape).save_pretrained(folder)
    return folder


def make_batch(step: int) -> TokenBatch:
    """Four groups of three samples, made up."""
    rng = np.random.default_rng(step)
    prompts, responses = rng.integers(1, 6, 12), rng.integers(1, 20, 12)
    total, groups = int(responses.sum()), np.repeat(np.arange(4), 3).astype(np.int32)
    return TokenBatch(
        tokens=rng.integers(0, 1024, int((prompts + responses).sum())).astype(np.int32),
        lengths=(prompts + responses).astype(np.int32),
        prompt_lengths=prompts.astype(np.int32),
        groups=groups,
        sample_keys=np.arange(12, dtype=np.uint64),
        temperature=1.0,
        behaviour_logprobs=np.zeros(total, np.float32),
        mask=np.ones(total, bool),
        versions=np.zeros(total, np.int32),
        advantages=np.repeat(rng.normal(size=12), responses).astype(np.float32),
        old_logprobs=rng.normal(-7.0, 0.3, total).astype(np.float32),
        old_entropies=rng.uniform(0.0, 0.3, total).astype(np.float32),
        reference_logprobs=None,
    )


@dataclass
class Taken:
    """A snapshot, in this process."""

    header: Header
    random: dict[str, np.ndarray]
    buckets: list[Wholes]

    @classmethod
    def of(cls, group: LearnerGroup, bucket_bytes: int = 1_000_000) -> "Taken":
        snapshot = group.snapshot(bucket_bytes)
        return cls(snapshot.header, snapshot.random, list(snapshot.wholes()))

    @property
    def state(self) -> dict[str, np.ndarray]:
        return {f"{kind}/{name}": v for b in self.buckets for kind, arrays in b.items() for name, v in arrays.items()}


def policy(group: LearnerGroup) -> np.ndarray:
    """What the forward pass reads, not what the optimizer holds."""
    return np.concatenate(group.score_sequences([np.arange(1, 40, dtype=np.int32)]))


def exactly(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)


@dataclass
class Donor:
    """A group that trained for two steps, and then for a third; policy and state before and after that.

    native        folder of DeepSpeed's own checkpoint after two steps
    temperatures  that the controls give for the rollouts after none, two and three steps
    """

    fresh: Taken
    taken: Taken
    scores: np.ndarray
    native: Path
    metrics: dict[str, float]
    after: Taken
    scores_after: np.ndarray
    temperatures: list[float | None]


@pytest.fixture(scope="module")
def donor(model, ray_session, tmp_path_factory):
    @cache
    def trained(name: str) -> Donor:
        with started(LAYOUTS[name], model) as group:
            fresh, temperatures = Taken.of(group), [group.next_temperature()]
            group.update(make_batch(0), 0)
            group.update(make_batch(1), 1)
            # Nothing in this model draws random numbers; one with dropout would.
            ray.get([actor.__ray_call__.remote(lambda _: torch.rand(7)) for actor in group.actors], timeout=60)
            taken, scores = Taken.of(group), policy(group)
            native = tmp_path_factory.mktemp(name) / "deepspeed"
            group.snapshot_native(native)
            temperatures.append(group.next_temperature())
            metrics = group.update(make_batch(2), 2).metrics
            temperatures.append(group.next_temperature())
            return Donor(fresh, taken, scores, native, metrics, Taken.of(group), policy(group), temperatures)

    return trained


def without_times(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith(("speed/", "memory/"))}


def some(names: Iterable[str], quick: Iterable[str]) -> list:
    return [pytest.param(name, marks=[] if name in quick else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", some(LAYOUTS, ["zero1"]))
def test_in_the_same_layout_training_goes_on_bit_for_bit(name, donor, model):
    wanted = donor(name)
    moments = [] if name == "sgd" else ["exp_avg", "exp_avg_sq"]
    assert (wanted.fresh.header.steps, wanted.fresh.header.moments) == (0, [])
    assert sorted(wanted.taken.header.moments) == moments
    assert not np.array_equal(wanted.taken.random["0.cpu"], wanted.fresh.random["0.cpu"])
    assert wanted.taken.header.steps == (2 * (STEPS - 1) if moments else 0)
    assert all(values.dtype == np.float32 for values in wanted.taken.state.values())
    assert len(wanted.taken.buckets) > 1 or "adapters" in name
    with started(LAYOUTS[name], model) as group:
        group.restore(wanted.taken.header, wanted.taken.random, wanted.taken.buckets)
        exactly(Taken.of(group).state, wanted.taken.state)
        exactly(Taken.of(group).random, wanted.taken.random)
        np.testing.assert_array_equal(policy(group), wanted.scores)
        # The next rollout is drawn as the one that would have come.
        assert group.next_temperature() == wanted.temperatures[1] != 1.0
        metrics = group.update(make_batch(2), 2).metrics
        reached = Taken.of(group)
        assert group.next_temperature() == wanted.temperatures[2] != wanted.temperatures[1]
    assert wanted.temperatures[0] is None
    exactly(reached.state, wanted.after.state)
    exactly(reached.random, wanted.after.random)
    assert reached.header.controls == wanted.after.header.controls != wanted.taken.header.controls
    assert reached.header.steps == wanted.after.header.steps
    assert without_times(metrics) == without_times(wanted.metrics)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_deepspeeds_own_checkpoint_goes_on_bit_for_bit_in_its_layout(name, donor, model):
    wanted = donor(name)
    with started(LAYOUTS[name], model) as group:
        group.restore_native(wanted.native, wanted.taken.header, wanted.taken.random)
        exactly(Taken.of(group).state, wanted.taken.state)
        exactly(Taken.of(group).random, wanted.taken.random)
        np.testing.assert_array_equal(policy(group), wanted.scores)
        metrics = group.update(make_batch(2), 2).metrics
        exactly(Taken.of(group).state, wanted.after.state)
    assert without_times(metrics) == without_times(wanted.metrics)


@pytest.mark.slow
def test_deepspeeds_own_checkpoint_that_cannot_be_written_is_an_error_of_the_disk(donor, model, tmp_path):
    (tmp_path / "file").touch()
    with started(LAYOUTS["zero2_one_rank"], model) as group:
        with pytest.raises(OSError, match="rank 0: Not a directory"):
            group.snapshot_native(tmp_path / "file" / "deepspeed")
        empty = tmp_path / "empty"
        empty.mkdir()
        with pytest.raises(StateMismatch, match="a learner rank sees no state in"):
            group.restore_native(empty, Taken.of(group).header, {})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zero2_one_rank", "zero2"])
def test_state_that_waits_in_host_memory_is_saved_from_there_and_trained_on_bit_for_bit(name, donor, model):
    wanted = donor(name)
    layout = replace(LAYOUTS[name], overrides=("learner.offload_while_drawing=true",))

    def away(worker) -> int:
        return len(worker.model.engine.optimizer.offloaded_states)

    with started(layout, model) as group:
        group.take_back()  # as before the first batch
        group.give_way()
        for step in range(2):
            group.take_back()
            group.update(make_batch(step), step)
            # Before the weights are sent, and after.
            group.give_way()
            group.give_way()
            assert (
                ray.get([actor.__ray_call__.remote(away) for actor in group.actors], timeout=60) == [2] * layout.ranks
            )
        exactly(Taken.of(group).state, wanted.taken.state)
        np.testing.assert_array_equal(policy(group), wanted.scores)
        group.take_back()
        assert ray.get([actor.__ray_call__.remote(away) for actor in group.actors], timeout=60) == [0] * layout.ranks
        metrics = group.update(make_batch(2), 2).metrics
        exactly(Taken.of(group).state, wanted.after.state)
        np.testing.assert_array_equal(policy(group), wanted.scores_after)
    assert without_times(metrics) == without_times(wanted.metrics)


MOVES = (
    ("zero1", "zero3"),
    ("zero3", "zero2_one_rank"),
    ("zero3", "zero0"),
    ("zero0", "zero3_offload"),
    ("zero2_one_rank", "zero1"),
    ("zero1_bfloat16", "zero3_bfloat16"),
    ("zero3_adapters", "zero2_adapters"),
)


@pytest.mark.slow
@pytest.mark.parametrize(("source", "target"), MOVES)
def test_another_layout_begins_with_the_same_state_and_stays_close(source, target, donor, model):
    wanted = donor(source)
    with started(LAYOUTS[target], model) as group:
        group.restore(wanted.taken.header, wanted.taken.random, wanted.taken.buckets)
        exactly(Taken.of(group).state, wanted.taken.state)
        np.testing.assert_allclose(policy(group), wanted.scores, atol=1e-5)
        metrics = group.update(make_batch(2), 2).metrics
        reached = policy(group)
    coarse = "bfloat16" in source
    np.testing.assert_allclose(reached, wanted.scores_after, atol=0.02 if coarse else 3e-4)
    assert metrics["policy/grad_norm"] == pytest.approx(
        wanted.metrics["policy/grad_norm"], rel=2e-2 if coarse else 1e-4
    )


@pytest.mark.slow
def test_the_state_of_another_model_is_refused_in_words(donor, model):
    other = donor("zero1").taken
    header = replace(other.header, shapes={name: s for name, s in other.header.shapes.items() if "q_proj" not in name})
    with started(LAYOUTS["zero2_one_rank"], model) as group:
        with pytest.raises(StateMismatch, match=r"lacks 1 of the parameters that the model trains, model\..*q_proj"):
            group.restore(header, {}, [])
        narrow = {"weights": {"model.norm.weight": np.zeros(64, np.float32)}}
        with pytest.raises(
            StateMismatch, match=r"holds model\.norm\.weight \[64\], which the model has in shape \[128\]"
        ):
            group.restore(other.header, {}, [narrow])
        unknown = {"weights": {"model.bias": np.zeros(2, np.float32)}}
        with pytest.raises(StateMismatch, match=r"holds model\.bias \[2\], which the model does not train"):
            group.restore(other.header, {}, [unknown])


def test_pieces_make_up_whole_parameters_or_nothing():
    shapes = {"a": (2, 2), "b": (3,)}
    first = {"weights": {"a": (0, np.array([1.0, 2.0, 3.0], np.float32))}}
    second = {"weights": {"a": (3, np.array([4.0], np.float32)), "b": (0, np.array([5.0, 6.0, 7.0], np.float32))}}
    whole = joined([second, first], shapes)["weights"]
    np.testing.assert_array_equal(whole["a"], [[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(whole["b"], [5.0, 6.0, 7.0])
    with pytest.raises(ValueError, match="pieces of a do not make up its 4 elements"):
        joined([first], shapes)
    with pytest.raises(ValueError, match="pieces of a do not make up its 4 elements"):
        joined([first, first], shapes)
