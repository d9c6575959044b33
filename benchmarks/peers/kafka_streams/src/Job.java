import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.LogAndContinueExceptionHandler;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Repartitioned;
import org.apache.kafka.streams.state.Stores;

/** The job on Kafka Streams: decode, repartition by identity, deduplicate, keep profiles, write to Postgres. */
public final class Job {
    private static final Duration DEDUPE_WINDOW = Duration.ofDays(30);
    private static final AtomicBoolean MARKED = new AtomicBoolean();

    public static void main(String[] arguments) throws InterruptedException {
        boolean exactlyOnce = "exactly_once_v2".equals(System.getenv("BENCH_GUARANTEE"));
        var builder = new StreamsBuilder();
        var messages = new JsonSerde<>(Message.class);
        builder.addStateStore(Stores.windowStoreBuilder(
                Stores.persistentWindowStore(Apply.SEEN, DEDUPE_WINDOW, Duration.ofMillis(1), false),
                Serdes.String(),
                Serdes.ByteArray()));
        builder.addStateStore(Stores.keyValueStoreBuilder(
                        Stores.persistentKeyValueStore(Apply.PROFILES), Serdes.String(), new JsonSerde<>(Profile.class))
                .withCachingEnabled());
        builder.stream("segment", Consumed.with(Serdes.ByteArray(), messages))
                .filter((key, message) -> {
                    mark();
                    return message != null && message.leaf() != null;
                })
                .selectKey((key, message) -> message.leaf())
                .repartition(Repartitioned.with(Serdes.String(), messages)
                        .withName("leaves")
                        .withNumberOfPartitions(Integer.parseInt(System.getenv("BENCH_PARTITIONS"))))
                .process(() -> new Apply(exactlyOnce), Apply.SEEN, Apply.PROFILES);

        var streams = new KafkaStreams(builder.build(), settings(exactlyOnce), new FlushBeforeCommit());
        var ended = new CountDownLatch(1);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.ERROR) {
                ended.countDown();
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            streams.close(Duration.ofSeconds(20));
            ended.countDown();
        }));
        streams.start();
        ended.await();
    }

    private static Properties settings(boolean exactlyOnce) {
        var settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "peer");
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, System.getenv("BENCH_BOOTSTRAP"));
        settings.put(StreamsConfig.STATE_DIR_CONFIG, System.getenv("BENCH_HOME"));
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, System.getenv("BENCH_THREADS"));
        settings.put(
                StreamsConfig.PROCESSING_GUARANTEE_CONFIG,
                exactlyOnce ? StreamsConfig.EXACTLY_ONCE_V2 : StreamsConfig.AT_LEAST_ONCE);
        settings.put(
                StreamsConfig.DESERIALIZATION_EXCEPTION_HANDLER_CLASS_CONFIG, LogAndContinueExceptionHandler.class);
        // The defaults, 30 s and 0.1 s, would add half a minute to the end of a run, and many small transactions.
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, exactlyOnce ? 250 : 500);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64L * 1024 * 1024);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 4 * 1024 * 1024);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 * 1024);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 50);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        return settings;
    }

    /** Tells, once, that the first record was read: in seconds of the clock that all processes of a machine share. */
    private static void mark() {
        if (MARKED.get() || MARKED.getAndSet(true)) {
            return;
        }
        Path place = Path.of(System.getenv("BENCH_MARK"));
        Path unfinished = place.resolveSibling(place.getFileName() + ".new");
        try {
            Files.writeString(unfinished, Double.toString(System.nanoTime() / 1e9));
            Files.move(unfinished, place, StandardCopyOption.ATOMIC_MOVE);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
