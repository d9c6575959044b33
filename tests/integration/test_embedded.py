"""The embedded services on this machine: started, left behind, taken over, stopped."""

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from contracts.settings import Settings


async def test_session_services_take_a_record_and_a_statement(settings: Settings):
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(settings.source_topics[0], 1, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    await producer.start()
    sent = await producer.send_and_wait(settings.source_topics[0], b"{}")
    await producer.stop()
    assert sent.offset == 0

    connection = await asyncpg.connect(settings.dsn)
    assert await connection.fetchval("select current_setting('server_version_num')::int / 10000") >= 16
    await connection.close()
