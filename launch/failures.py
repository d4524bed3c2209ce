"""Failures of a run that are no one's programming mistake, in one sentence each."""

import ray

from launch.batch import NothingToTrain
from launch.canary import CanaryMismatch
from launch.graph import StartFailed
from launch.placement import ClusterTooSmall
from launch.run_folder import RunFolderError
from launch.verdicts import NothingJudged
from learner.advantages import RewardsNotBinary
from learner.group import LearnerFailed
from learner.reference import ReferenceFailed
from learner.staleness import TooStale
from reward.policy import TooManyFailures
from reward.verifiers import VerifierImportError
from rollout.failures import EngineFailed, NoProgress, NoSignal, PromptsExhausted, RolloutFailed

# What an actor raised arrives as RayTaskError, what happened to an actor or an object as another RayError.
FAILURES = (
    CanaryMismatch,
    ClusterTooSmall,
    EngineFailed,
    FloatingPointError,
    LearnerFailed,
    NoProgress,
    NoSignal,
    NothingJudged,
    NothingToTrain,
    PromptsExhausted,
    ReferenceFailed,
    RewardsNotBinary,
    RolloutFailed,
    RunFolderError,
    StartFailed,
    TooStale,
    TooManyFailures,
    VerifierImportError,
    ConnectionError,
    TimeoutError,
    ray.exceptions.RayError,
)


def sentence(error: BaseException) -> str:
    """What happened and the notes added to it, without the traceback of the process it happened in."""
    cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
    return "; ".join([f"{type(cause).__name__}: {cause}", *getattr(error, "__notes__", [])])
