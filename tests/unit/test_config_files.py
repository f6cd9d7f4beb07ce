import json
import math
from typing import Literal, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from compass.config_files import SettingChange, load_config, project_file, render_config, write_config
from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig

DEFAULTS = OptimizerConfig()
HELP = "`compass config` shows every key with its reason."
WRITE_ONE = "`compass config --out my_config.py` writes one."


def refusal(path=None, changes=()) -> str:
    with pytest.raises(InputError) as error:
        load_config(path, changes)
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)
    return str(error.value)


# ------------------------------------------------------------------------------------------------------------ --set


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ("stages.prototyping.target_s=1800", lambda c: c.stages.prototyping.target_s == 1800),
        ("stages.prototyping.target_s=null", lambda c: c.stages.prototyping.target_s is None),
        ("stages.prototyping.target_s=None", lambda c: c.stages.prototyping.target_s is None),
        ("stages.production.checkpointing=[true]", lambda c: c.stages.production.checkpointing == (True,)),
        ("stages.production.checkpointing=(True,)", lambda c: c.stages.production.checkpointing == (True,)),
        ("stages.smoke_test.allocator=system", lambda c: c.stages.smoke_test.allocator == ("system",)),
        ('stages.smoke_test.allocator="system"', lambda c: c.stages.smoke_test.allocator == ("system",)),
        ('stages.production.allocator=["fast", "tight"]', lambda c: c.stages.production.allocator == ("fast", "tight")),
        ("test_bench.name=1e10", lambda c: c.test_bench.name == "1e10"),
        ("test_bench.name=1056", lambda c: c.test_bench.name == "1056"),
        ("test_bench.binding_data=Kd=5uM", lambda c: c.test_bench.binding_data == "Kd=5uM"),
        ("test_bench.protein=", lambda c: c.test_bench.protein == ""),
        ("probe.micro_loads=[[50, 4]]", lambda c: c.probe.micro_loads == ((50, 4),)),
        (" seed = 7", lambda c: c.seed == 7),
        ("stages.prototyping.target_s=30min", lambda c: c.stages.prototyping.target_s == 1800),
        ("stages.prototyping.window_s=0.5h", lambda c: c.stages.prototyping.window_s == 1800),
        ("probe.anchor_step_s_cpu=['150s', 0.5]", lambda c: c.probe.anchor_step_s_cpu == (150.0, 0.5)),
        ("memory.idle_headroom_bytes=32MiB", lambda c: c.memory.idle_headroom_bytes == 32 * 1024**2),
        ("training.loggers=csv,wandb", lambda c: c.training.loggers == ("csv", "wandb")),
        ("training.loggers=[]", lambda c: c.training.loggers == ()),
    ],
)
def test_values_mean_what_they_look_like(change, read):
    assert read(load_config(None, [change]))


def test_a_group_keeps_what_is_not_given():
    config = load_config(None, ['stages.prototyping={"target_s": 60}'])
    assert config.stages.prototyping == DEFAULTS.stages.prototyping.model_copy(update={"target_s": 60.0})


