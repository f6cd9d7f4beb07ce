"""Complexes whose files lie outside the folder that was named: through `..`, an absolute path or a symbolic link."""

from __future__ import annotations

import os

from compass.data.scan.listing import Listed, Listing
from compass.errors import printable


def outside_warning(listing: Listing) -> str | None:
    """A line that counts the complexes with files outside of the listing's folder, with the first one; None without any.

    They are read: datasets are often linked together. But the user should know, because a table may come from someone else.
    """
    root = os.path.realpath(listing.root)
    places: dict[str, str] = {}

    def real(name: str) -> str:
        folder, file = os.path.split(os.path.join(root, name))  # noqa: PTH118 - some ten thousand times
        if folder not in places:
            places[folder] = os.path.realpath(folder)
        path = os.path.join(places[folder], file)  # noqa: PTH118
        return os.path.realpath(path) if os.path.islink(path) else path  # noqa: PTH114

    def left_by(found: Listed) -> str | None:
        names = (*found.proteins, *found.ligands)
        return next((name for name in names if not real(name).startswith(os.path.join(root, ""))), None)  # noqa: PTH118

    outside = [(found.row.id, name) for found in listing.complexes if (name := left_by(found)) is not None]
    if not outside:
        return None
    id_, name = outside[0]
    n = len(outside)
    return f"{n:,} complex{'es have' if n > 1 else ' has'} files outside {listing.root.absolute()}, for example {printable(f'{id_}: {name}')}. They are read"
