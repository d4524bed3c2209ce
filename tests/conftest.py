"""One private Ray for every test that needs actors."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """Ray with two CPUs, started by the first test that asks for it; a session that already runs is left running."""
    import ray  # here, so that tests without actors start in no time

    from launch.cluster import use_private_token

    if ray.is_initialized():
        yield
        return
    use_private_token()
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
