import json

import pytest

from compass.errors import InputError
from compass.fleet.fleet_file import FleetFile, KindRules
from compass.fleet.head import Head
from compass.fleet.slurm import (
    Partition,
    answer_of,
    chosen_partitions,
    describe_slurm,
    job_parameters,
    kind_of,
    merge_ledger,
    partitions_of,
    read_sinfo,
)
from compass.fleet.slurm_job import JobAnswer, PlanOnNode
from compass.probe.store import Store, read_ledger
from compass.records import Outcome, Status
from compass.version import __version__

TOLD = """\
gpu-a100|up|64|gpu:a100:4|3
gpu-a100|up|32+|gpu:a100:4|1
cpu|up|16|(null)|10
old|down|8|(null)|2
"""


def test_the_partitions_that_are_up():
    assert read_sinfo(TOLD) == {
        "gpu-a100": Partition("gpu-a100", 32, 4, "gpu:a100:4"),
        "cpu": Partition("cpu", 16, 10),
    }


def test_a_partition_that_is_not_there():
    with pytest.raises(InputError) as caught:
        chosen_partitions(["cpu", "old"], read_sinfo(TOLD))
    assert str(caught.value) == (
        "--slurm: got the partition 'old'; expected partitions that are up: gpu-a100, cpu. "
        "Name one or more of them, with commas."
    )


def test_no_slurm_here(monkeypatch):
    monkeypatch.setattr("compass.fleet.slurm.shutil.which", lambda _: None)
    with pytest.raises(InputError) as caught:
        partitions_of(["cpu"])
    assert str(caught.value) == (
        "--slurm: got no command sinfo; expected a machine from which jobs are submitted. "
        "Run this on the cluster's login node."
    )


def test_a_job_has_a_whole_node():
    assert job_parameters(read_sinfo(TOLD)["gpu-a100"], "a100") == {
        "name": "compass-a100",
        "timeout_min": 120,
        "nodes": 1,
        "tasks_per_node": 1,
        "cpus_per_task": 32,
        "slurm_partition": "gpu-a100",
        "slurm_exclusive": True,
        "slurm_mem": "0",
        "slurm_gres": "gpu:1",
    }
    assert "slurm_gres" not in job_parameters(read_sinfo(TOLD)["cpu"], "cpu")


def test_a_partition_is_the_kind_that_names_it(asked):
    file = FleetFile(kinds={"big": KindRules(partition="gpu-a100", price_per_hour=3.0), "cpu": KindRules()})
    there = read_sinfo(TOLD)
    assert kind_of(there["gpu-a100"], file) == ("big", file.kinds["big"])
    assert kind_of(there["cpu"], file)[0] == "cpu"
    record = describe_slurm(asked(file), list(there.values()))
    assert [(kind.name, kind.device, kind.nodes) for kind in record.kinds] == [
        ("big", "gpu:a100:4", ("4 of partition gpu-a100",)),
        ("cpu", "16 cores", ("10 of partition cpu",)),
    ]


def order(head: Head, **changes) -> str:
    wanted = {**head.wanted(), **changes.pop("wanted", {})}
    fields = {"compass_version": __version__, "opening": head.opening(None).model_dump(mode="json"), "wanted": wanted}
    return json.dumps({**fields, "dataset_size": 100, "stages": ["smoke_test"], "folder": "none", **changes})


def test_a_job_with_another_compass_refuses(engine_of, head_of):
    told = JobAnswer.model_validate_json(PlanOnNode()(order(head_of(engine_of()), compass_version="0.0.1")))
    assert told.failure == (
        f"node {told.node}: got Compass {__version__}; expected 0.0.1, as on the machine that submits. "
        "Install the same version on every node."
    )
    assert told.versions["compass"] == __version__


def test_a_job_without_the_dataset_refuses(engine_of, head_of):
    text = order(head_of(engine_of()), wanted={"paths": [["dataset", "/no/data"]]})
    told = JobAnswer.model_validate_json(PlanOnNode()(text))
    assert told.failure == (
        f"node {told.node}: got no dataset /no/data; expected workload and dataset as on the machine that submits. "
        "Put them on shared storage."
    )


def test_a_bug_in_a_job_is_an_answer(engine_of, head_of, monkeypatch, capsys):
    def breaks(_):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("compass.fleet.slurm_job.optimize", breaks)
    told = JobAnswer.model_validate_json(PlanOnNode()(order(head_of(engine_of()))))
    assert told.failure == "ZeroDivisionError: division by zero"
    assert "Traceback" in capsys.readouterr().err


def test_a_job_that_ends_without_a_word_is_a_failure():
    class Killed:
        job_id, state = "17", "TIMEOUT"

        def result(self):
            raise RuntimeError("Job 17 has not produced any output\nand more")

    assert answer_of(Killed()).failure == (
        "job 17 ended without an answer (timeout): Job 17 has not produced any output"
    )


def test_only_what_is_new_is_merged(tmp_path, engine_of, head_of):
    from compass.fleet.pulse import pulse_spec
    from compass.fleet.survey import survey_nodes

    head = head_of(engine_of(A100=1))
    spec = pulse_spec(head.request, survey_nodes(head, allow_skew=False)[0])
    specs = [spec.model_copy(update={"min_steps": n}) for n in (1, 2, 3)]
    outcome = Outcome(status=Status.OK)
    job, ours = Store(tmp_path / "job.jsonl"), Store(tmp_path / "ours.jsonl")
    for one in specs:
        job.add("f", one, outcome)
    job.add("f", specs[0], outcome.model_copy(update={"wall_s": 2.0}))  # once more
    ours.add("f", specs[1], outcome)
    assert merge_ledger(tmp_path / "job.jsonl", ours) == 2
    assert merge_ledger(tmp_path / "job.jsonl", ours) == 0
    assert merge_ledger(tmp_path / "none.jsonl", ours) == 0
    assert {(s.min_steps, o.wall_s) for _, s, o in read_ledger(tmp_path / "ours.jsonl").entries} == {
        (1, 2.0),
        (2, 0.0),
        (3, 0.0),
    }
    job.close()
    ours.close()
