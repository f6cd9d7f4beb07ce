import pytest

from compass.errors import InputError
from compass.planning import trust
from compass.planning.trust import TRUSTED, check_trusted, remember_workload


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trust, "_of_this_process", set())


def refusal(source, **given):
    with pytest.raises(InputError) as caught:
        check_trusted(source, **given)
    return str(caught.value)


def test_a_family_needs_no_trust(tmp_path):
    check_trusted("visnet")
    check_trusted("an_installed_family")
    remember_workload("visnet")
    assert not (tmp_path / "compass" / TRUSTED).exists()


@pytest.mark.parametrize("source", ["/theirs/model.py:Model", "package.module:make"])
def test_code_that_only_a_profile_names_is_refused(source):
    assert refusal(source) == (
        f"workload {source}: got code that you have not named yourself: the profile or checkpoint that names it may be someone else's; "
        f"expected code that you trust. Look at it, then pass --workload {source}, or --trust."
    )


def test_what_the_user_named_once_is_trusted_from_any_folder(tmp_path):
    remember_workload("model.py:Model")
    remember_workload("model.py:Model")
    check_trusted(f"{tmp_path}/model.py:Model")
    assert (tmp_path / "compass" / TRUSTED).read_text() == f"{tmp_path}/model.py:Model\n"
    refusal(f"{tmp_path}/model.py:Other")


@pytest.mark.parametrize("given", [{"trust": True}, {"named": "model.py:Model"}])
def test_trust_is_remembered(tmp_path, given):
    check_trusted(f"{tmp_path}/model.py:Model", **given)
    check_trusted(f"{tmp_path}/model.py:Model")


def test_another_workload_is_not_put_in_its_place():
    assert refusal("/theirs/model.py:Model", named="schnet") == (
        "--workload: got schnet; expected /theirs/model.py:Model, with which the plan was made. Name that one, or plan for the other "
        "with `compass optimize`."
    )


def test_without_a_cache_folder_only_this_process_remembers(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    remember_workload("package.module:make")
    assert "is trusted by this process alone, because its name cannot be kept" in caplog.text
    check_trusted("package.module:make")
    trust._of_this_process.clear()
    refusal("package.module:make")
