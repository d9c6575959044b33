"""The simulation finds bugs: each of these is planted, and must be caught within a bounded number of seeds."""

import logging

import pytest

from contracts.records import LeafLinks
from domain import fold, ownership
from streams.agents import leaf_partition, leaf_state
from streams.agents.leaf_cycle import LeafCycle
from streams.agents.leaf_partition import PartitionCycle
from tests.simulation import stages
from tests.simulation.kafka import Kafka
from tests.simulation.run import run


@pytest.fixture(autouse=True)
def _decided_in_python(monkeypatch):
    """The bugs are planted in Python."""
    monkeypatch.setattr(stages, "NATIVE_SHARE", 0.0)


SEEDS_MAX = 3000
"""Several times what the most hidden of these bugs needs; half a minute."""


def position_off(by):
    def plant(monkeypatch):
        decide = PartitionCycle.decide

        def wrong(self, *args, **kwargs):
            decided = yield from decide(self, *args, **kwargs)
            decided.applied = max(0, decided.applied + by)
            return decided

        monkeypatch.setattr(PartitionCycle, "decide", wrong)

    return plant


def changelog_before_outgoing(monkeypatch):
    settle = stages.Stage._settle

    def commit(self, plan):
        self.postgres.commit(plan.batch)
        plan.step = len(stages.COMMIT)
        return "postgres"

    def wrong(self, settling):
        done = settle(self, settling)
        if self.settling is None:
            for plan in settling.plans:
                for record in plan.outgoing:
                    self.kafka.append(record)
        return done

    monkeypatch.setattr(stages.Stage, "_commit", commit)
    monkeypatch.setattr(stages.Stage, "_settle", wrong)


def read_on_where_postgres_is(monkeypatch):
    take_over = stages.Stage.take_over

    def wrong(self, partition):
        owned = take_over(self, partition)
        owned.taken = owned.committed
        return owned

    monkeypatch.setattr(stages.Stage, "take_over", wrong)


def constant_version(monkeypatch):
    contribute = LeafCycle._contribute
    monkeypatch.setattr(LeafCycle, "_contribute", lambda self, leaf, _: contribute(self, leaf, 1))


def version_unchecked(monkeypatch):
    received = ownership.received

    def wrong(known, contribution):
        others = {} if known is None else {name: of for name, of in known.givers.items() if name != contribution.giver}
        return received(LeafLinks({} if known is None else known.claimed, others), contribution)

    monkeypatch.setattr(ownership, "received", wrong)


def withdrawal_forgets_its_version(monkeypatch):
    received = ownership.received

    def wrong(known, contribution):
        new = received(known, contribution)
        return LeafLinks(new.claimed, {name: giver for name, giver in new.givers.items() if giver.counters is not None})

    monkeypatch.setattr(ownership, "received", wrong)


def withdrawal_from_the_first_owner_alone(monkeypatch):
    take_in_claim, contribute = LeafCycle._take_in_claim, LeafCycle._contribute

    def note(self, leaf, letter):
        self.__dict__.setdefault("firsts", {}).setdefault(leaf, leaf_state.owner_of(leaf, self._known))
        take_in_claim(self, leaf, letter)

    def wrong(self, leaf, version):
        if self._owners.get(leaf):
            self._owners[leaf] = {self.firsts[leaf], leaf_state.owner_of(leaf, self._known)}
        contribute(self, leaf, version)

    monkeypatch.setattr(LeafCycle, "_take_in_claim", note)
    monkeypatch.setattr(LeafCycle, "_contribute", wrong)


def tie_of_claims_ignores_the_message_id(monkeypatch):
    def wrong(known):
        return min(((at, user) for at, _, user in ownership.claimants(known)), default=(0, None))[1]

    monkeypatch.setattr(ownership, "owner", wrong)


def first_claim_to_arrive_stays(monkeypatch):
    claimed = ownership.claimed
    monkeypatch.setattr(
        ownership,
        "claimed",
        lambda known, user, claim: known if known and user in known.claims else claimed(known, user, claim),
    )


def last_act_to_arrive_holds(monkeypatch):
    acted = ownership.acted

    def wrong(known, user, act):
        if known is not None:
            known = type(known)(known.claims, {name: each for name, each in known.acts.items() if name != user})
        return acted(known, user, act)

    monkeypatch.setattr(ownership, "acted", wrong)


def last_giver_wins_in_the_fold(monkeypatch):
    monkeypatch.setattr(fold, "merged_all", lambda one, other, *_: {**one, **other})


def nothing_is_seen_before(monkeypatch):
    load = leaf_state.load
    monkeypatch.setattr(leaf_partition, "load", lambda items, read, find: load(items, read, lambda keys: {}))


def repetitions_of_the_router_count(monkeypatch):
    mark_new = leaf_partition.mark_new
    monkeypatch.setattr(leaf_partition, "mark_new", lambda items, committed, _: mark_new(items, committed, {}))


def former_owner_is_not_fenced(monkeypatch):
    monkeypatch.setattr(Kafka, "fence", lambda *_: None)


def second_cycle_reads_past_the_first(monkeypatch):
    monkeypatch.setattr(stages.LeafStage, "_unstored", lambda *_: [])


@pytest.mark.parametrize(
    "plant",
    [
        pytest.param(position_off(-1), id="position_one_less"),
        pytest.param(position_off(1), id="position_one_more"),
        changelog_before_outgoing,
        read_on_where_postgres_is,
        constant_version,
        version_unchecked,
        withdrawal_forgets_its_version,
        withdrawal_from_the_first_owner_alone,
        tie_of_claims_ignores_the_message_id,
        first_claim_to_arrive_stays,
        last_act_to_arrive_holds,
        last_giver_wins_in_the_fold,
        nothing_is_seen_before,
        repetitions_of_the_router_count,
        former_owner_is_not_fenced,
        second_cycle_reads_past_the_first,
    ],
)
def test_a_planted_bug_is_caught(plant, monkeypatch):
    plant(monkeypatch)
    caught = next((seed for seed in range(1, SEEDS_MAX + 1) if run(seed).failures), None)
    assert caught is not None, f"no run of {SEEDS_MAX} has failed"
    logging.getLogger(__name__).info("caught by seed %d", caught)
