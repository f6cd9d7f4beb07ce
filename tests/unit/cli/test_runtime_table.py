from compass.cli.runtime_table import print_runtime
from compass.records import RuntimeChoice


def test_a_setting_a_row(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    choices = [
        RuntimeChoice(setting="threads", chosen="2", why="as configured"),
        RuntimeChoice(
            setting="allocator", chosen="fast", gain=1.6, why="as configured; the others are slower by a lot"
        ),
        RuntimeChoice(setting="loader_workers", stage="production", chosen="0", why="small"),
    ]
    print_runtime(choices)
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "setting                     chosen  gain why",
        "threads                     2            as configured",
        "allocator                   fast   1.60× as configured; the others are slower by",
        "                                         a lot",
        "loader_workers (production) 0            small",
    ]


def test_a_profile_without_any(capsys):
    print_runtime(())
    assert capsys.readouterr().out == ""
