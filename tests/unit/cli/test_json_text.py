"""JSON that any output can hold."""

import io
import json
import sys

import pytest

from compass.cli.json_text import print_json

VALUE = {"id": "Å → 🧬", "path": "a\udcff\x9b31m\u202e\u2028\x7f"}


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252", "gbk"])
def test_the_value_is_the_same_under_any_encoding(encoding, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    print_json(json.dumps(VALUE, ensure_ascii=False))
    sys.stdout.flush()
    text = raw.getvalue().decode(encoding)
    assert json.loads(text) == VALUE
    assert not set("\udcff\x9b\u202e\u2028\x7f") & set(text)
    assert ("Å" in text) == (encoding == "utf-8")
