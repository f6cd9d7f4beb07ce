"""Every number on the page and in the Markdown is in a record, or is named arithmetic on records.

The test formats every number of the profile's JSON in every way a report may say it, on its own, and then looks at each
number that is shown. It knows nothing of how the report is made.
"""

import html
import json
import re

import pytest

from compass.reporting.evidence import of_profile
from compass.reporting.markdown import markdown
from compass.reporting.page import html_page
from compass.reporting.view import view_of

NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
WORDS = {"90", "0", "1"}  # the 90 % interval; q = 0; "production's own is 1", "1 is exact", batch 1
UNITS = [(1024**4,), (1024**3,), (1024**2,), (1024,), (1,)]


def leaves(value):
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    elif isinstance(value, str):
        yield from NUMBER.findall(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)


def spellings(value):
    """Every way in which a report may say a number of the records."""
    if isinstance(value, str):
        return {value}
    value = abs(value)
    said = {f"{value:,.0f}", f"{value:g}", f"{value:.3g}", f"{value:.3f}", f"{value:.4f}", f"{value:.1f}"}
    said |= {f"{100 * value:.0f}", f"{100 * value:.1f}"}  # shares
    said |= {f"{value / unit:.2f}" for (unit,) in UNITS}  # bytes
    said |= {f"{value * 1000:.0f}", f"{value / 60:.1f}", f"{value / 3600:.1f}"}  # seconds
    said |= {f"{value / 60:.0f}", f"{value / 86400:.1f}", f"{value / 86400:,.0f}"}
    return said | {f"{value:,}" if value != int(value) else f"{int(value):,}"}


def derived(data):
    """Arithmetic on records that a report may show, by name."""
    config, reference = data["config"], data["reference"]
    cap = max(1, min(config["batch"]["max_batch"], int(data["dataset_size"] * config["batch"]["training_share"])))
    yield from (cap, len(data["probe_log"]))
    for stage in ("smoke_test", "prototyping", "validation", "production"):
        entry, rules = data["plans"].get(stage) or data["failures"].get(stage), config["stages"][stage]
        if entry is None:
            continue
        if rules["target_s"]:
            yield rules["target_s"] + rules["window_s"]
        yield 1 - rules["quality_weight"]
        rows = entry["candidates"]
        yield from (len(rows), len(rows) + 1)
        verdicts = [row["verdict"] for row in rows]
        yield from (verdicts.count(kind) for kind in set(verdicts))
        n_next = len(entry.get("runners_up", ()))
        yield from (n_next, verdicts.count("admissible") - n_next)
        for row in rows:
            yield row["capacity"] / reference["capacity"]
            if row["step_s"]:
                yield from (row["batch_size"] / row["step_s"], row["step_s"] * config["cycle_batches"])
        yield from between(entry)
        if "choice" in entry:
            yield entry["choice"]["capacity"] / reference["capacity"]
            yield from held(entry)
            yield from (f"{entry['measured']['throughput'] / entry['predicted']['throughput']:.2f}",
                        f"{entry['measured']['cycle_s'] / entry['predicted']['cycle_s']:.2f}")  # fmt: skip
            if terms := entry["measured"]["terms"]:
                total = terms["samples"] + terms["parameters"]
                yield from (total, 1 - terms["worth"])
                yield from (abs(other["score"] / total - 1) for other in entry["runners_up"] if other["score"])
    yield from probes(data["probe_log"])


def held(entry):
    """The parts of the memory of a plan."""
    parameters, live_bytes = entry["choice"]["capacity"], entry["measured"]["live_bytes"]
    beyond_bytes = entry["measured"]["footprint_bytes"] - live_bytes
    process_bytes = min(entry["bytes_law"]["baseline_bytes"], beyond_bytes)
    yield from (
        4 * parameters,
        8 * parameters,
        live_bytes - 16 * parameters,
        process_bytes,
        beyond_bytes - process_bytes,
    )


def between(entry):
    """What more of something would change, relative to what would be chosen now."""
    picks = [one["pick"] for one in entry["what_ifs"] if one["pick"]]
    for one in picks:
        for other in picks:
            rates = [pick["batch_size"] / pick["step_s"] for pick in (one, other)]
            for before, after in ((one["capacity"], other["capacity"]), rates):
                yield from (after / before, abs(after / before - 1))


