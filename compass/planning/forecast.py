"""How long a planning run still takes, as a whole: every part that is to come, at the pace of those that are over.

A part is guessed at first. Once the laws are known, a certificate is predicted; its process starts take what they took before.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

from compass.records import STAGES, Stage

START, RUNTIME, MEMORY, TIMES, ALLOCATORS = "start", "runtime", "memory", "times", "allocators"
EXPECTED_S = {START: 8.0, RUNTIME: 12.0, MEMORY: 12.0, TIMES: 30.0, ALLOCATORS: 20.0}
"""Seconds of each part on two cores of 2026, until a part that is over shows the pace of this machine."""
EXPECTED_SEARCH_S, EXPECTED_CERTIFY_S, EXPECTED_SMOKE_S = 6.0, 45.0, 6.0
"""The same for the parts of a stage. Certificates are most of a run; they are expected anew once steps can be predicted."""
PRIOR_S = 12.0
"""Weight of the expectation against the parts that are over: a machine eight times as slow is known after its calibration."""
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
        self._predicted: set[str] = set()
        self._starts_s: list[float] = []
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
        """Expect `part` to take `seconds` from now on, or from its beginning: a prediction for this machine, no longer a guess."""
        if part not in self._expected_s:
            return
        self._predicted.add(part)
        before_s = self._in_part_s / self.pace(part) if part == self._now else 0.0
        self._expected_s[part] = before_s + seconds

    def started(self, seconds: float) -> None:
        """Note that a fresh process took `seconds` until it began its steps."""
        self._starts_s.append(max(0.0, seconds))

    @property
    def start_s(self) -> float:
        """Seconds until a fresh process begins its steps: as on this machine so far."""
        if self._starts_s:
            return fmean(self._starts_s)
        return self._took_s.get(START, EXPECTED_S[START])

    def pace(self, part: str) -> float:
        """Seconds that parts such as `part` take here, for each that was expected.

        What was predicted for this machine errs in another way than what was guessed, and each kind tells of its own. It is the
        geometric mean of the parts, by what was expected of each: one that another program holds up for minutes says
        little of the others.
        """
        is_predicted = part in self._predicted
        weight_s, logs = PRIOR_S, 0.0
        for name, took_s, expected_s in self._seen():
            if (name in self._predicted) == is_predicted and expected_s > 0:
                weight_s += expected_s
                logs += expected_s * math.log(min(SLOWEST, max(FASTEST, took_s / expected_s)))
        return math.exp(logs / weight_s)

    def _seen(self) -> Iterator[tuple[str, float, float]]:
        """(part, seconds that it took, seconds expected of it) of the parts that are over, and of the present one if it says something.

        It may be faster, by the share that is done, or overdue. Its steps are too unequal to say more.
        """
        for name, took_s in self._took_s.items():
            yield name, took_s, self._expected_s[name]
        here_s, in_part_s = self._expected_s[self._now], self._in_part_s
        if in_part_s > here_s:
            yield self._now, in_part_s, here_s
        elif self._done_share * here_s > in_part_s:
            yield self._now, in_part_s, self._done_share * here_s

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
        return self._rest_s() + self.later_s()

    def later_s(self) -> float:
        """Seconds of the parts after the present one."""
        parts = list(self._expected_s)
        later = [part for part in parts[parts.index(self._now) + 1 :] if part not in self._took_s]
        return sum(self.pace(part) * self._expected_s[part] for part in later)

    def _rest_s(self) -> float:
        """Seconds that are left of the present part."""
        expected_s, in_part_s = self.pace(self._now) * self._expected_s[self._now], self._in_part_s
        if self._done_share:
            return (1 - self._done_share) * max(expected_s, in_part_s)
        overdue_s = in_part_s - expected_s
        return max(-overdue_s, LEAST_SHARE * expected_s + OVERDUE_SHARE * max(0.0, overdue_s))

    @property
    def _in_part_s(self) -> float:
        return self._clock() - self._since_s
