"""Size statistics of a dataset's complexes, for the terminal and the profile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compass.data.oversize import oversize
from compass.data.scan.catalogue import Catalogue
from compass.data.scan.rows import Row
from compass.optimizer_config import DatasetRules
from compass.records import DatasetSummary, SizeSummary

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
N_LARGEST, N_BINS = 10, 20


def summarise_sizes(catalogue: Catalogue, rules: DatasetRules) -> DatasetSummary:
    """The size statistics of a dataset; histogram bins are spaced evenly in the logarithm."""
    rows = catalogue.usable
    beyond = oversize({row.id: row.sizes for row in rows}, rules.oversize_share)
    kept = [row for row in rows if row.id not in set(beyond)] if rules.oversize == "refuse" else rows
    return DatasetSummary(
        path=rules.path,
        n_complexes=len(catalogue.rows),
        n_usable=len(rows),
        n_labelled=sum(row.label is not None for row in rows),
        n_trained=sum(row.label is not None for row in kept) or len(kept),
        sizes=tuple(_feature(rows, name) for name, _ in rows[0].sizes),
        largest=tuple((row.id, row.sizes) for row in _by_size(rows)[:N_LARGEST]),
        oversize_policy=rules.oversize,
        oversize=beyond,
    )


def _feature(rows: Sequence[Row], name: str) -> SizeSummary:
    values = np.array([dict(row.sizes)[name] for row in rows])
    low, high = float(values.min()), float(values.max())
    edges = np.geomspace(max(low, 1.0), max(high, low + 1.0, 2.0), N_BINS + 1)
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return SizeSummary(
        feature=name,
        mean=float(values.mean()),
        quantiles=tuple((q, float(np.quantile(values, q))) for q in _QUANTILES),
        histogram=tuple((float(edge), int(count)) for edge, count in zip(edges[:-1], counts, strict=True)),
    )


def _by_size(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (*(-size for _, size in row.sizes[::-1]), row.id))
