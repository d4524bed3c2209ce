"""The learner of a run without its engines, in the state that the run had after one of its steps."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from launch.checkpoint_folder import Checkpoint
from launch.cluster import divide, is_joined, places, ray_session
from launch.config import RunConfig
from launch.graph import StartFailed, make_learner, wait_started
from launch.logs import ActorLogs, log_to_files
from launch.model_folder import model_folder
from launch.nodes import model_missing, name_losses, not_up, planned
from launch.placement import RANKS, cluster_nodes, rank_group
from learner.group import LearnerGroup


@contextmanager
def learner_alone(config: RunConfig, checkpoint: Checkpoint | None, logs: Path) -> Iterator[LearnerGroup]:
    """Start the ranks, and give them the state of `checkpoint`; without one they have the model's own weights.

    Threads are divided as in the run. Raises what is in `FAILURES`, and ConfigError where no cluster answers.
    """
    model, limit_s = config.model, config.cluster.start_timeout_s
    with ExitStack() as held:
        held.enter_context(ray_session(config))
        shares = divide(config, cluster_nodes(), is_joined(config), only=RANKS)
        say = partial(print, flush=True)
        place = held.enter_context(places(shares, [rank_group(config, shares.device)], limit_s, say))[RANKS]
        group = held.enter_context(closing(make_learner(config, shares, place)))
        actors = {f"learner-{rank}": actor for rank, actor in enumerate(group.actors)}
        nodes, files = planned("learner", place), ActorLogs(logs, {})
        try:
            if problem := not_up(actors, nodes, limit_s):
                raise StartFailed(problem)
            files = log_to_files(actors, logs, limit_s)
            path = model_folder(model.path)
            if problem := model_missing("model.path", actors, path, limit_s):
                raise StartFailed(problem)
            calls = group.begin_start(path, model.dtype, model.trust_remote_code)
            wait_started(dict(zip(actors, calls, strict=True)), config.learner.start_timeout_s, logs)
            if checkpoint:
                checkpoint.restore(group)
            yield group
        except Exception as error:
            name_losses(error, nodes)
            raise
        finally:
            files.collect()
