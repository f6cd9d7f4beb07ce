import csv
import importlib.util
from types import SimpleNamespace

import pytest
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from compass.config_files import load_config
from compass.errors import InputError
from compass.training.loggers import NEEDS, check_loggers, loggers_of, start_loggers


def logging_to(spec, *names):
    return spec.model_copy(update={"config": load_config(None, [f"training.loggers={','.join(names)}"])})


def test_curves_go_to_tensorboard_unless_other_loggers_are_named(spec, tmp_path):
    (only,) = loggers_of(spec, tmp_path)
    assert isinstance(only, TensorBoardLogger)
    assert only.log_dir == str(tmp_path / "tensorboard")
    assert loggers_of(spec.model_copy(update={"config": load_config(None, ["training.loggers=[]"])}), tmp_path) == []


def test_a_resumed_run_keeps_the_table_of_its_first_part(spec, tmp_path):
    spec = logging_to(spec, "csv", "csv")
    for part in (1, 2):
        (logger,) = loggers_of(spec, tmp_path)
        assert isinstance(logger, CSVLogger)
        start_loggers(SimpleNamespace(loggers=[logger]), spec, {"predicted_batch_s": 0.5}, step=part)
        logger.finalize("success")
        rows = list(csv.DictReader((tmp_path / f"csv_{part}" / "metrics.csv").open()))
        assert rows == [{"predicted_batch_s": "0.5", "step": str(part)}]
    assert "layers: 6" in (tmp_path / "csv_1" / "hparams.yaml").read_text()


@pytest.mark.parametrize("name", NEEDS)
def test_a_logger_whose_package_is_missing(monkeypatch, name):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    check_loggers(["tensorboard", "csv"])
    with pytest.raises(InputError) as caught:
        check_loggers(["csv", name])
    assert str(caught.value) == (
        f"training.loggers: got {name}, without the package {NEEDS[name]}; expected an installed one. "
        f"pip install 'compass-optimizer[{name}]', or leave it out."
    )


def test_another_logger_is_no_other_run(spec):
    assert logging_to(spec, "csv").identity == spec.identity