def probes(trail):
    expected = [note for note in trail if note["expected"]]
    timed = [note for note in expected if note["expected"]["step_s"] and note["step"]]
    yield from range(1, len(trail) + 1)  # each probe's place
    yield sum(note["wall_s"] for note in trail)
    ratios = [note["step"]["median_s"] / note["expected"]["step_s"] for note in timed]
    yield from ratios
    yield max((abs(ratio - 1) for ratio in ratios), default=0)
    for note in timed:
        factor = 2.718281828459045 ** (1.645 * note["expected"]["spread"])
        yield from (note["expected"]["step_s"] / factor, note["expected"]["step_s"] * factor)


def visible(page):
    """The text of the page, with the tables that scripts would fill, without the plots' coordinates."""
    data = json.loads(re.search(r'<script type="application/json" id="evidence">(.*?)</script>', page, re.DOTALL)[1])
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    text = re.sub(r"<[^>]*>", " ", re.sub(r"<time.*?</time>", " ", text))
    cells = [cell for table in data["tables"].values() for row in table["rows"] for cell in row]
    said = [one["says"] for one in data["figures"].values()]
    keys = [series["name"] for one in data["figures"].values() for series in one["series"]]
    return " ".join([html.unescape(text), *cells, *said, *keys])


@pytest.mark.parametrize("name", ["whole", "tight", "with_data"])
@pytest.mark.parametrize("form", ["page", "markdown"])
def test_every_number_traces_to_a_record(request, name, form):
    profile = request.getfixturevalue(name)
    view = view_of(of_profile(profile, "p.json"))
    text = visible(html_page(view)) if form == "page" else html.unescape(markdown(view)).replace("\\", "")
    data = json.loads(profile.model_dump_json())
    known = set(WORDS)
    for value in (*leaves(data), *derived(data)):
        known |= spellings(value)
    known |= set(NUMBER.findall(view.created))
    known |= set(NUMBER.findall(profile.fingerprint.key))
    if profile.dataset:
        known |= {f"{plan.certificate.worst[one.feature] / plan.certificate.worst.graphs:,.0f}"
                  for plan in profile.plans.values() for one in profile.dataset.sizes}  # fmt: skip
    assert len(NUMBER.findall(text)) > (1000 if form == "page" else 60)
    unknown = {number for number in NUMBER.findall(text) if number.rstrip(",") not in known}
    assert unknown == set()


def test_the_test_would_see_a_number_that_is_in_no_record(whole):
    data = json.loads(whole.model_dump_json())
    known = set().union(*(spellings(value) for value in (*leaves(data), *derived(data))))
    made_up = [f"{n / 7:.2f} GiB" for n in range(300, 600)]
    assert sum(text.split()[0] in known for text in made_up) < len(made_up) / 10


@pytest.mark.parametrize("stage", ["smoke_test", "prototyping", "validation", "production"])
def test_the_cards_say_what_the_plan_says(whole, view, stage):
    plan = whole.plans[stage]
    card = next(one for one in view.stages if one.stage == stage)
    said = {gauge.label: gauge for gauge in card.gauges}
    knobs, footprint_bytes = plan.choice.knobs, plan.measured.footprint_bytes
    assert card.headline == f"{knobs.layers} × {knobs.channels} fp32, batch {plan.choice.batch_size}"
    assert said["parameters"].says == f"{plan.choice.capacity:,}"
    assert said["memory"].share == footprint_bytes / plan.certificate.ceiling_bytes
    assert said["memory"].says.startswith(
        f"{footprint_bytes / 1024**3:.2f}" if footprint_bytes >= 1024**3 else f"{footprint_bytes / 1024**2:.2f}"
    )
    rules = whole.config.stages[stage]
    allowed = rules.target_s + rules.window_s if rules.target_s else None
    assert said["cycle"].share == (plan.measured.cycle_s / allowed if allowed else None)
    assert card.limited_by == plan.limited_by
