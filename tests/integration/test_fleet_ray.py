"""A real Ray cluster on this machine: nodes that die, agents that end, kinds that are absent, and no process left behind."""

import socket
import subprocess
import sys
import threading
import time
from contextlib import closing

import psutil
import pytest

from compass.errors import InputError
from compass.fleet.connections import Connections
from compass.fleet.fleet_file import FleetFile
from compass.fleet.head import Head
from compass.fleet.kinds import group_places
from compass.fleet.optimize import FleetRequest, optimize_fleet
from compass.fleet.pulse import pulse_spec
from compass.fleet.remote_runner import RemoteRunner, Substitutes
from compass.fleet.simulated import SimulatedAgent
from compass.fleet.survey import survey_nodes
from compass.optimizer_config import OptimizerConfig, RuntimeRules
from compass.planning.request import Request
from compass.probe.simulation import SimulatedRunner, machine_named
from compass.profile import read_profile

pytest.importorskip("ray", reason="the extra `fleet` is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

WAIT_S = 60.0


@pytest.fixture(scope="module")
def cluster():
    """A head without work and three simulated nodes of two kinds."""
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False},
    )
    for name, machine in (("a100-0", "A100"), ("a100-1", "A100"), ("t4-0", "Tesla")):
        made.add_node(num_cpus=1, labels={"name": name, "machine": machine, "hold_s": "0.05"})
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def engine(cluster):
    from compass.fleet.ray_engine import connect_to_ray

    with closing(connect_to_ray(cluster.address, WAIT_S, SimulatedAgent)) as made:
        yield made


def kill_node(cluster, name):
    """End a node at once, as if its power had failed."""
    (node,) = [
        one for one in cluster.worker_nodes if f'"name": "{name}"' in str(one._ray_params.labels).replace("'", '"')
    ]
    cluster.remove_node(node, allow_graceful=False)


def add_node(cluster, name, machine):
    cluster.add_node(num_cpus=1, labels={"name": name, "machine": machine, "hold_s": "0.05"})


def head_of(engine, tmp_path, **request):
    return Head(Connections(engine), Request(cache=tmp_path / "cache", dataset_size=19_000, **request))


def kinds_of(head):
    return {kind.name: kind for kind in group_places(survey_nodes(head, allow_skew=False), FleetFile())}


def test_probes_run_on_their_kind_and_survive_the_end_of_an_agent(cluster, engine, tmp_path):
    head = head_of(engine, tmp_path)
    with closing(head.connections):
        kinds = kinds_of(head)
        assert {name: [place.name for place in kind.places] for name, kind in kinds.items()} == {
            "a100-40gb": ["a100-0", "a100-1"],
            "tesla-t4-16gb": ["t4-0"],
        }
        kind = kinds["a100-40gb"]
        spec = pulse_spec(head.request, kind.places[0])
        runner = RemoteRunner(head, Substitutes(kind, head, WAIT_S, engine.nodes()), spec.runtime)
        alone = SimulatedRunner(machine_named("A100"))
        assert runner.describe() == alone.describe()
        assert runner.probe(spec) == (first := alone.probe(spec))

        (link,) = [link for node_id, link in head.connections._links.items() if node_id == kind.places[0].node.id]
        link.close()  # the agent alone ends
        assert runner.probe(spec) == first
        assert [(node.name, why) for node, why in head.connections.losses] == [("a100-0", "the agent ended")]


def test_a_probe_whose_node_dies_meanwhile_is_made_again_on_its_kind(cluster, engine, tmp_path):
    for name in ("h100-0", "h100-1"):
        cluster.add_node(num_cpus=1, labels={"name": name, "machine": "H100", "hold_s": "4"})
    head = head_of(engine, tmp_path)
    with closing(head.connections):
        kind = kinds_of(head)["h100-80gb"]
        spec = pulse_spec(head.request, kind.places[0])
        runner = RemoteRunner(head, Substitutes(kind, head, WAIT_S, engine.nodes()), spec.runtime)
        killer = threading.Timer(1.0, kill_node, (cluster, "h100-0"))
        killer.start()
        assert runner.probe(spec) == SimulatedRunner(machine_named("H100")).probe(spec)
        killer.join()
        assert [node.name for node, _ in head.connections.losses] == ["h100-0"]
    kill_node(cluster, "h100-1")


def test_a_node_that_comes_takes_over(cluster, engine, tmp_path):
    head = head_of(engine, tmp_path)
    with closing(head.connections):
        kind = kinds_of(head)["tesla-t4-16gb"]
        spec = pulse_spec(head.request, kind.places[0])
        runner = RemoteRunner(head, Substitutes(kind, head, WAIT_S, engine.nodes()), spec.runtime)
        first = runner.probe(spec)
        kill_node(cluster, "t4-0")
        add_node(cluster, "t4-1", "Tesla")
        assert runner.probe(spec) == first
        assert head.connections.losses[-1][0].name == "t4-0"


def test_a_fleet_is_planned_as_each_machine_alone(cluster, engine, tmp_path):
    request = Request(cache=tmp_path / "cache", dataset_size=19_000, stages=("smoke_test",))
    asked = FleetRequest(request, FleetFile(wait_s=WAIT_S), folder=tmp_path / "fleet")
    record = optimize_fleet(asked, engine, engine_name="ray")
    assert [kind.failure for kind in record.kinds] == ["", ""]
    names = [read_profile(tmp_path / "fleet" / kind.profile).hardware.name for kind in record.kinds]
    assert names == ["A100 40GB", "Tesla T4 16GB"]  # others may have died before


