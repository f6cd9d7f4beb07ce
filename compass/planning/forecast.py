"""How long a planning run still takes, as a whole: every part that is to come, at the pace of those that are over."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from compass.records import STAGES, Stage

START, RUNTIME, MEMORY, TIMES, ALLOCATORS = "start", "runtime", "memory", "times", "allocators"
EXPECTED_S = {START: 8.0, RUNTIME: 12.0, MEMORY: 12.0, TIMES: 30.0, ALLOCATORS: 20.0}
"""Seconds of each part on two cores of 2026, until a part that is over shows the pace of this machine."""
EXPECTED_SEARCH_S, EXPECTED_CERTIFY_S, EXPECTED_SMOKE_S = 6.0, 45.0, 6.0
"""The same for the parts of a stage. Certificates are most of a run; they are expected anew once steps can be predicted."""
PRIOR_S = 5.0
"""Weight of the expectation against the parts that are over."""
FASTEST, SLOWEST = 0.02, 20.0
"""Limits of the pace: a repeated run finds nearly all in its ledger."""
LEAST_SHARE, OVERDUE_SHARE = 0.05, 0.5
"""A part that should be over needs this share of its expected time still, and of the time that it is overdue."""


def stage_part(phase: str, stage: Stage) -> str:
    """The part of a run that searches or certifies (`phase`) for `stage`."""
    return f"{phase} {stage}"


class Forecast:
    """The parts of a run in their order, with the seconds that each is expected to take or took."""

    def __init__(self, groups: Sequence[Sequence[Stage]] = (), *, clock: Callable[[], float] = time.monotonic) -> None:
        """`groups` are the stages to be decided, those of one group searched before one of them is certified."""
        self._clock, self._now = clock, START
        self._since_s, self._done_share = clock(), 0.0
        self._expected_s = {name: EXPECTED_S[name] for name in (START, RUNTIME, MEMORY)}
        self._took_s: dict[str, float] = {}
        self._stages = [stage for group in groups for stage in group]
        for group in groups:
            if TIMES not in self._expected_s and any(stage != STAGES[0] for stage in group):
                self._expected_s |= {name: EXPECTED_S[name] for name in (TIMES, ALLOCATORS)}
            timed = [stage for stage in group if stage in {"prototyping", "validation"}]
            self._expected_s |= {stage_part("search", stage): EXPECTED_SEARCH_S for stage in timed}
            for stage in group:
                seconds = EXPECTED_SMOKE_S if stage == STAGES[0] else EXPECTED_CERTIFY_S
                self._expected_s[stage_part("certify", stage)] = seconds

    def place(self, stage: Stage | None) -> str:
        """The stage and its place among those that are decided, in words; empty without one."""
        if stage not in self._stages:
            return ""
        return f"stage {self._stages.index(stage) + 1} of {len(self._stages)}, {stage}"

    def expect(self, part: str, seconds: float) -> None:
        """Expect `part` to take `seconds` from now on, or from its beginning, on this machine, whatever its pace so far."""
        if part == self._now:
            seconds += self._in_part_s
        if part in self._expected_s:
            self._expected_s[part] = seconds / self.pace

    @property
    def pace(self) -> float:
        """Seconds that a part takes here, for each that was expected; the present part counts as far as it is done."""
        in_part_s, here_s = self._in_part_s, self._expected_s[self._now]
        if self._done_share:
            done_s = self._done_share * here_s
        else:  # it says nothing before it is overdue
            in_part_s = max(0.0, in_part_s - here_s)
            done_s = 0.0
        took_s = PRIOR_S + in_part_s + sum(self._took_s.values())
        expected_s = PRIOR_S + done_s + sum(self._expected_s[part] for part in self._took_s)
        return min(SLOWEST, max(FASTEST, took_s / expected_s))

    def enter(self, part: str, done_share: float = 0.0) -> float:
        """Seconds that are left when `part` is under way and `done_share` of it done; 0 if that is not known."""
        if part != self._now and part in self._expected_s:
            self._end(part)
        self._done_share = done_share
        return self.left_s()

    def _end(self, then: str) -> None:
        """The present part is over; parts between it and `then` did not happen."""
        parts = list(self._expected_s)
        here, there = parts.index(self._now), parts.index(then)
        self._took_s[self._now] = self._took_s.get(self._now, 0.0) + self._in_part_s
        for skipped in parts[here + 1 : there]:
            if skipped not in self._took_s:
                del self._expected_s[skipped]
        self._now, self._since_s = then, self._clock()

    def left_s(self) -> float:
        """Seconds that are left of the whole run."""
        pace, parts = self.pace, list(self._expected_s)
        expected_s = pace * self._expected_s[self._now]
        rest_s = (1 - self._done_share) * expected_s
        if not self._done_share:
            overdue_s = self._in_part_s - expected_s
            rest_s = max(-overdue_s, LEAST_SHARE * expected_s + OVERDUE_SHARE * max(0.0, overdue_s))
        later = [part for part in parts[parts.index(self._now) + 1 :] if part not in self._took_s]
        return rest_s + pace * sum(self._expected_s[part] for part in later)

    @property
    def _in_part_s(self) -> float:
        return self._clock() - self._since_s
