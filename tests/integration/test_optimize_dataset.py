"""Plans for whole datasets: on simulated machines against their truth, and on this one from files to profile."""

import gzip
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from compass.cli.app import app
from compass.config_files import load_config
from compass.data.graphs.bench import EMBEDDED_LIGAND, EMBEDDED_PROTEIN
from compass.optimizer import Request, optimize
from compass.planning import session
from compass.probe.simulation import SimulatedRunner, load_of, machine_named
from compass.profile import read_profile
from compass.records import Estimates

GIB = 1024**3


def spread_of(n, *, seed=0):
    """(id, load) of complexes spread as pockets are, with one giant."""
    rng = np.random.default_rng(seed)
    nodes = np.clip(np.exp(rng.normal(np.log(420), 0.5, n)), 80, 4000).round()
    nodes[n // 2] = 12_000
    return [(f"c{i:04}", load_of(float(k), float(round(k * rng.uniform(20, 30))))) for i, k in enumerate(nodes)]


@pytest.fixture(scope="module", params=["RTX 3060 Laptop 6GB", "RTX 4090"])
def planned(request, tmp_path_factory):
    samples = spread_of(1500)
    runner = SimulatedRunner(machine_named(request.param), seed=3, samples=samples)
    asked = Request(
        config=load_config(
            None, [f"stages.{s}.checkpointing=[false]" for s in ("prototyping", "validation", "production")]
        ),
        out=tmp_path_factory.mktemp("dataset") / "p.json",
    )
    return optimize(asked, runner=runner), runner, dict(samples)


STAGES = ["prototyping", "validation", "production"]


def total(loads):
    return sum(loads[1:], loads[0])


def test_the_dataset_says_how_large_it_is(planned):
    profile, _, samples = planned
    assert profile.dataset_size == len(samples)
    assert not profile.failures


@pytest.mark.parametrize("stage", STAGES)
def test_the_certificate_begins_with_the_largest_by_name(planned, stage):
    profile, _, samples = planned
    plan = profile.plans[stage]
    first, last = plan.certificate.batches[0], plan.certificate.batches[-1]
    assert first == last == plan.certificate.evaluated[0]
    assert "c0750" not in dict(first.members)
    assert len(plan.certificate.batches[1].members) == 1  # of the isolated, the largest that fits
    by_edges = sorted(samples, key=lambda name: -samples[name]["edges"])[7 : 7 + plan.choice.batch_size]
    assert len(set(by_edges) & set(dict(first.members))) >= plan.choice.batch_size // 2
    assert len(plan.certificate.batches) == 8


@pytest.mark.parametrize("stage", STAGES)
def test_no_batch_of_the_fixed_size_can_run_out(planned, stage):
    profile, runner, samples = planned
    plan, rng = profile.plans[stage], np.random.default_rng(0)
    names = sorted(samples, key=lambda name: samples[name]["edges"])[:-7]  # 0.5 % have a batch each
    heavy = sorted(names, key=lambda name: -samples[name]["nodes"])[: 2 * plan.choice.batch_size]
    for pool in [names] * 10 + [heavy] * 10:
        members = rng.choice(pool, plan.choice.batch_size, replace=False)
        truth = runner.true_footprint_bytes(plan.choice.knobs, total([samples[name] for name in members]))
        assert truth <= profile.hardware.budget_bytes


@pytest.mark.parametrize("stage", STAGES)
def test_live_bytes_are_known_of_batches_of_every_size(planned, stage):
    profile, runner, samples = planned
    plan = profile.plans[stage]
    assert plan.bytes_law.margin_share <= 0.02
    for batch in plan.certificate.batches:
        load = batch.load(samples)
        assert plan.bytes_law.live(load) == pytest.approx(runner.true_live_bytes(plan.choice.knobs, load), rel=0.02)


@pytest.mark.parametrize("stage", STAGES)
def test_the_cycle_is_that_of_the_mean_load(planned, stage):
    profile, runner, samples = planned
    plan = profile.plans[stage]
    shared = sorted(samples, key=lambda name: samples[name]["edges"])[:-7]
    mean = load_of(
        *(
            float(np.mean([samples[each][name] for each in shared]) * plan.choice.batch_size)
            for name in ("nodes", "edges")
        )
    )
    assert plan.measured.cycle_s == pytest.approx(450 * runner.true_step_s(plan.choice.knobs, mean), rel=0.05)


@pytest.mark.parametrize("stage", STAGES)
def test_filling_the_memory_is_offered_beside_it(planned, stage):
    profile, _, _ = planned
    plan = profile.plans[stage]
    budget = plan.batch_budget
    assert budget.footprint_bytes <= budget.budget_bytes == profile.hardware.budget_bytes
    if "4090" in profile.hardware.name:  # on Windows, batches of many sizes fragment the memory
        assert budget.mean_graphs > 0.95 * plan.choice.batch_size
    assert plan.recommended == ("batch_budget" if budget.gain > 0.02 else "batch_size")


# ------------------------------------------------------------------------------------------------------ on this machine

QUICK = [
    word
    for change in (
        *(f"stages.{stage}.checkpointing=[false]" for stage in STAGES), *(f'stages.{stage}.allocator=["fast"]' for stage in STAGES),
        "runtime.waiting=sleep",  # other tests run beside
        "space.layers=[2,3]", "space.channels=[16,32]", "space.channels_per_layer=[4,32]", "space.small_share=[0,1]",
        "probe.anchor_architectures_cpu=[[2,32]]", "probe.anchor_step_s_cpu=[0.1]",
    )
    for word in ("--set", change)
]  # fmt: skip


def run(tmp_path, *args):
    return CliRunner().invoke(
        app, ["optimize", *args, "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "p.json"), *QUICK]
    )


def crops(root, n):
    """A PDBbind-style tree of the embedded complex, its protein cut ever smaller."""
    lines = gzip.decompress(EMBEDDED_PROTEIN.read_bytes()).decode().splitlines()
    atoms = [line for line in lines if line.startswith(("ATOM", "HETATM"))]
    for i in range(n):
        folder = root / f"{i + 1}abc"
        folder.mkdir(parents=True)
        kept = atoms[: len(atoms) * (i + 5) // (n + 4)]
        (folder / f"{folder.name}_protein.pdb").write_text("\n".join([*kept, "END", ""]))
        shutil.copy(EMBEDDED_LIGAND, folder / f"{folder.name}_ligand.sdf")
    return root


@pytest.mark.slow
def test_from_files_to_a_certified_profile(tmp_path):
    root = crops(tmp_path / "set", 6)
    (root / "7abc").mkdir()
    (root / "7abc" / "7abc_protein.pdb").write_text("END\n")
    done = run(tmp_path, "--dataset", str(root), "--stages", "prototyping", "--memory-limit", "2GiB",
               "--set", "batch.training_share=0.5", "--set", "dataset.oversize_share=0.2")  # fmt: skip
    assert done.exit_code == 0, done.output
    profile = read_profile(tmp_path / "p.json")
    assert (profile.dataset.n_complexes, profile.dataset.n_usable, profile.dataset_size) == (7, 6, 6)
    assert profile.dataset.oversize == ("6abc",)
    plan = profile.plans["prototyping"]
    batches = plan.certificate.batches
    assert "6abc" not in dict(batches[0].members)
    assert batches[1].members == (("6abc", 1),)
    assert plan.measured.footprint_bytes <= plan.certificate.footprint_bound_bytes <= 2 * GIB
    assert plan.batch_budget is not None
    assert "the largest 1 are batched alone: 6abc" in " ".join(done.output.split())


@pytest.mark.parametrize(("args", "size"), [([], 5), (["--dataset-size", "7"], 7)])
def test_an_estimate_is_for_the_datasets_complexes(tmp_path, monkeypatch, args, size):
    """Unless another size is given."""
    machine = SimulatedRunner(machine_named("RTX 4090"))
    monkeypatch.setattr(session, "local_runner", lambda request, settings: machine)
    changes = ["--set", f"dataset.path={crops(tmp_path / 'set', 5)}", *QUICK]
    model = ["--layers", "2", "--channels", "32", "--batch", "2"]
    done = CliRunner().invoke(
        app, ["estimate", *model, *args, "--json", "--cache", str(tmp_path / "cache"), *changes], catch_exceptions=False
    )
    found = Estimates.model_validate_json(done.stdout)
    [row] = found.rows
    assert found.dataset_size == size
    assert row.epoch_s == row.step_s * (-(-size // 2))
    assert row.training_s == row.epoch_s * 100


def test_a_dataset_that_is_not_there(tmp_path):
    done = run(tmp_path, "--dataset", str(tmp_path / "nowhere"))
    assert done.exit_code == 2
    assert "nowhere" in done.output
    assert not (tmp_path / "p.json").exists()


def test_a_dataset_of_which_nothing_can_be_used(tmp_path):
    folder = tmp_path / "set" / "1abc"
    folder.mkdir(parents=True)
    (folder / "1abc_protein.pdb").write_text("END\n")
    done = run(tmp_path, "--dataset", str(tmp_path / "set"))
    assert done.exit_code == 2
    assert (
        "got 1 complexes, none of them usable; expected at least one. See the problem of each complex: compass scan"
        in (" ".join(done.output.split()))
    )
