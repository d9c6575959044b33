"""Every topic's partitions are shared out evenly, and stay where they are as far as that allows."""

from aiokafka import TopicPartition
from aiokafka.cluster import ClusterMetadata
from hypothesis import given
from hypothesis import strategies as st

from streams.engine.assignor import TopicwiseStickyAssignor

TOPICS = {"segment": 2, "leaves": 4, "companies": 2, "quarantine": 1}


def cluster(topics):
    made = ClusterMetadata()
    made._partitions = {topic: dict.fromkeys(range(count)) for topic, count in topics.items()}
    return made


def assigned(topics, held):
    """Assign to members who hold what they hold; returns the partitions of each."""
    members = {
        member: TopicwiseStickyAssignor._metadata(sorted(topics), partitions, generation=1)
        for member, partitions in held.items()
    }
    result = TopicwiseStickyAssignor.assign(cluster(topics), members)
    return {
        member: {TopicPartition(topic, number) for topic, numbers in assignment.assignment for number in numbers}
        for member, assignment in result.items()
    }


def test_a_worker_that_joins_gets_its_share_of_the_leaves_topic():
    first = assigned(TOPICS, {"a": None})
    both = assigned(TOPICS, {"a": sorted(first["a"]), "b": None})
    assert sum(partition.topic == "leaves" for partition in both["b"]) == 2
    assert both["a"] < first["a"]


@given(
    st.dictionaries(st.sampled_from("pqrs"), st.integers(1, 9), min_size=1),
    st.lists(st.sets(st.sampled_from("abcd"), min_size=1), min_size=1, max_size=4),
)
def test_every_partition_once_every_topic_evenly_and_nothing_moves_in_vain(topics, generations):
    everything = {TopicPartition(topic, number) for topic, count in topics.items() for number in range(count)}
    held = {}
    for members in generations:
        before = {member: sorted(held.get(member, ())) or None for member in members}
        held = assigned(topics, before)
        assert sorted(partition for partitions in held.values() for partition in partitions) == sorted(everything)
        for topic in topics:
            counts = [sum(partition.topic == topic for partition in partitions) for partitions in held.values()]
            assert max(counts) - min(counts) <= 1
        assert assigned(topics, {member: sorted(partitions) or None for member, partitions in held.items()}) == held