def test_later_changes_win():
    assert load_config(None, ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seed", "--set: got 'seed'; expected dotted.key=value. For example --set stages.prototyping.target_s=30min."),
        ("=3", "--set: got '=3'; expected dotted.key=value. For example --set stages.prototyping.target_s=30min."),
        ("stages.prototyping.target=3",
         "--set stages.prototyping.target: got the unknown key 'target'; expected a setting of Compass. "
         "Did you mean target_s?"),
        ("stages.prototypin.target_s=3",
         "--set stages.prototypin.target_s: got the unknown key 'prototypin'; expected a setting of Compass. "
         "Did you mean prototyping or production?"),
        ("graph.colour=3",
         "--set graph.colour: got the unknown key 'colour'; expected a setting of Compass. "
         "There are cutoff, max_neighbours."),
        ("seed.x=3", f"--set seed.x: got a key below 'seed'; expected a single value there. {HELP}"),
        ("graph=3", "--set graph: got 3; expected a group of settings. Name one of cutoff, max_neighbours."),
        ('graph={"cutof": 3}',
         "--set graph.cutof: got the unknown key 'cutof'; expected a setting of Compass. Did you mean cutoff?"),
        ("seed=abc", f"--set seed: got 'abc'; expected a whole number. {HELP}"),
        ("seed=1.5", f"--set seed: got 1.5; expected a whole number. {HELP}"),
        ("score.alpha=-1", f"--set score.alpha: got -1; expected more than 0. {HELP}"),
        ("score.alpha=NaN", f"--set score.alpha: got nan; expected more than 0. {HELP}"),
        ("score.alpha=inf", f"--set score.alpha: got inf; expected a finite number. {HELP}"),
        ("score.alpha=1e999", f"--set score.alpha: got inf; expected a finite number. {HELP}"),
        ("score.tie_share=2", f"--set score.tie_share: got 2; expected at most 1. {HELP}"),
        ("space.layers=[9, 2, 3]", f"--set space.layers: got [9, 2, 3]; expected at most 2 values. {HELP}"),
        ("space.layers=5", f"--set space.layers: got 5; expected a list of values. {HELP}"),
        ("space.layers=[2, x]", f"--set space.layers: got '[2, x]'; expected a list of values. {HELP}"),
        ("space.layers=[9, 2]",
         f"--set space.layers: got [9, 2]: the lowest value 9 is above the highest 2; expected values that agree. {HELP}"),
        ("stages.validation.allocator=loose",
         "--set stages.validation.allocator.0: got 'loose'; expected 'fast', 'tight', 'tight_huge', 'tcmalloc', 'jemalloc', "
         f"'mimalloc' or 'system'. {HELP}"),
        ("space.vram_factors=[]",
         "--set space.vram_factors: got []: needs at least one point, with rising first values; "
         f"expected values that agree. {HELP}"),
        ("stages.production.target_s=3600", f"--set stages.production.target_s: got 3600; expected None. {HELP}"),
        ('stages.production.precision=["fp8"]',
         f"--set stages.production.precision.0: got 'fp8'; expected 'fp32', 'bf16' or 'fp16'. {HELP}"),
    ],
)  # fmt: skip
def test_what_cannot_be_set(change, message):
    assert refusal(None, [change]) == message


def test_another_flag_is_named_by_its_own_name():
    flag = SettingChange("--max-atoms", "test_bench.max_atoms", 0)
    assert refusal(None, [flag]) == f"--max-atoms: got 0; expected at least 1. {HELP}"


# ------------------------------------------------------------------------------------------------------------ files


def test_json_and_toml_change_only_what_they_name(tmp_path):
    toml, jsn = tmp_path / "c.toml", tmp_path / "c.json"
    toml.write_text("[stages.prototyping]\ntarget_s = 60\n")
    jsn.write_text('{"stages": {"prototyping": {"target_s": 60}}}')
    assert load_config(toml) == load_config(jsn) == load_config(None, ["stages.prototyping.target_s=60"])


def test_yaml_and_a_projects_file_are_read_too(tmp_path):
    expected = load_config(
        None, ["stages.prototyping.target_s=60", "space.layers=[2, 6]", "training.learning_rate=1e-4"]
    )
    for name in ("c.yaml", "c.yml"):
        (tmp_path / name).write_text(
            "stages: {prototyping: {target_s: 1min}}\nspace:\n  layers: [2, 6]\ntraining:\n  learning_rate: 1e-4\n"
        )
        assert load_config(tmp_path / name) == expected
    project = tmp_path / "pyproject.toml"
    project.write_text(
        '[project]\nname = "mine"\n[tool.compass.stages.prototyping]\ntarget_s = "1min"\n'
        "[tool.compass.space]\nlayers = [2, 6]\n[tool.compass.training]\nlearning_rate = 1e-4\n"
    )
    assert load_config(project) == expected
    assert project_file(tmp_path) == project
    (tmp_path / "empty.yaml").touch()
    assert load_config(tmp_path / "empty.yaml") == DEFAULTS


@pytest.mark.parametrize(
    "content", [None, "[tool.ruff]\nline-length = 9\n", "broken = [", "# [tool.compass]\n", b"\xff"]
)
def test_a_project_without_settings(tmp_path, content):
    if content is not None:
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / "pyproject.toml").write_bytes(data)
    assert project_file(tmp_path) is None