def test_an_absent_kind_ends_in_time(engine, tmp_path):
    asked = FleetRequest(Request(cache=tmp_path), FleetFile(wait_s=1.0), kinds=("b200",), folder=tmp_path / "fleet")
    since_s = time.monotonic()
    with pytest.raises(InputError, match=r"^kind b200: got no node of it within 1 s; there are a100-40gb \(A100 40GB"):
        optimize_fleet(asked, engine, engine_name="ray")
    assert time.monotonic() - since_s < WAIT_S


def test_nobody_at_the_address():
    from compass.fleet.ray_engine import connect_to_ray

    with pytest.raises(
        InputError, match=r"^--address 127\.0\.0\.1:1: got .*; expected the address of a running Ray cluster\."
    ):
        connect_to_ray("127.0.0.1:1", 2.0)
    with pytest.raises(
        InputError, match=r"^--address: got 'nonsense'; expected local, auto, ray://HOST:PORT or HOST:PORT\."
    ):
        connect_to_ray("nonsense", 2.0)


def workers_of_agents():
    """The worker processes whose parent is an actor."""
    found = [one for one in psutil.process_iter(["cmdline"]) if "compass.probe.worker" in (one.info["cmdline"] or ())]
    return [one for one in found if (parent := one.parent()) and parent.cmdline()[0].startswith("ray::")]


def test_a_probe_has_a_process_of_its_own_which_ends_with_its_agent(cluster, tmp_path):
    """Real steps on this machine's CPU, through Ray; the workload comes through the runtime environment."""
    from compass.fleet.delivery import delivering
    from compass.fleet.ray_engine import connect_to_ray

    cluster.add_node(num_cpus=1, labels={"name": "real"})
    config = OptimizerConfig(runtime=RuntimeRules(threads=1))
    source = tmp_path / "mine.py"
    source.write_text("from compass.workloads.schnet import SchNetWorkload\nMine = SchNetWorkload\n")
    request = Request(config=config, workload=f"{source}:Mine", cache=tmp_path / "cache", device="cpu")
    with closing(connect_to_ray(cluster.address, WAIT_S)) as engine, closing(Connections(engine)) as connections:
        (node,) = [one for one in engine.nodes() if one.name == "real"]
        with delivering(request, FleetFile(workload="runtime_env"), engine) as delivered:
            assert list(delivered.values()) == ["delivered://workload/mine.py"]
            head = Head(connections, request, delivered)
            found = head.look_at(node)
            assert found["missing"] == []
            (place,) = head.places_of(node, found)
            spec = pulse_spec(request, place)
            outcome = head.probe(node, None if place.device is None else place.device, spec.runtime, spec)
            assert outcome.ok, outcome.detail
            (worker,) = workers_of_agents()
    _, alive = psutil.wait_procs([worker], timeout=30)
    assert alive == []


ELSEWHERE = """\
from ray.cluster_utils import Cluster
from compass.fleet.connections import Connections
from compass.fleet.head import Head
from compass.fleet.ray_engine import connect_to_ray
from compass.fleet.simulated import SimulatedAgent
from compass.fleet.survey import survey_nodes
from compass.planning.request import Request

labels = {"name": "a100-0", "machine": "A100"}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "ray_client_server_port": PORT, "labels": labels})
engine = connect_to_ray("ray://127.0.0.1:PORT", 60, SimulatedAgent)
head = Head(Connections(engine), Request())
print("found", *(place.name for place in survey_nodes(head, allow_skew=False)))
head.connections.close()
engine.close()
cluster.shutdown()
"""


def test_a_cluster_elsewhere_through_rays_client():
    """In a process of its own, whose cluster no other job has joined."""
    pytest.importorskip("grpc", reason="the extra `fleet` is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = ELSEWHERE.replace("PORT", str(port))
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert "found a100-0\n" in done.stdout, done.stderr


def test_why_an_agent_was_lost():
    """Ray's memory monitor is named; a killed process, for which Ray suspects the kernel's, is not."""
    from ray import exceptions

    from compass.fleet.ray_engine import why_lost

    class Died(exceptions.ActorDiedError):
        """As Ray makes it of a death in its control store, with these words."""

        def __init__(self, words):
            self.words = words

        def __str__(self):
            return self.words

    monitor = "Ray's memory monitor ended the agent, because the node's memory was nearly full"
    low = "The actor's worker was killed: Worker exit type: NODE_OUT_OF_MEMORY, the node running low on memory"
    killed = "Worker exit type: SYSTEM_ERROR. Some common causes include: (1) the process was killed by the OOM killer"
    assert why_lost(exceptions.OutOfMemoryError("Task was killed")) == monitor
    assert why_lost(Died(low)) == monitor
    assert why_lost(Died(killed)) == "the agent ended"
    assert why_lost(Died("The actor died because its node has died.")) == "the node died"
    assert why_lost(exceptions.ActorUnavailableError("unavailable", None)) == "the agent cannot be reached"
