"""Which worker gets which partitions: of every topic as many each, and where they are already, if that is so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiokafka.cluster import ClusterMetadata
    from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
    from aiokafka.structs import TopicPartition


class TopicwiseStickyAssignor(StickyPartitionAssignor):  # type: ignore[misc]  # aiokafka is untyped
    """KIP-54's sticky assignor, a topic at a time.

    It balances the number of partitions over all topics together, so that a worker that joins may get none of the
    leaves topic, which is nearly all of the work, but every partition of the others.
    """

    name = "tidemark-topicwise-sticky"

    @classmethod
    def assign(
        cls, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Assign the partitions of each topic among the members that subscribe to it."""
        parsed = {member: cls.parse_member_metadata(metadata) for member, metadata in members.items()}
        assigned: dict[str, list[tuple[str, list[int]]]] = {member: [] for member in members}
        for topic in sorted({topic for metadata in parsed.values() for topic in metadata.subscription}):
            of_topic = {
                member: cls._metadata([topic], _of(topic, metadata.partitions), metadata.generation)
                for member, metadata in parsed.items()
                if topic in metadata.subscription
            }
            for member, assignment in super().assign(cluster, of_topic).items():
                assigned[member] += assignment.assignment
        return {
            member: ConsumerProtocolMemberAssignment(cls.version, partitions, b"")
            for member, partitions in assigned.items()
        }


def _of(topic: str, partitions: list[TopicPartition]) -> list[TopicPartition]:
    return [partition for partition in partitions if partition.topic == topic]