def test_flags_win_over_the_file(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("seed = 1\ncycle_batches = 9")
    config = load_config(path, ["seed=2"])
    assert (config.seed, config.cycle_batches) == (2, 9)


PYTHON = "from compass.optimizer_config import *\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.ini", "", f"got a name ending in '.ini'; expected a .py, .toml, .yaml or .json file. {WRITE_ONE}"),
        ("c.yaml", "- 1\n", "got [1]; expected groups of settings. " + HELP),
        ("c.yaml", "a: [", "got while parsing a flow node expected the node content, but found '<stream end>' in \"<unicode string>\", "
         "line 1, column 5: a: [ ^; expected valid YAML. Correct the file."),
        ("pyproject.toml", "[tool.ruff]\n", "got no [tool.compass]; expected settings of Compass in it. Add the table, or name another "
         "file."),
        ("pyproject.toml", "[tool]\ncompass = 3\n", "got 3; expected groups of settings. " + HELP),
        ("c.json", '{"seed": ', "got Expecting value: line 1 column 10 (char 9); expected valid JSON. Correct the file."),
        ("c.json", "[1]", f"got [1]; expected groups of settings. {HELP}"),
        ("c.py", "x = 1", f"got no `config`; expected config = OptimizerConfig(...). {WRITE_ONE}"),
        ("c.py", "config = 1", f"got a `config` that is a int; expected config = OptimizerConfig(...). {WRITE_ONE}"),
        ("c.py", "x = 1\n\n1 / 0",
         "got ZeroDivisionError in line 3: division by zero; expected Python that runs. Correct the file."),
        ("c.py", "raise SystemExit", "got SystemExit in line 1: SystemExit; expected Python that runs. Correct the file."),
        ("c.py", "open('/nowhere')",
         "got FileNotFoundError in line 1: [Errno 2] No such file or directory: '/nowhere'; "
         "expected Python that runs. Correct the file."),
    ],
)  # fmt: skip
def test_files_that_cannot_be_used(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    assert refusal(path) == f"config {path}: {message}"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.toml", "[stages.prototyping]\ntarget = 1",
         "stages.prototyping.target: got the unknown key 'target'; expected a setting of Compass. Did you mean target_s?"),
        ("c.toml", "stages = 3",
         "stages: got 3; expected a group of settings. Name one of smoke_test, prototyping, validation, production."),
        ("c.json", '{"seed": "x"}', f"seed: got 'x'; expected a whole number. {HELP}"),
        ("c.json", '{"score": {"beta": Infinity}}', f"score.beta: got inf; expected a finite number. {HELP}"),
        ("c.py", PYTHON + "config = StageRules(taget_s=3)",
         "StageRules.taget_s: got the unknown key 'taget_s'; expected a setting of Compass. Did you mean target_s?"),
        ("c.py", PYTHON + "config = StageRules()", f"StageRules.target_s: got nothing; expected a value. {HELP}"),
        ("c.py", PYTHON + "config = OptimizerConfig(seed=[])",
         f"OptimizerConfig.seed: got []; expected a whole number. {HELP}"),
    ],
)  # fmt: skip
def test_keys_and_values_in_files_that_cannot_be_used(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    assert refusal(path) == f"config {path}: {message}"


@pytest.mark.parametrize("name", ["c.py", "c.json", "c.toml"])
def test_a_missing_file(tmp_path, name):
    path = tmp_path / name
    assert refusal(path) == (
        f"config {path}: got No such file or directory; expected a file that can be read. {WRITE_ONE}"
    )


@pytest.mark.parametrize("name", ["c.py", "c.json", "c.toml"])
@pytest.mark.parametrize("content", [b"\x00\x01", b"\xff\xfe\x00", b"seed = ["])
def test_a_damaged_file_is_one_line(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert refusal(path).startswith(f"config {path}: got ")


# ---------------------------------------------------------------------------------------------------------- writing


def leaf_strategy(annotation: object, default: object) -> st.SearchStrategy:
    """Values like the default of a setting, admissible or not: what is not is thrown away by validating."""
    if get_origin(annotation) is Literal:
        return st.sampled_from(get_args(annotation))
    if isinstance(default, bool):
        return st.booleans()
    if isinstance(default, str):
        return st.text()
    if isinstance(default, int):
        return st.integers(1, 10**9)
    if isinstance(default, float):
        return st.floats(0, 1) | st.floats(min_value=1e-9, max_value=1e18)
    return st.just(default)


def settings_leaves(group: BaseModel, key: str = ""):
    for name, info in type(group).model_fields.items():
        value = getattr(group, name)
        if isinstance(value, BaseModel):
            yield from settings_leaves(value, f"{key}{name}.")
        else:
            yield f"{key}{name}", leaf_strategy(info.annotation, value)


LEAVES = dict(settings_leaves(DEFAULTS))


@st.composite
def configs(draw) -> OptimizerConfig:
    keys = draw(st.lists(st.sampled_from(sorted(LEAVES)), max_size=5, unique=True))
    config = DEFAULTS
    for key in keys:
        try:
            config = load_config(None, [SettingChange("drawn", key, draw(LEAVES[key]))])
        except (InputError, ValidationError):
            continue
    return config


@given(configs())
def test_what_is_written_loads_back_equal(tmp_path_factory, config):
    path = tmp_path_factory.getbasetemp() / "round_trip.py"
    path.write_text(render_config(config), encoding="utf-8")
    assert load_config(path) == config


@given(configs())
def test_json_loads_back_equal(tmp_path_factory, config):
    path = tmp_path_factory.getbasetemp() / "round_trip.json"
    path.write_text(json.dumps(config.model_dump()), encoding="utf-8")
    assert load_config(path) == config


def test_every_value_is_written_with_its_reason():
    lines = render_config(DEFAULTS).splitlines()
    for number, line in enumerate(lines):
        if line.startswith("    ") and "=" in line and "#" not in line and not line.startswith("    compass"):
            assert lines[number - 1].lstrip().startswith("# "), line
    assert "        # Length of the longest edge (Å). 5 Å is ViSNet's published cutoff." in lines
    assert "        default_size=19_000," in lines
    assert max(map(len, lines)) <= 120


def test_writing_refuses_to_overwrite(tmp_path):
    path = tmp_path / "c.py"
    write_config(DEFAULTS, path)
    with pytest.raises(InputError) as error:
        write_config(DEFAULTS, path)
    assert str(error.value) == (
        f"output {path}: got a file that is already there; expected a new file. Give --force to overwrite it."
    )
    changed = DEFAULTS.model_copy(update={"seed": 4})
    write_config(changed, path, force=True)
    assert load_config(path) == changed


def test_writing_where_nothing_can_be_written(tmp_path):
    path = tmp_path / "nowhere" / "c.py"
    with pytest.raises(InputError) as error:
        write_config(DEFAULTS, path)
    assert str(error.value) == (
        f"output {path}: got No such file or directory; expected a file in a writable folder. Choose another --out."
    )


def test_the_defaults_are_finite():
    assert all(math.isfinite(value) for value in (DEFAULTS.score.alpha, DEFAULTS.score.beta))


# ------------------------------------------------------------------------------------------------------- former names


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.toml", "[probe]\nconfirm_rounds = 5\n"),
        ("c.json", '{"probe": {"confirm_rounds": 5}}'),
        (
            "c.py",
            "from compass.optimizer_config import OptimizerConfig, ProbeRules\n"
            "config = OptimizerConfig(probe=ProbeRules(confirm_rounds=5))\n",
        ),
    ],
)
def test_a_former_name_in_a_file_is_accepted_with_a_warning(tmp_path, caplog, name, text):
    path = tmp_path / name
    path.write_text(text)
    assert load_config(path).probe.certify_rounds == 5
    assert [record.message for record in caplog.records] == [
        "the setting confirm_rounds is now called certify_rounds; the next release will refuse the old name"
    ]


def test_a_former_name_after_set_is_accepted_with_a_warning(caplog):
    assert load_config(None, ["probe.confirm_rounds=5"]).probe.certify_rounds == 5
    assert len(caplog.records) == 1
