"""Topics on a real Kafka: created once, found again, refused where they are not what the settings say."""

import asyncio

import msgspec
import pytest
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from contracts.errors import ServiceError, SettingError
from contracts.settings import Settings
from streams.engine.cluster import Cluster, partition_counts
from streams.topics import create_topics, topic_specs


async def configs_of(settings: Settings, topic: str) -> dict[str, str]:
    async with Cluster(settings).admin() as admin:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    (resource,) = answer.to_object()["resources"]
    return {entry["config_names"]: entry["config_value"] for entry in resource["config_entries"]}


async def test_topics_are_created_as_specified(settings: Settings):
    specs = topic_specs(settings)
    done = await create_topics(Cluster(settings), specs)
    assert set(done.created) == {spec.name for spec in specs}
    assert done.existing == ()
    async with Cluster(settings).admin() as admin:
        counts = await partition_counts(admin, done.created)
    assert counts == {spec.name: spec.partitions for spec in specs}
    for spec in specs:
        configs = await configs_of(settings, spec.name)
        assert {name: configs[name] for name in spec.configs} == spec.configs


async def test_creating_again_changes_nothing(settings: Settings):
    specs = topic_specs(settings)
    await create_topics(Cluster(settings), specs)
    done = await create_topics(Cluster(settings), specs)
    assert done.created == ()
    assert [topic.name for topic in done.existing] == [spec.name for spec in specs]


async def test_two_may_create_at_once(settings: Settings):
    specs = topic_specs(settings)
    both = await asyncio.gather(*(create_topics(Cluster(settings), specs) for _ in range(2)))
    assert sorted(name for done in both for name in done.created) == sorted(spec.name for spec in specs)


async def test_a_source_topic_may_have_any_number_of_partitions(settings: Settings):
    async with Cluster(settings).admin() as admin:
        await admin.create_topics([NewTopic(settings.source_topics[0], 5, 1)])
    done = await create_topics(Cluster(settings), topic_specs(settings))
    assert [(topic.name, topic.partitions) for topic in done.existing] == [(settings.source_topics[0], 5)]


async def test_an_internal_topic_with_other_partitions_is_refused(settings: Settings):
    await create_topics(Cluster(settings), topic_specs(settings))
    other = msgspec.structs.replace(settings, leaves_partitions=settings.leaves_partitions + 1)
    with pytest.raises(SettingError, match=r"leaves_partitions.*it has 4"):
        await create_topics(Cluster(other), topic_specs(other))


async def test_what_the_broker_refuses_is_told(settings: Settings):
    other = msgspec.structs.replace(settings, replication_factor=3)
    with pytest.raises(ServiceError, match=r"[Rr]eplication factor"):
        await create_topics(Cluster(other), topic_specs(other))
