"""What tests of every kind share."""

import importlib.util
import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no fault of the code: how long an example or its making takes is nobody's law.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("untimed"), max_examples=20)
settings.load_profile("untimed")

# A script that runs in the background ignores interrupts, and so would every process that is interrupted here.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _heard_again() -> Iterator[None]:
    """Benchmarks silence the logger, and are run by tests in this very process."""
    logger = logging.getLogger("compass")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For models too small to share out: on busy cores, waiting threads of OpenMP take more time than the work."""
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="session")
def write_run() -> object:
    """Writes the files of a training run into a folder; see `made_up_run.py`."""
    place = Path(__file__).parent / "made_up_run.py"
    found = importlib.util.spec_from_file_location("made_up_run", place)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module.write_run
