"""The hard claims hold under physics that share nothing with the cost models."""

import json

import pytest

from benchmarks.foreign.__main__ import main


@pytest.mark.harness
def test_plans_keep_to_their_budget_and_none_is_missing_under_foreign_physics(capsys):
    assert main(["--quick"]) == 0
    fair = json.loads(capsys.readouterr().out.splitlines()[-1])["totals"]["fair"]
    assert {name: fair[name] for name in ("over_budget", "missing_plans", "beyond_law")} == {
        "over_budget": 0,
        "missing_plans": 0,
        "beyond_law": 0,
    }
