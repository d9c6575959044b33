"""One worker: a Faust app whose agents hand their batches to the stages of an engine."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import TYPE_CHECKING, Final

import faust
import faust.transport.drivers
import uvloop
from faust.types import StreamT

from streams.agents.company import CompanyHandler
from streams.agents.leaf import LeafHandler
from streams.agents.quarantine import QuarantineHandler
from streams.agents.router import RouterHandler
from streams.engine.batches import Arrived
from streams.engine.context import Context
from streams.engine.core import Engine, EngineApp
from streams.engine.records import hand_on_decoded_records
from streams.engine.restorer import EngineTable, EngineTableManager
from streams.engine.stage import Stage

if TYPE_CHECKING:
    from contracts.settings import Settings

SCHEME: Final = "tidemark"
"""URL scheme of the engine's transport in Faust's registry."""

FETCHED_RECORDS_MAX: Final = 5000
"""Records that one fetch hands over at most, in all partitions together."""

SESSION_TIMEOUT_S: Final = 10.0
"""A worker that was killed is missed after so long, and its partitions go to others."""

REBALANCE_TIMEOUT_S: Final = 60.0
"""How long the group waits for a worker that finishes its cycle: above the engine's own bound for that."""


GC_THRESHOLDS: Final = (100_000, 20, 50)
"""Python's own (700, 10, 10) would look through the records of a cycle dozens of times while it is decided."""


def build_app(settings: Settings, worker: str) -> EngineApp:
    """The worker's app: agents on every topic, the tables they keep, and the engine under them. Connects to nothing."""
    hand_on_decoded_records()
    faust.transport.drivers.TRANSPORTS.aliases.setdefault(SCHEME, "streams.engine.transport:BatchTransport")
    app = EngineApp(
        settings.app_id,
        broker=f"{SCHEME}://{settings.bootstrap_servers.replace(',', ';')}",
        datadir=str(settings.data_dir),
        store="memory://",
        Table=EngineTable,
        TableManager=EngineTableManager,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        web_enabled=False,
        broker_max_poll_records=FETCHED_RECORDS_MAX,
        broker_session_timeout=SESSION_TIMEOUT_S,
        broker_heartbeat_interval=SESSION_TIMEOUT_S / 5,
        broker_rebalance_timeout=REBALANCE_TIMEOUT_S,
    )
    context = Context(settings, worker)
    records_max = settings.cycle_records_max
    router = Stage("router", RouterHandler(context), cycle_records_max=records_max)
    leaf = Stage("leaf", LeafHandler(context), cycle_records_max=records_max)
    company = Stage("company", CompanyHandler(context), cycle_records_max=records_max)
    quarantine = Stage("quarantine", QuarantineHandler(context), cycle_records_max=records_max)
    engine = Engine(
        app,
        context,
        {
            **dict.fromkeys(settings.source_topics, router),
            settings.leaves_topic: leaf,
            settings.companies_topic: company,
            settings.quarantine_topic: quarantine,
        },
    )
    context.definitions.on_change(leaf.wake)
    context.definitions.on_change(company.wake)
    for name in ("leaves", "seen", "companies"):
        app.Table(name)

    async def hand_over(stream: StreamT[Arrived]) -> None:
        async for batch in stream:
            engine.arrived(batch)

    for stage, topics in (
        (router, settings.source_topics),
        (leaf, (settings.leaves_topic,)),
        (company, (settings.companies_topic,)),
        (quarantine, (settings.quarantine_topic,)),
    ):
        topic = app.topic(*topics, key_serializer="raw", value_serializer="raw", acks=False)
        app.agent(topic, name=stage.name)(hand_over)

    return app


def run_worker(settings: Settings, worker: str) -> None:
    """Run one worker until it is told to stop (SIGTERM, SIGINT); ends the process."""
    # Whatever is loaded now stays; a cycle makes tens of thousands of objects, none of them in reference cycles.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    app = build_app(settings, worker)
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    faust.Worker(app, loop=loop, loglevel=settings.log_level, redirect_stdouts=False).execute_from_commandline()
