"""Jobs of a fleet: as processes of this machine through submitit, and for real through Slurm's daemons, started here."""

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from compass.config_files import load_config
from compass.fleet.fleet_file import FleetFile, KindRules
from compass.fleet.optimize import FleetRequest
from compass.fleet.record import read_fleet
from compass.fleet.slurm import Partition, optimize_on_slurm, partitions_of
from compass.planning.request import Request
from compass.probe.store import LEDGER, read_ledger
from compass.units import GIB

pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]

SHORT = [
    *(f"stages.{stage}.allocator=['fast']" for stage in ("smoke_test", "prototyping", "validation", "production")),
    *(f"stages.{stage}.checkpointing=[false]" for stage in ("prototyping", "validation", "production")),
    *(f"stages.{stage}.fused=[false]" for stage in ("smoke_test", "prototyping", "validation", "production")),
    "runtime.threads=1", "runtime.waiting=sleep", "space.layers=[2,3]", "space.channels=[16,48]",
    "probe.anchor_architectures_cpu=[[2,16],[3,48]]", "probe.anchor_step_s_cpu=[0.1]", "probe.smoke_steps=4", "probe.certify_again=0",
]  # fmt: skip
"""A small space, and as few probes as a calibration can have."""
DAEMONS = ("munged", "slurmctld", "slurmd", "sinfo", "sbatch", "scancel")
CONF = """\
ClusterName=compass
SlurmctldHost={host}
SlurmctldPort={controller}
SlurmdPort={daemon}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
MpiDefault=none
NodeName={host} CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=small Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=large Nodes={host} MaxTime=INFINITE State=UP
"""


def asked(folder, **changes) -> FleetRequest:
    """The quick stage of a small model."""
    request = Request(
        config=load_config(None, SHORT),
        workload="schnet",
        device="cpu",
        memory_limit_bytes=int(1.5 * GIB),
        dataset_size=1000,
        stages=("smoke_test",),
        cache=folder / "cache",
    )
    return FleetRequest(request, folder=folder / "fleet", **changes)


def test_jobs_as_processes_of_this_machine(tmp_path):
    file = FleetFile(kinds={"mine": KindRules(partition="small", price_per_hour=0.5)})
    request = asked(tmp_path, file=file)
    record = optimize_on_slurm(request, [Partition("small", 1, 1)], cluster="local")
    (kind,) = record.kinds
    assert (kind.name, kind.failure, kind.profile, kind.price_per_hour) == ("mine", "", "mine.json", 0.5)
    _, profiles = read_fleet(request.folder)
    assert "smoke_test" in profiles["mine"].plans
    ours = read_ledger(request.request.cache / LEDGER).entries
    of_job = read_ledger(request.folder / "jobs" / "mine" / "cache" / LEDGER).entries
    assert len(ours) == len({(f, spec.key) for f, spec, _ in of_job}) > 10  # the head took them over, each once

    again = optimize_on_slurm(request, [Partition("small", 1, 1)], cluster="local")
    assert again.kinds[0].failure == ""
    costs = read_fleet(request.folder)[1]["mine"].probe_costs
    assert (costs.calibrate_probes, costs.certify_probes) == (0, 0)


@pytest.fixture
def slurm(monkeypatch):
    """Slurm's daemons in a folder of their own; they end with the test."""
    missing = [name for name in DAEMONS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} (Debian: apt install slurmctld slurmd munge slurm-client)")
    if os.geteuid() != 0:
        pytest.skip(f"Slurm's daemons are started as root, not as {getpass.getuser()}")
    folder = Path("/tmp") / f"compass-slurm-{secrets.token_hex(4)}"  # noqa: S108 - sockets need a short path
    folder.mkdir(mode=0o755)
    daemons = []
    try:
        daemons = started(folder)
        monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        wait_until_idle(folder)
        yield folder
    finally:
        for process in reversed(daemons):
            for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
                child.kill()
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def started(folder):
    """munged, slurmctld and slurmd, in the foreground, with their files in `folder`."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    conf = CONF.format(
        host=host,
        folder=folder,
        controller=free_port(),
        daemon=free_port(),
        cpus=os.cpu_count(),
        memory=psutil.virtual_memory().total // 2**20 - 512,
    )
    (folder / "slurm.conf").write_text(conf)
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    commands = [
        [
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed", "--num-threads=2",
        ],
        ["slurmctld", "-D", "-f", str(folder / "slurm.conf")],
        ["slurmd", "-D", "-f", str(folder / "slurm.conf")],
    ]  # fmt: skip
    daemons = []
    for command in commands:
        log = (folder / f"{command[0]}.out").open("w")
        daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        log.close()
        time.sleep(1.0)
    return daemons


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_until_idle(folder):
    """Wait until the node may take a job; skip where Slurm does not run."""
    deadline = time.monotonic() + 60
    told = ""
    while time.monotonic() < deadline:
        done = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False)
        told = (done.stdout + done.stderr).strip()
        if "idle" in told:
            return
        time.sleep(1.0)
    logs = "; ".join(path.read_text()[-200:] for path in sorted(folder.glob("*.log")))
    pytest.skip(f"Slurm does not run here: {told}; {logs}")


def test_jobs_through_slurm(slurm, tmp_path):
    """Two partitions, a job on each, one after the other, because each has the whole node."""
    partitions = partitions_of(["small", "large"])
    assert [one.name for one in partitions] == ["small", "large"]
    request = asked(tmp_path)
    record = optimize_on_slurm(request, partitions)
    assert [(kind.name, kind.failure) for kind in record.kinds] == [("small", ""), ("large", "")]
    _, profiles = read_fleet(request.folder)
    assert set(profiles) == {"small", "large"}
    assert {kind.nodes for kind in record.kinds} == {(socket.gethostname(),)}
    left = subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True).stdout
    assert left == ""
