"""How a machine is found and divided, and how a cluster is joined or refused."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from launch.cluster import (
    cgroup_quotas,
    cores_here,
    divide,
    groups,
    no_answer,
    offer_token,
    refusal,
    sentences,
    usable_cores,
)
from launch.config import ConfigError, compose
from launch.placement import ENGINES, RANKS, REFERENCES, Node
from launch.ray_job import JOB_MARK, address_to_join, output_root

MACHINE = [Node("0", "10.0.0.1", 8, 0)]
GPU_MACHINE = [Node("0", "10.0.0.1", 8, 2)]
IN_JOB = {JOB_MARK: "{}", "RAY_ADDRESS": "10.0.0.9:6379"}


def config(*overrides: str):
    return compose(["output.folder=unused", "rollout.engines=2", "learner.ranks=3", *overrides])


@pytest.mark.parametrize(
    ("allowed", "quotas", "cores"),
    [(8, [], 8), (8, [2.0], 2), (8, [2.5, 4.0], 3), (8, [0.2], 1), (2, [16.0], 2)],
)
def test_usable_cores(allowed, quotas, cores):
    assert usable_cores(allowed, quotas) == cores


def test_cores_follow_the_affinity_of_the_process():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert cores_here() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_limits_of_all_enclosing_control_groups_count(tmp_path):
    membership = tmp_path / "membership"
    membership.write_text("0::/outer/inner\n")
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("max 100000\n")
    (tmp_path / "outer" / "cpu.max").write_text("250000 100000\n")
    assert cgroup_quotas(membership, tmp_path) == [2.5]


def test_limits_of_version_1(tmp_path):
    membership = tmp_path / "membership"
    membership.write_text("4:memory:/box\n3:cpu,cpuacct:/box\n")
    box = tmp_path / "cpu" / "box"
    box.mkdir(parents=True)
    (box / "cpu.cfs_quota_us").write_text("150000\n")
    (box / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cgroup_quotas(membership, tmp_path) == [1.5]
    assert cgroup_quotas(tmp_path / "not there", tmp_path) == []


def test_engines_and_ranks_take_turns_on_the_cores_of_one_machine():
    shares = divide(config(), MACHINE, joined=False)
    assert (shares.device, shares.engine_threads, shares.learner_threads) == ("cpu", 4, 2)
    assert divide(config("learner.threads=5"), MACHINE, joined=False).learner_threads == 5
    assert divide(config("rollout.engines=9"), MACHINE, joined=False).engine_threads == 1


def test_what_was_decided_is_said_in_two_lines():
    shares = divide(config(), MACHINE, joined=False)
    assert sentences(config(), shares, MACHINE) == [
        "Machine: 8 cores, 0 GPUs; running on cpu.",
        "2 engines x 4 threads, 3 learner ranks x 2 threads, 1 reward workers; engines and learner take turns on the "
        "cores.",
    ]
    joined = divide(config("cluster.cpus_per_rank=2"), MACHINE * 3, joined=True)
    assert sentences(config(), joined, MACHINE * 3) == [
        "Cluster of 3 nodes: 24 cores, 0 GPUs; running on cpu.",
        "2 engines x 1 threads, 3 learner ranks x 2 threads, 1 reward workers; each on CPUs of its own.",
    ]


def test_the_reference_takes_its_turn_too():
    referred = config("reference=loss", "reference.actors=2")
    assert [group.name for group in groups(referred, "cpu")] == [RANKS, ENGINES, REFERENCES]
    assert [group.name for group in groups(config(), "cpu")] == [RANKS, ENGINES]
    shares = divide(referred, MACHINE, joined=False)
    assert shares.reference_threads == 4
    decided = sentences(referred, shares, MACHINE)[1]
    assert "3 learner ranks x 2 threads, 2 reference actors x 4 threads, 1 reward workers" in decided
    assert divide(config("reference=loss", "learner.threads=5"), MACHINE, joined=False).reference_threads == 5
    assert divide(config("reference=loss", "cluster.cpus_per_rank=3"), MACHINE, joined=True).reference_threads == 3


def test_too_few_gpus_on_one_machine_are_refused_at_once():
    with pytest.raises(ConfigError) as refused:
        divide(config(), GPU_MACHINE, joined=False)
    assert str(refused.value) == (
        "the run needs 5 GPUs: 3 for learner ranks, 2 for engines; this machine has 2 on 1 node: "
        "lower learner.ranks or rollout.engines or set cluster.device=cpu."
    )
    assert divide(config("cluster.device=cpu"), GPU_MACHINE, joined=False).device == "cpu"
    assert divide(config("learner.ranks=1"), GPU_MACHINE, joined=False, only=ENGINES).device == "cuda"


def test_a_cluster_may_still_grow():
    assert divide(config(), GPU_MACHINE, joined=True).device == "cuda"


@pytest.mark.parametrize(
    ("kind", "address", "environ", "joined"),
    [
        ("auto", None, {}, None),
        ("auto", None, {"RAY_ADDRESS": "10.0.0.9:6379"}, None),  # a cluster is known, but nobody asked for it
        ("auto", None, IN_JOB, "10.0.0.9:6379"),
        ("local", None, IN_JOB, None),
        ("ray", "auto", IN_JOB, "10.0.0.9:6379"),
        ("ray", "auto", {}, "auto"),
        ("ray", "10.0.0.1:6379", IN_JOB, "10.0.0.1:6379"),
    ],
)
def test_which_cluster_is_joined(kind, address, environ, joined):
    assert address_to_join(kind, address, environ) == joined


def test_default_folders_of_a_job_are_not_in_the_copy_that_ray_deletes():
    copy = Path("/anywhere/session_1/runtime_resources/working_dir_files/_ray_pkg_1")
    assert output_root(copy, Path("/home/ann")) == "/home/ann/"
    assert output_root(Path("/home/ann/entrain"), Path("/home/ann")) == ""


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ({"RAY_AUTH_TOKEN_PATH": "/run/token"}, "token"),
        ({"RAY_AUTH_TOKEN": "secret"}, "token"),
        ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "secret"}, "disabled"),
        ({}, None),
    ],
)
def test_a_token_that_is_there_is_sent(given, mode, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    environ = dict(given)
    offer_token(environ)
    assert environ.get("RAY_AUTH_MODE") == mode
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").touch()
    environ = dict(given)
    offer_token(environ)
    assert environ["RAY_AUTH_MODE"] == (mode or "token")


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("x\nray.exceptions.AuthenticationError: RPC error: InvalidAuthToken: missing", "asks for a token.*TOKEN_PATH"),
        ("ConnectionError: Could not find any running Ray instance. Please", "belongs to no running cluster"),
        ("ray.exceptions.RpcError: Timed out while waiting for GCS to become available.", "no Ray cluster answers"),
        ("a\nRuntimeError: Version mismatch: Ray 2.1 and 2.60\n", "Version mismatch: Ray 2.1 and 2.60$"),
        ("", "without a word"),
    ],
)
def test_refusals_of_a_cluster_in_words(output, words):
    import re

    assert re.search(words, refusal(output))


@pytest.fixture
def silent_server():
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        for connection in taken:
            connection.close()


def test_an_address_where_nothing_answers_ends_within_its_limit(silent_server):
    before = time.monotonic()
    problem = no_answer(f"127.0.0.1:{silent_server}", limit_s=3.0)
    assert time.monotonic() - before < 6.0
    assert problem.startswith(f"cluster.address=127.0.0.1:{silent_server}: no Ray cluster answered there in 3 s")


def test_gloo_is_told_its_interface_only_where_it_would_choose_another():
    from learner.network import interface_to_set

    interfaces = {"lo": ["127.0.0.1"], "eth0": ["192.168.1.5"], "ib0": ["10.0.0.5"]}
    assert interface_to_set("10.0.0.5", "127.0.0.1", interfaces) == "ib0"
    assert interface_to_set("10.0.0.5", "10.0.0.5", interfaces) is None
    assert interface_to_set("10.9.9.9", "127.0.0.1", interfaces) is None


MEETING = """
import socket, sys, threading
from datetime import timedelta
address, rank, port = sys.argv[1], int(sys.argv[2]), sys.argv[3]
socket.gethostbyname = lambda name: "127.0.0.1"  # where the name of many a host points
from learner.network import use_reachable_interface
use_reachable_interface(address)
import os, torch
print(os.environ["GLOO_SOCKET_IFNAME"])
torch.distributed.init_process_group(
    "gloo", init_method=f"tcp://{address}:{port}", rank=rank, world_size=2, timeout=timedelta(seconds=40)
)
total = torch.tensor([rank + 1.0])
torch.distributed.all_reduce(total)
print(total.item())
"""


def test_ranks_meet_over_the_interface_of_their_node():
    """Two processes whose host name points to loopback join gloo over the interface of another address."""
    found = {
        name: [a.address for a in each if a.family == socket.AF_INET] for name, each in psutil.net_if_addrs().items()
    }
    outside = [(name, addresses[0]) for name, addresses in found.items() if addresses and name != "lo"]
    if not outside:
        pytest.skip("this machine has no interface but loopback")
    name, address = outside[0]
    with socket.create_server((address, 0)) as probe:
        port = str(probe.getsockname()[1])
    environ = {key: value for key, value in os.environ.items() if key != "GLOO_SOCKET_IFNAME"}
    environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", MEETING, address]
    ranks = [
        subprocess.Popen([*command, rank, port], env=environ, stdout=subprocess.PIPE, text=True) for rank in ("0", "1")
    ]
    try:
        assert [rank.communicate(timeout=60)[0].split() for rank in ranks] == [[name, "3.0"]] * 2
    finally:
        for rank in ranks:
            rank.kill()
