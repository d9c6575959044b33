"""What a worker sends to partitions of its own, in the app as it is built; nothing is connected."""

from aiokafka.consumer import fetcher
from aiokafka.producer.message_accumulator import BatchBuilder

from contracts.settings import Settings
from streams.app import build_app
from streams.engine.batches import Partition


def batch_of(*values):
    builder = BatchBuilder(100_000, 0)
    for value in values:
        builder.append(timestamp=1_795_000_000_000, key=b"user:u1", value=value)
    return bytes(builder._build())


def test_a_stage_takes_in_at_once_what_any_stage_has_sent_to_it(tmp_path, monkeypatch):
    for name in ("MemoryRecords", "PartitionRecords", "FetchResult"):  # which the app replaces for its whole process
        monkeypatch.setattr(fetcher, name, getattr(fetcher, name))
    settings = Settings(bootstrap_servers="127.0.0.1:1", dsn="postgresql://nobody@127.0.0.1:1/none", data_dir=tmp_path)
    engine = build_app(settings, "w1").engine
    ours, another = (Partition(settings.leaves_topic, number) for number in (0, 1))
    leaf, router = engine.stage_of(ours), engine.stage_of(Partition(settings.source_topics[0], 0))
    leaf.own(ours, 5)
    leaf.open()

    for sender, to, offset in ((router, ours, 5), (leaf, ours, 7), (router, another, 0), (router, ours, 20)):
        sender.handler._outgoing.on_delivered(to, offset, 2, lambda: batch_of(b"{}", b"{}"))

    assert leaf.under_way().doing.endswith("; 4 records pending")
    (run, following) = leaf._pending[ours]
    assert [record.offset for record in (*run.records, *following.records)] == [5, 6, 7, 8]
