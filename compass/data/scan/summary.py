"""The figures of a scan: how many complexes can be used, why the others cannot, and how large they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from compass.data.scan.catalogue import Catalogue
from compass.data.scan.rows import Row
from compass.records import Record
from compass.units import format_count, format_seconds

QUANTILES = (
    ("min", 0.0),
    ("5 %", 0.05),
    ("25 %", 0.25),
    ("50 %", 0.5),
    ("75 %", 0.75),
    ("95 %", 0.95),
    ("99 %", 0.99),
    ("max", 1.0),
)
N_EXAMPLES = 3
N_LARGEST = 10


class ComplexGroup(Record):
    """Complexes with a common status, reason or the like."""

    name: str
    n: int
    examples: tuple[str, ...]


class ScanSummary(Record):
    """The figures of a scan."""

    source: str
    catalogue: str
    digest: str
    labels_from: str
    warnings: tuple[str, ...]
    n_complexes: int
    n_read: int
    n_known: int
    """Complexes that were not read, because they are unchanged since an earlier scan."""
    took_s: float
    per_s: float
    """Complexes per second."""
    statuses: tuple[ComplexGroup, ...]
    reasons: tuple[ComplexGroup, ...]
    repairs: tuple[ComplexGroup, ...]
    labels: tuple[ComplexGroup, ...]
    """Usable complexes by label: exact, bounds, about, none."""
    splits: tuple[ComplexGroup, ...]
    noted: ComplexGroup
    """Usable complexes with notes."""
    quantiles: dict[str, dict[str, float]]
    """Feature → quantile → size, over the usable complexes."""
    largest: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]
    """(id, sizes), by the last feature, the largest first."""

    @property
    def n_usable(self) -> int:
        """Complexes that can be trained on."""
        return sum(group.n for group in self.statuses if group.name != "rejected")

    def __repr__(self) -> str:
        return (
            f"<scan of {self.source}: {format_count(self.n_usable)} of {format_count(self.n_complexes)} complexes can be used, "
            f"{format_seconds(self.took_s)}>"
        )


def summarise_scan(catalogue: Catalogue) -> ScanSummary:
    """The figures of `catalogue`."""
    about, usable = catalogue.about, catalogue.usable
    noted = [row.id for row in usable if row.notes]
    return ScanSummary(
        source=about.source,
        catalogue=str(catalogue.path),
        digest=catalogue.digest,
        labels_from=about.labels,
        warnings=about.warnings,
        n_complexes=len(catalogue.rows),
        n_read=about.n_read,
        n_known=about.n_known,
        took_s=about.took_s,
        per_s=(about.n_read + about.n_known) / about.took_s,
        statuses=_groups(catalogue.rows, lambda row: (row.status,), order=("ok", "repaired", "rejected")),
        reasons=_groups(catalogue.rows, lambda row: (row.reason,) if row.reason else ()),
        repairs=_groups(usable, lambda row: row.repairs),
        labels=_groups(usable, lambda row: (_certainty(row),), order=("exact", "bounds", "about", "none")),
        splits=_groups(usable, lambda row: (row.split,) if row.split else (), order=("train", "val", "test")),
        noted=ComplexGroup(name="noted", n=len(noted), examples=tuple(noted[:N_EXAMPLES])),
        quantiles=_quantiles(usable),
        largest=tuple(
            (row.id, row.sizes) for row in sorted(usable, key=lambda row: (-row.sizes[-1][1], row.id))[:N_LARGEST]
        ),
    )


def _groups(
    rows: Iterable[Row], names: Callable[[Row], Iterable[str]], order: Sequence[str] = ()
) -> tuple[ComplexGroup, ...]:
    """Group complexes by `names`: the groups of `order` in that order, or all by falling size."""
    ids: dict[str, list[str]] = {name: [] for name in order}
    for row in rows:
        for name in names(row):
            ids.setdefault(name, []).append(row.id)
    groups = [ComplexGroup(name=name, n=len(found), examples=tuple(found[:N_EXAMPLES])) for name, found in ids.items()]
    return tuple(groups if order else sorted(groups, key=lambda group: (-group.n, group.name)))


def _certainty(row: Row) -> str:
    if row.label is None:
        return "none"
    return {"=": "exact", "~": "about"}.get(row.label.relation, "bounds")


def _quantiles(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Quantiles without interpolation: each is the size of a real complex."""
    if not rows:
        return {}
    names, shares = zip(*QUANTILES, strict=True)
    features = [feature for feature, _ in rows[0].sizes]
    return {
        feature: dict(zip(names, np.quantile(sizes, shares, method="inverted_cdf").tolist(), strict=True))
        for feature, sizes in zip(features, np.array([[size for _, size in row.sizes] for row in rows]).T, strict=True)
    }
