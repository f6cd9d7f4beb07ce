"""The quick part of `python -m benchmarks.fleet`: faults in this process, and a hundred runners."""

import pytest

from benchmarks.fleet.__main__ import is_good, run


@pytest.mark.harness
@pytest.mark.timeout(600)
def test_nothing_is_lost_doubled_or_unnamed(tmp_path):
    found = run(tmp_path, quick=True, ray=False)
    assert is_good(found), found
    assert found["faults"] >= 25
