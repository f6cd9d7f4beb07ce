"""`compass explain`: the reasons for a stage's plan, and the predicted effect of more memory, time or data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from compass.cli.json_text import print_json
from compass.cli.options import AsJsonOption, ProfileOption, WordsArgument, stage_option

if TYPE_CHECKING:
    from compass.reporting.explain import Explanation


def explain(
    words: WordsArgument = None,
    profile_path: ProfileOption = None,
    stage: Annotated[list[str] | None, stage_option("Stage to explain. Default: production.")] = None,
    as_json: AsJsonOption = False,
) -> None:
    """Explain a stage's plan: its score, the limit that holds it back, and the effect of more memory or time.

    Everything is read from the profile; nothing is measured.
    """
    from compass.cli.parse import named, one_stage
    from compass.errors import InputError
    from compass.profile import PROFILE_NAME
    from compass.reporting.evidence import read_evidence
    from compass.reporting.explain import explain_plan

    stages, path = named(words, stage, profile_path)
    name = one_stage(stages) or "production"
    evidence = read_evidence(path or Path(PROFILE_NAME))
    if name not in evidence.found:
        raise InputError(
            f"stage {name}",
            got="nothing in this profile",
            expected="a plan",
            fix=f"Run `{evidence.again(name)}`.",
        )
    told = explain_plan(evidence, name)
    if as_json:
        import json
        from dataclasses import asdict

        print_json(json.dumps(asdict(told), indent=2, ensure_ascii=False))
    else:
        _print(told)


def _print(told: Explanation) -> None:
    from compass.cli.plain_console import PlainConsole
    from compass.cli.tables import print_rows

    console = PlainConsole()
    console.print(f"{told.stage}: {told.answer}")
    rows = [("why", told.why), ("limited by", told.limited_by)]
    rows += [(f"{'* ' if limit.limited_by else '  '}{limit.name}", limit.says) for limit in told.limits]
    rows += [("score" if place == 0 else "", line) for place, line in enumerate(told.score)]
    rows += [(f"+ {one.more}", one.says) for one in told.purchases]
    rows += [("beside it" if place == 0 else "", line) for place, line in enumerate(told.beside)]
    print_rows(rows)
    if told.purchases:
        console.print("The effects of more memory, time or data (+) are predictions by the cost models of the time.")
