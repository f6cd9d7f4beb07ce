"""A dataset that does not tell its length."""

import logging

from compass.optimizer_config import OptimizerConfig
from compass.planning.session import without_cap


def test_no_batch_is_too_large_a_share_of_it(caplog):
    with caplog.at_level(logging.WARNING):
        config = without_cap(OptimizerConfig())
    assert config.batch.cap(config.dataset.default_size) == config.batch.max_batch
    assert caplog.messages == [
        "the dataset does not tell its length: an epoch is reckoned as 19,000 samples, and no batch is too large a share of it; "
        "--dataset-size N tells"
    ]
