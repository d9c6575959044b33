"""One run of the simulation, and whether it ended as the recomputation says."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from random import Random

from contracts.rows import IdentityAct
from tests.oracle import Tables, differences, recompute
from tests.simulation.scenario import BY_HAND_OF_ORACLE, Scenario, scenario
from tests.simulation.world import World


@dataclass
class Outcome:
    """How a run ended: it is right where there are no `failures`."""

    seed: int
    failures: list[str]
    events: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"seed {self.seed}:", *self.failures]
        return "\n    ".join(lines) + f"\nreplay: python -m tests.simulation --seed {self.seed} --events"


def run(seed: int, *, is_told: bool = False) -> Outcome:
    """Run one seed. The same seed does the same, in any process."""
    random = Random(seed)
    planned = scenario(random)
    world = World(planned, random, is_told=is_told)
    try:
        world.run()
    except Exception:  # noqa: BLE001  whatever stops the engine is what the simulation is to find
        return Outcome(seed, [traceback.format_exc()], world.events)
    return Outcome(seed, compared(world, planned), world.events)


def compared(world: World, planned: Scenario) -> list[str]:
    """Return what is wrong with the tables and counts of a world at rest."""
    expected = expected_tables(planned)
    failures = differences(expected, world.postgres.shown())
    progress = world.postgres.progress.values()
    counted = {
        "read": sum(each.read for each in progress),
        "applied": sum(each.applied for each in progress),
        "duplicate": sum(each.duplicate for each in progress),
        "quarantined": len(world.postgres.quarantine),
    }
    wanted = {
        "read": expected.read,
        "applied": expected.applied,
        "duplicate": expected.duplicate,
        "quarantined": sum(expected.quarantined.values()),
    }
    if counted != wanted:
        failures.append(f"counters: expected {wanted}, found {counted}")
    acts = {
        planned.act.act_id: IdentityAct(
            planned.act.act_id,
            planned.anonymous,
            planned.user,
            "allow" if planned.act.is_allowed else "unclaim",
            planned.act.at,
            planned.act.reason,
        )
        for planned in planned.acts
    }
    if world.postgres.acts != acts:
        failures.append(f"identity_acts: expected {acts}, found {world.postgres.acts}")
    return failures


def expected_tables(planned: Scenario) -> Tables:
    """Recompute the public tables."""
    records = [record for source in planned.sources for record in source]
    return recompute(records, definitions=BY_HAND_OF_ORACLE, claims=True, unclaimed=planned.unclaimed)
