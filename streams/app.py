"""One worker: a Faust app whose agents hand their batches to the stages of an engine."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import faust
import faust.transport.drivers
import uvloop
from faust.types import StreamT
from prometheus_client import disable_created_metrics

from contracts.errors import SettingError
from domain.user_agent import load_parser
from streams.agents.company import CompanyHandler
from streams.agents.leaf import LeafHandler
from streams.agents.quarantine import QuarantineHandler
from streams.agents.router import RouterHandler
from streams.endpoint import Endpoint
from streams.engine.batches import Arrived
from streams.engine.context import Context
from streams.engine.core import Engine, EngineApp
from streams.engine.producer import begin_transactions_soon
from streams.engine.records import hand_on_decoded_records
from streams.engine.restorer import EngineTable, EngineTableManager
from streams.engine.stage import Handler, Plan, Stage
from streams.gauges import Gauges
from streams.health import problems
from streams.memory import set_up_memory
from streams.native import native
from streams.repetitions import hold_back_repetitions

if TYPE_CHECKING:
    from collections.abc import Callable

    from contracts.settings import Settings
    from streams.metrics import Metrics, StageMeter

log = logging.getLogger(__name__)

SCHEME: Final = "tidemark"
"""URL scheme of the engine's transport in Faust's registry."""

FETCHED_RECORDS_MAX: Final = 5000
"""Records that one fetch hands over at most, in all partitions together."""

HEARTBEATS: Final = 8
"""In one session timeout. The others learn of a rebalance by the next one, which is a part of every failover; and a
session outlives several that come late. One is a few dozen bytes."""

REBALANCE_TIMEOUT_S: Final = 60.0
"""How long the group waits for a worker that finishes its cycle: above the engine's own bound for that."""

EXIT_INTERRUPTED: Final = 130
"""Exit code after a second Ctrl-C, as shells have it: 128 and the number of SIGINT."""

SIDE_CYCLE_S_MIN: Final = 0.5
"""Least time between two cycles of the stages with few records, companies and the quarantine: a cycle costs the broker
and Postgres as much for ten records as for a thousand. The first record after a rest is taken at once."""

SETTLE_S_MIN: Final = 0.1
"""Least time between two writes of the router's progress, and between two changelog transactions of the leaves, unless
there is much of it: nothing waits for them. What was forwarded since is forwarded again after a crash, and found out by
the leaves; what their changelogs lack is decided again."""


class WorkerApp(EngineApp):
    """The app of a worker, which answers over HTTP from before it connects to anything until it has let go of all."""

    endpoint: Endpoint
    metrics: Metrics
    hot_path: str
    """Which twin works: for the log."""

    async def on_first_start(self) -> None:
        """Listen first."""
        try:
            found = await self.endpoint.start()
        except SettingError as error:
            self.engine.fail(error)
        else:
            log.info("metrics and health: http://%s:%d", found.host, found.port)
            log.info("hot path: %s", self.hot_path)
            self.metrics.restarts.inc(found.starts - 1)
        await super().on_first_start()

    async def on_stop(self) -> None:
        """Stop listening last."""
        await super().on_stop()
        await self.endpoint.stop()


class Worker(faust.Worker):
    """Faust's worker, which does not take longer to stop than it may, and ends at once at the second Ctrl-C."""

    _interrupted = False

    def _on_sigint(self) -> None:
        if self._interrupted:
            os._exit(EXIT_INTERRUPTED)
        self._interrupted = True
        self._on_sigterm()

    def _on_sigterm(self) -> None:
        cast("WorkerApp", self.app).engine.told_to_stop()
        super()._on_sigterm()


def build_app(settings: Settings, worker: str) -> WorkerApp:
    """The worker's app: agents on every topic, the tables they keep, and the engine under them. Connects to nothing."""
    compiled = native(settings)
    hand_on_decoded_records(compiled)
    begin_transactions_soon()
    faust.transport.drivers.TRANSPORTS.aliases.setdefault(SCHEME, "streams.engine.transport:BatchTransport")
    app = WorkerApp(
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
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / HEARTBEATS,
        broker_rebalance_timeout=REBALANCE_TIMEOUT_S,
    )
    context = Context(settings, worker)

    def stage(name: str, handler: Callable[[Context, StageMeter], Handler[Plan]], **pace: float) -> Stage[Plan]:
        meter = context.metrics.stage(name)
        return Stage(name, handler(context, meter), meter, cycle_records_max=settings.cycle_records_max, **pace)

    router = stage("router", RouterHandler, settle_s_min=SETTLE_S_MIN)
    leaf = stage("leaf", LeafHandler, settle_s_min=SETTLE_S_MIN)
    company = stage("company", CompanyHandler, cycle_s_min=SIDE_CYCLE_S_MIN)
    quarantine = stage("quarantine", QuarantineHandler, cycle_s_min=SIDE_CYCLE_S_MIN)
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
    app.metrics = context.metrics
    app.hot_path = "pure Python" if compiled is None else "compiled"
    registry = context.metrics.registry
    registry.register(Gauges(engine, context))
    context.metrics.info.labels(worker, settings.app_version, importlib.metadata.version("tidemark")).set(1)
    app.endpoint = Endpoint(
        settings.http_host, settings.http_port, settings.data_dir / "http.json", registry, partial(problems, engine)
    )
    context.definitions.on_change(leaf.wake)
    context.definitions.on_change(company.wake)
    for name in ("leaves", "seen", "companies"):
        app.Table(name)

    async def hand_over(stream: StreamT[Sequence[Arrived]]) -> None:
        async for batches in stream:
            for batch in batches:
                engine.arrived(batch)

    for reader, topics in (
        (router, settings.source_topics),
        (leaf, (settings.leaves_topic,)),
        (company, (settings.companies_topic,)),
        (quarantine, (settings.quarantine_topic,)),
    ):
        topic = app.topic(*topics, key_serializer="raw", value_serializer="raw", acks=False)
        app.agent(topic, name=reader.name)(hand_over)

    return app


def run_worker(settings: Settings, worker: str) -> None:
    """Run one worker until it is told to stop (SIGTERM, SIGINT); ends the process."""
    load_parser()
    set_up_memory()
    # A series more for each counter, with the time of its first increment.
    disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client has not typed it
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    app = build_app(settings, worker)
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    hold_back_repetitions("aiokafka")
    Worker(app, loop=loop, loglevel=settings.log_level, redirect_stdouts=False).execute_from_commandline()
