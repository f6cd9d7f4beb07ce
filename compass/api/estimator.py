"""`compass.time_estimator`: the training times of profiles for SkyPilot's optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from compass.api.arguments import AnyPath, profile_of
from compass.integrations.skypilot import SkyResources, make_time_estimator
from compass.profile import Profile
from compass.records import Stage


def time_estimator(
    profile: Profile | AnyPath | Sequence[Profile | AnyPath], stage: Stage
) -> Callable[[SkyResources], int]:
    """A function for SkyPilot's `Task.set_time_estimator`: the seconds that the training of `stage` takes on given resources.

    Args:
        profile: a profile or its path, or several, one for each kind of card; the folder of `compass fleet optimize` has them.
        stage: the stage whose plan is trained.

    Raises:
        InputError: a profile cannot be read or has no plan of `stage`; and when it is called with a card of which there is no
            profile.
    """
    given = [profile] if isinstance(profile, Profile | Path | str) else list(profile)
    return make_time_estimator([profile_of(one) for one in given], stage)
