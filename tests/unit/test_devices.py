"""A plan for several devices, as training, verification, exports and reports follow it."""

import json

import pytest

from compass.errors import InputError
from compass.integrations.formats import exported
from compass.integrations.lightning import FollowPlan
from compass.integrations.settings import settings_of, trainer_settings
from compass.optimizer_config import OptimizerConfig
from compass.profile import write_profile
from compass.records import Affine, DevicesRow, RankCosts, RankShare, RanksPlan, RuntimeSettings
from compass.reporting.answers import next_commands
from compass.reporting.brief import brief_answers
from compass.reporting.devices import devices_table, devices_words
from compass.training.build_run import law_of_rank
from compass.training.prepare import TrainRequest, n_local, runtime_of, shares_of_ranks
from compass.training.schedule import learning_rate
from compass.verifying import certificate_again, check_ranks

GIB = 1024**3
COSTS = RankCosts(n_ranks=2, host_bytes=30 << 20, slowdown=1.1, sync_s=0.01, capacity=1_000_000)


def row(n_devices, **changes):
    fields = {
        "n_devices": n_devices,
        "batch_size": 32,
        "global_batch": 32 * n_devices,
        "accumulate": 1,
        "step_s": 2.0,
        "throughput": 15.0 * n_devices,
        "epoch_s": 19_000 / 15.0 / n_devices,
        "efficiency": 0.9,
        "imbalance": 0.02,
    }
    return DevicesRow(**{**fields, **changes})


def ranks_plan(**changes):
    fields = {
        "n_devices": 2,
        "global_batch": 64,
        "efficiency": 0.9,
        "imbalance": 0.02,
        "costs": COSTS,
        "devices": (row(1, imbalance=None), row(2, is_measured=True), row(4)),
    }
    return RanksPlan(**{**fields, **changes})


@pytest.fixture
def several(profile, tmp_path):
    plan = profile.plans["prototyping"].model_copy(
        update={"ranks": ranks_plan(), "runtime": RuntimeSettings(threads=4)}
    )
    found = profile.model_copy(
        update={"plans": {"prototyping": plan}, "asked": profile.asked.model_copy(update={"devices": 2})}
    )
    write_profile(found, tmp_path / "p.json")
    return found


@pytest.fixture(autouse=True)
def no_torchrun(monkeypatch):
    for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def request_of(profile, **changes):
    return TrainRequest(
        profile=profile, stage="prototyping", config=OptimizerConfig(), folder=profile.path.parent / "run", **changes
    )


def test_throughput_is_that_of_all_ranks(several):
    plan = several.plans["prototyping"]
    assert plan.n_ranks == 2
    assert plan.throughput == pytest.approx(2 * plan.measured.throughput / 1.02)


def test_training_follows_the_plans_devices(several):
    plan = several.plans["prototyping"]
    assert n_local(plan, request_of(several)) == 2
    assert n_local(plan, request_of(several, n_devices=4)) == 4
    assert runtime_of(plan, request_of(several)).threads == 4  # the plan's are those of a rank
    on_host = several.hardware.model_copy(update={"kind": "cpu", "index": 0})
    shared = several.model_copy(update={"hardware": on_host})
    write_profile(shared, several.path)
    assert runtime_of(plan, request_of(shared, n_devices=4)).threads == 2


def test_a_plan_for_several_devices_has_the_law_of_a_rank(several):
    plan = several.plans["prototyping"]
    assert law_of_rank(plan, 2) == plan.bytes_law
    alone = plan.model_copy(update={"ranks": None})
    assert law_of_rank(alone, 1) == plan.bytes_law
    [[_, piece]] = law_of_rank(alone, 2).segments
    assert piece == Affine(base=1e6 + 4 * plan.choice.capacity, per_unit=(("nodes", 2e3),))


def test_shares_of_ranks(several):
    plan = several.plans["prototyping"]
    assert shares_of_ranks(plan, request_of(several), 2) == ()
    ceiling = plan.certificate.ceiling_bytes
    found = shares_of_ranks(plan, request_of(several, rank_speeds=(2.0, 1.0)), 2)
    assert found == (RankShare(budget_bytes=ceiling, speed=2.0), RankShare(budget_bytes=ceiling, speed=1.0))
    planned = plan.model_copy(update={"ranks": ranks_plan(shares=found)})
    assert shares_of_ranks(planned, request_of(several), 2) == found
    assert shares_of_ranks(planned, request_of(several), 3) == ()
    with pytest.raises(InputError) as error:
        shares_of_ranks(plan, request_of(several, rank_bytes=(GIB,)), 2)
    assert str(error.value) == (
        "--rank-memory: got 1 values; expected one for each of 2 ranks. Name as many, or change --devices."
    )
    with pytest.raises(InputError) as error:
        shares_of_ranks(plan, request_of(several, rank_speeds=(1.0, -2.0)), 2)
    assert str(error.value) == (
        "--rank-speed: got -2; expected a number above 0 for each rank. Name what each rank has."
    )


