"""The runner of a kind of node: probes on one of its places, and on another if that one is lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from compass.errors import CompassError, InputError, WorkerError
from compass.fleet.engine import FleetNode, NodeLostError
from compass.fleet.head import SURVEY_S, Head
from compass.fleet.kinds import NodeKind, Place
from compass.fleet.survey import check_versions
from compass.records import Description, Knobs, Outcome, ProbeSpec, RuntimeSettings

log = logging.getLogger(__name__)

LOOK_FOR_ANOTHER_S = 1.0
"""Between two looks for a node that takes the place of a lost one."""
_Answer = TypeVar("_Answer")


class Substitutes:
    """Where a kind's probes run now, and where they run after a loss."""

    def __init__(self, kind: NodeKind, head: Head, wait_s: float, others: Iterable[FleetNode] = ()) -> None:
        """`others` are the nodes that were there from the start, whatever their kind."""
        self.kind, self._head, self._wait_s = kind, head, wait_s
        self.present = kind.places[0]
        self.losses: list[str] = []
        """Every loss in the middle of a request, a sentence each."""
        self._known = {node.id for node in others} | {place.node.id for place in kind.places}

    def after_loss(self) -> Place:
        """Another place of the kind: one that was never lost, one that came meanwhile, or the same with a new agent.

        It has answered: an engine may take seconds to notice that a node is dead.

        Raises:
            InputError: there is none within the configured time.
        """
        deadline_s = time.monotonic() + self._wait_s
        while True:
            there = self._head.connections.engine.nodes()
            found = self._never_lost(there) or self._came(there) or self._again(there)
            if found is not None:
                log.warning("%s: going on with %s", self.kind.name, found.name)
                self.present = found
                return found
            if time.monotonic() > deadline_s:
                raise self._none_left(there)
            time.sleep(min(LOOK_FOR_ANOTHER_S, self._wait_s))

    def _never_lost(self, there: Iterable[FleetNode]) -> Place | None:
        ids, lost = {node.id for node in there}, self._head.connections.was_lost
        places = (place for place in self.kind.places if place.node.id in ids and not lost(place.node))
        return next((place for place in places if self._answers(place)), None)

    def _answers(self, place: Place) -> bool:
        try:
            self._head.look_at(place.node, timeout_s=min(SURVEY_S, self._wait_s))
        except NodeLostError:
            return False
        return True

    def _came(self, there: Iterable[FleetNode]) -> Place | None:
        """A place of this kind on a node that was not there at the start."""
        for node in there:
            if node.id in self._known:
                continue
            self._known.add(node.id)
            try:
                found = self._head.look_at(node)
                check_versions({node.name: found["versions"]}, allow_skew=True)
                places = () if found["missing"] else self._head.places_of(node, found)
            except (NodeLostError, CompassError) as error:
                log.warning("the new node %s cannot be used: %s", node.name, error)
                continue
            for place in places:
                if place.key == self.kind.key:
                    return place
        return None

    def _again(self, there: Iterable[FleetNode]) -> Place | None:
        """The present place, if its node is still there: its agent alone may have ended."""
        node = self.present.node
        is_there = any(one.id == node.id for one in there)
        return self.present if is_there and self._answers(self.present) else None

    def _none_left(self, there: Iterable[FleetNode]) -> InputError:
        losses = [f"{node.name}: {why}" for node, why in self._head.connections.losses]
        return InputError(
            f"kind {self.kind.name}",
            got=f"no node of it left within {self._wait_s:.0f} s ({'; '.join(losses)}); "
            f"there are {', '.join(node.name for node in there) or 'none'}",
            expected="one node that answers",
            fix="Start one and run the same command again: finished probes are kept.",
        )


class RemoteRunner:
    """A `Runner` on another machine. Outcomes are those of a runner there; a lost node is none.

    A probe that was lost with its node is made once more, elsewhere on its kind.
    """

    def __init__(self, head: Head, substitutes: Substitutes, settings: RuntimeSettings) -> None:
        self._head, self._substitutes, self._settings = head, substitutes, settings
        self._is_open = False

    def describe(self, knobs: Iterable[Knobs] = ()) -> Description:
        """The machine, the samples' loads, and the trainable parameters of `knobs`."""
        asked = list(knobs)
        return self._twice(
            lambda place: self._head.describe(place.node, place.device, self._settings, asked), "its description"
        )

    def probe(self, spec: ProbeSpec) -> Outcome:
        """Run the training steps of `spec`."""
        return self._twice(
            lambda place: self._head.probe(place.node, place.device, self._settings, spec), f"the probe of {spec.knobs}"
        )

    def prepare(self, specs: Iterable[ProbeSpec]) -> None:
        """Let the node start the workers of `specs`."""
        asked = list(specs)
        self._twice(lambda place: self._head.prepare(place.node, place.device, self._settings, asked), "a preparation")

    def close(self) -> None:
        """End the node's processes. A node that is lost has none."""
        if self._is_open:
            self._is_open = False
            place = self._substitutes.present
            try:
                self._head.close(place.node, place.device)
            except NodeLostError:
                log.debug("%s was lost before it was closed", place.name)

    def _twice(self, ask: Callable[[Place], _Answer], what: str) -> _Answer:
        """What the present place answers or, if it is lost, another one.

        Raises:
            InputError: no other place is left.
            WorkerError: the other one was lost too.
        """
        self._is_open = True
        first = self._substitutes.present
        try:
            return ask(first)
        except NodeLostError as error:
            self._substitutes.losses.append(f"{first.name} was lost: {error}")
            log.warning("%s: %s is made again, because %s was lost", self._substitutes.kind.name, what, first.name)
        second = self._substitutes.after_loss()
        try:
            return ask(second)
        except NodeLostError as error:
            self._substitutes.losses.append(f"{second.name} was lost: {error}")
            raise WorkerError(
                f"kind {self._substitutes.kind.name}: {what} was lost twice, last with {second.name}: {error}"
            ) from error
