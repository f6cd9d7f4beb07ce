"""`compass schema`: the JSON Schema of a profile."""

from __future__ import annotations

import json

from compass.cli.json_text import print_json
from compass.cli.options import AsJsonOption


def schema(as_json: AsJsonOption = False) -> None:  # noqa: ARG001 - every command takes --json; this one prints nothing else
    """Print the JSON Schema of hardware_profile.json: every field with its meaning and unit. It is JSON without --json too."""
    from compass.profile import json_schema

    print_json(json.dumps(json_schema(), indent=1, sort_keys=True, ensure_ascii=False))
