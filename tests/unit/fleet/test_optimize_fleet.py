import pytest

from compass.errors import InputError, WorkerError
from compass.fleet.optimize import describe_fleet, optimize_fleet
from compass.fleet.record import read_fleet
from compass.fleet.simulated import simulated_node
from compass.optimizer import optimize
from compass.planning.request import Request
from compass.probe.simulation import SimulatedRunner, machine_named
from compass.probe.site import Host, Site, this_host
from compass.probe.store import Store
from compass.profile import read_profile

UNLIKE = {"created": True, "probe_costs": True, "probe_log": {"__all__": {"wall_s"}}}
"""What differs between two equal runs: the time of day, and how long probes took, with new processes or without."""


def facts(profile):
    return profile.model_dump(exclude=UNLIKE)


@pytest.fixture
def alone(tmp_path):
    """The profile of one simulated machine, planned without a fleet."""

    def plan(machine):
        store = Store(tmp_path / machine / "probes.jsonl")
        site = Site(lambda _: SimulatedRunner(machine_named(machine)), store, this_host())
        request = Request(dataset_size=19_000, stages=("smoke_test",), out=tmp_path / machine / "profile.json")
        return optimize(request, runner=site)

    return plan


@pytest.mark.slow
def test_each_kind_gets_the_profile_of_a_local_run(engine_of, asked, alone):
    request = asked()
    record = optimize_fleet(request, engine_of(A100=2, T4=0, H100=1), engine_name="test")
    assert [(kind.name, kind.nodes, kind.profile) for kind in record.kinds] == [
        ("a100-40gb", ("a100-0", "a100-1"), "a100-40gb.json"),
        ("h100-80gb", ("h100-0",), "h100-80gb.json"),
    ]
    read, profiles = read_fleet(request.folder)
    assert read == record
    assert facts(profiles["a100-40gb"]) == facts(alone("A100"))
    assert facts(profiles["h100-80gb"]) == facts(alone("H100"))


@pytest.mark.slow
def test_lost_nodes_change_no_profile_and_are_named(engine_of, asked, alone):
    engine, n_probes = engine_of(A100=2), [0]

    def every_fifth(_node, request):
        if '"op": "probe"' not in request:
            return ""
        n_probes[0] += 1
        return ("before", "after")[n_probes[0] % 2] if n_probes[0] % 5 == 0 else ""

    engine.fault = every_fifth
    record = optimize_fleet(asked(), engine, engine_name="test")
    assert facts(read_profile(asked().folder / "a100-40gb.json")) == facts(alone("A100"))
    assert "a100-0 was lost: the node died" in record.kinds[0].notes


@pytest.mark.slow
def test_a_restarted_head_makes_no_finished_probe_again(engine_of, asked):
    engine, n_probes = engine_of(A100=1), [0]

    def stops_the_head(_node, request):
        n_probes[0] += '"op": "probe"' in request
        if n_probes[0] == 12:
            raise KeyboardInterrupt
        return ""

    engine.fault = stops_the_head
    with pytest.raises(KeyboardInterrupt):
        optimize_fleet(asked(), engine, engine_name="test")
    assert engine.closed  # no agent is left
    before, engine.fault = engine.n_asked("probe"), lambda _node, _request: ""
    optimize_fleet(asked(), engine, engine_name="test")
    n_lines = len((asked().request.cache / "probes.jsonl").read_text().splitlines())
    assert engine.n_asked("probe") - 1 == n_lines  # the one that was interrupted was asked twice
    assert before < n_lines


def test_a_kind_that_fails_does_not_stop_the_others(engine_of, asked, monkeypatch):
    monkeypatch.setattr("compass.fleet.optimize.optimize", lambda request, **_: _written_or_failed(request))
    record = optimize_fleet(asked(), engine_of(A100=1, H100=1), engine_name="test")
    assert [(kind.profile, kind.failure) for kind in record.kinds] == [
        ("a100-40gb.json", ""),
        ("", "the worker did not start"),
    ]


def _written_or_failed(request):
    if request.out.name.startswith("h100"):
        raise WorkerError("the worker did not start")


def test_messages_name_their_kind(engine_of, asked, monkeypatch, caplog):
    monkeypatch.setattr("compass.fleet.optimize.optimize", lambda request, **_: _written_or_failed(request))
    with caplog.at_level("INFO", logger="compass"):
        optimize_fleet(asked(), engine_of(H100=1), engine_name="test")
    assert "h100-80gb: no profile: the worker did not start" in caplog.messages


def test_an_absent_kind_is_an_error_before_anything_is_written(engine_of, asked):
    request = asked(kinds=("b200",))
    with pytest.raises(InputError, match=r"^kind b200: got no node of it within 0 s; there are a100-40gb"):
        optimize_fleet(request, engine_of(A100=1), engine_name="test")
    assert not request.folder.exists()


def test_describing_measures_and_writes_nothing(engine_of, asked):
    engine, request = engine_of(simulated_node("x", "Tesla T4"), A100=1), asked()
    record = describe_fleet(request, engine, engine_name="test")
    assert [(kind.name, kind.nodes) for kind in record.kinds] == [("a100-40gb", ("a100-0",)), ("tesla-t4-16gb", ("x",))]
    assert engine.n_asked("probe") == 0
    assert not request.folder.exists()
    assert sorted(engine.closed) == ["a100-0", "x"]


def test_a_host_elsewhere_decides_threads_and_allocators():
    from compass.planning.session import first_settings

    host = Host(n_cores=48, libraries={"fast": "", "tcmalloc": "libtcmalloc.so.4"})
    settings = first_settings(Request().config, host=host)
    assert (settings.threads, settings.library) == (48, host.library(settings.allocator))
    assert (host.offers("tcmalloc"), host.offers("mimalloc")) == (True, False)


def test_as_a_python_call(engine_of, tmp_path, monkeypatch, profile):
    import compass
    from compass.profile import write_profile

    monkeypatch.setattr("compass.fleet.engines.InProcessEngine.here", lambda: engine_of(A100=1, H100=1))
    monkeypatch.setattr("compass.fleet.optimize.optimize", lambda request, **_: write_profile(profile, request.out))
    (tmp_path / "fleet.yaml").write_text("kinds: {big: {device: 'H100*', price_per_hour: 4.0}}\ncurrency: EUR\n")
    table = compass.optimize_fleet(
        dataset_size=19_000,
        kinds=["big"],
        fleet_file=tmp_path / "fleet.yaml",
        out=tmp_path / "fleet",
        cache=tmp_path / "cache",
    )
    assert {cell.kind for cell in table.cells} == {"big"}
    assert (table.currency, table.recommendations[0].fastest) == ("EUR", None)
