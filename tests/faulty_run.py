"""`python -m tests.faulty_run FAULT FOLDER`: a short real run whose workers start with a fault of `tests.faults`."""

import os
import sys

import ray

from launch.cluster import use_private_token
from launch.config import compose
from launch.train import train


def main(fault: str, folder: str) -> None:
    use_private_token()
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": root}, "worker_process_setup_hook": f"tests.faults.{fault}"},
    )
    train(
        compose(
            [
                f"output.folder={folder}",
                "output.display=lines",
                "steps=2",
                "evaluation.samples_per_prompt=1",
                "data.evaluation.heldout.rows=8",
                "data.evaluation.out_of_domain.rows=8",
                "rollout.engines=1",
                "learner.ranks=1",
                "rollout.bucket_bytes=400000",
            ]
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
