import pytest
import pytorch_lightning as pl
import torch

import compass
from compass.errors import InputError


class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer, self.batch_size = torch.nn.Linear(2, 1), 1

    def training_step(self, batch, _):
        return self.layer(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.ones(64, 2), batch_size=self.batch_size)


def trainer(profile, **changes):
    fields = {
        "max_epochs": 1, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
        "enable_model_summary": False, "accelerator": "cpu", "callbacks": [compass.FollowPlan(profile, "prototyping")],
    }  # fmt: skip
    return pl.Trainer(**{**fields, **changes})


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_trainer_follows_the_plan(profile):
    module, made = Module(), trainer(profile)
    made.fit(module)
    assert made.accumulate_grad_batches == 2
    assert made.gradient_clip_val == profile.config.training.clip_norm
    assert (module.batch_size, made.global_step, torch.get_num_threads()) == (32, 1, 2)


def test_a_trainer_made_from_the_plan(profile):
    made = trainer(profile, **compass.trainer_settings(profile, "prototyping"))
    made.fit(Module())
    assert made.global_step == 1


def test_another_precision_is_refused(profile):
    with pytest.raises(InputError) as caught:
        trainer(profile, precision="bf16-mixed").fit(Module())
    assert str(caught.value) == (
        "the trainer's precision: got bf16-mixed; expected 32-true. "
        "Make it with Trainer(**compass.trainer_settings(profile, stage))."
    )


def test_a_larger_batch_than_was_proven_is_refused(profile):
    loader = torch.utils.data.DataLoader(torch.ones(64, 2), batch_size=64)
    with pytest.raises(InputError) as caught:
        trainer(profile).fit(Module(), loader)
    assert str(caught.value) == (
        "the training loader's batch size: got 64; expected at most the certified 32. "
        "Give the loader plan.choice.batch_size."
    )


def test_a_last_batch_of_one_is_refused_where_a_layer_normalises(profile):
    plan = profile.plans["prototyping"].model_copy(update={"least_batch": 2})
    profile = profile.model_copy(update={"plans": {**profile.plans, "prototyping": plan}})
    loader = torch.utils.data.DataLoader(torch.ones(33, 2), batch_size=8)
    settings = compass.trainer_settings(profile, "prototyping")
    with pytest.raises(InputError) as caught:
        trainer(profile, **settings).fit(Module(), loader)
    assert str(caught.value) == (
        "the training loader's last batch: got 1 of 33 samples; expected at least 2, since a layer normalises over the samples of a "
        "batch. Make the loader with drop_last=True."
    )
    trainer(profile, **settings).fit(
        Module(), torch.utils.data.DataLoader(torch.ones(33, 2), batch_size=8, drop_last=True)
    )
