import java.time.Instant;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.WindowStore;

/** Applies the messages of one partition of identities: once each, to their profiles, and to Postgres. */
final class Apply extends ContextualProcessor<String, Message, Void, Void> {
    static final String SEEN = "seen";
    static final String PROFILES = "profiles";
    private static final byte[] YES = {1};

    private final boolean exactlyOnce;
    private WindowStore<String, byte[]> seen;
    private KeyValueStore<String, Profile> profiles;

    Apply(boolean exactlyOnce) {
        this.exactlyOnce = exactlyOnce;
    }

    @Override
    public void init(ProcessorContext<Void, Void> context) {
        super.init(context);
        seen = context.getStateStore(SEEN);
        profiles = context.getStateStore(PROFILES);
    }

    @Override
    public void process(Record<String, Message> record) {
        Message message = record.value();
        String leaf = record.key();
        // A copy has the event time of its original: one window is looked up, not thirty days of them.
        long at = Instant.parse(message.timestamp).toEpochMilli();
        Profile profile = profiles.get(leaf);
        if (seen.fetch(message.messageId, at) != null) {
            if (!exactlyOnce && profile != null) {
                // After a crash the changelog may know a message that Postgres has not seen.
                Sink.ofThread().add(leaf, message, profile);
            }
            return;
        }
        seen.put(message.messageId, YES, at);
        if (profile == null) {
            profile = new Profile();
        }
        profile.apply(message);
        profiles.put(leaf, profile);
        Sink.ofThread().add(leaf, message, profile);
    }
}
