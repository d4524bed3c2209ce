"""What a run that cannot go on says."""

import ray

from launch.failures import FAILURES, sentence
from launch.verdicts import NothingJudged
from reward.verifiers import VerifierImportError


def test_what_users_can_cause_is_a_failure_in_words():
    for error in (VerifierImportError("no module x"), NothingJudged("none"), ray.exceptions.GetTimeoutError("late")):
        assert isinstance(error, FAILURES)
        assert sentence(error) == f"{type(error).__name__}: {error}"


def test_a_full_object_store_is_a_failure_in_words_wherever_it_is_noticed():
    here = ray.exceptions.ObjectStoreFullError("cannot put 9 bytes")
    there = ray.exceptions.RayTaskError("send_weights", "Traceback ...", MemoryError("lower rollout.bucket_bytes"))
    assert isinstance(here, FAILURES)
    assert isinstance(there, FAILURES)
    assert "cannot put 9 bytes" in sentence(here)
    assert sentence(there) == "MemoryError: lower rollout.bucket_bytes"


def test_a_mistake_of_ours_is_none():
    assert not isinstance(KeyError("x"), FAILURES)


def test_an_actors_error_comes_without_its_remote_traceback():
    remote = ray.exceptions.RayTaskError("f", "Traceback (most recent call last): ...", ValueError("the cause"))
    assert sentence(remote) == "ValueError: the cause"