def test_certificates_are_repeated_with_all_ranks(several):
    assert certificate_again(several.plans["prototyping"], several.config).ranks == 2


def test_plans_for_more_devices_than_there_are(several):
    class Here:
        n_devices = 1

    with pytest.raises(InputError) as error:
        check_ranks(several, Here)
    assert str(error.value) == (
        "profile: got plans for 2 devices; expected at most the 1 of this machine. Verify it where it was planned, or plan "
        "for this machine."
    )


def test_settings_for_other_programs(several):
    found = settings_of(several, "prototyping")
    assert (found["devices"], found["nodes"]) == (2, 1)
    rules, plan = several.config.training, several.plans["prototyping"]
    assert found["learning_rate"] == learning_rate(2 * plan.choice.batch_size * plan.accumulate, rules)
    assert trainer_settings(several, "prototyping")["devices"] == 2
    assert trainer_settings(several, "prototyping")["strategy"] == "ddp"


def test_a_trainer_with_another_number_of_devices(several):
    class Trainer:
        precision, world_size = trainer_settings(several, "prototyping")["precision"], 1

    with pytest.raises(InputError) as error:
        FollowPlan(several, "prototyping").setup(Trainer(), None, "fit")
    assert str(error.value) == (
        "the trainer's devices: got 1 processes; expected the 2 of the plan. "
        "Make it with Trainer(**compass.trainer_settings(profile, stage))."
    )


def test_a_script_for_torchrun(several):
    text = exported(several, "prototyping", "torchrun")
    assert text.splitlines()[-1] == (
        "exec torchrun --standalone --nproc-per-node 2 -m compass train --stage prototyping "
        f"--profile {several.path} --dataset YOUR_DATASET"
    )


def test_a_script_for_torchrun_on_several_machines(several):
    plan = several.plans["prototyping"].model_copy(update={"ranks": ranks_plan(n_nodes=3)})
    wide = several.model_copy(update={"plans": {"prototyping": plan}})
    last = exported(wide, "prototyping", "torchrun").splitlines()[-1]
    assert last.startswith(
        'exec torchrun --nnodes 3 --rdzv-backend c10d --rdzv-endpoint "${MASTER_ADDR:?the address of the first '
        'machine}:${MASTER_PORT:-29500}" --rdzv-id compass-prototyping --nproc-per-node 2 -m compass train '
    )


def test_a_job_for_slurm(several):
    text = exported(several, "prototyping", "slurm")
    plan = several.plans["prototyping"]
    assert f"#SBATCH --cpus-per-task={2 * (plan.runtime.threads + plan.loader_workers)}\n" in text
    assert "#SBATCH --nodes=1\n#SBATCH --ntasks-per-node=1\n" in text
    assert "torchrun" not in text  # `compass train` starts the ranks of one machine


def test_a_job_for_slurm_on_several_machines(several):
    plan = several.plans["prototyping"].model_copy(update={"ranks": ranks_plan(n_nodes=3)})
    text = exported(several.model_copy(update={"plans": {"prototyping": plan}}), "prototyping", "slurm")
    assert "#SBATCH --nodes=3\n" in text
    assert (
        'export MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"\nsrun torchrun --nnodes 3 '
        in text
    )


def test_words_and_table(several):
    plan = several.plans["prototyping"]
    assert devices_words(plan) == (
        "2 ranks train 64 graphs in a step at 90 % of the throughput of as many single ones; ranks wait 2.0 % of their time "
        "for the slowest of them"
    )
    table = devices_table(plan)
    assert table.rows[1] == ("2", "32", "64", "30", "11 min", "90 %", "2.0 %", "a run")
    assert table.rows[0][-2:] == ("", "prediction")
    alone = plan.model_copy(update={"ranks": None})
    assert (devices_words(alone), devices_table(alone).rows) == ("", ())


def test_the_terminal_shows_what_devices_would_buy(several, capsys):
    from compass.cli.tables import print_profile, print_stage

    print_profile(several)
    shown = capsys.readouterr().out
    assert "may be used by each of 2 ranks" in shown
    assert "what devices would buy" in shown
    print_stage(several, "prototyping", as_json=False)
    assert "what devices would buy" in capsys.readouterr().out


def test_brief_answers_and_next_commands(several):
    found = brief_answers(several)["stages"]["prototyping"]
    assert (found["devices"], found["nodes"], found["global_batch"]) == (2, 1, 64)
    assert found["epoch_s_by_devices"] == {"1": 1267.0, "2": 633.3, "4": 316.7}
    assert json.dumps(found)
    assert any(text.startswith("compass train --stage prototyping") for text, _ in next_commands(several, several.path))


def test_the_page_and_markdown_show_the_table(several):
    from compass.reporting.evidence import of_profile
    from compass.reporting.reading import as_markdown, as_page
    from compass.reporting.view import view_of

    view = view_of(of_profile(several, "p.json"))
    assert "What devices would buy" in as_page(view)
    assert "What devices would buy" in as_markdown(view)
