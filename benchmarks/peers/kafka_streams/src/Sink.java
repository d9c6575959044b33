import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Rows on their way to Postgres: one connection and one batch a stream thread. What is in the batch is written in one
 * transaction when it is full, and always before offsets are committed (see FlushBeforeCommit). Every statement can be
 * repeated: rows have keys of their own, and a profile is written as it is, not as a difference.
 */
final class Sink {
    /** Rows a transaction: large enough that its cost does not show, small enough for a few MiB of memory. */
    private static final int ROWS_MAX = 10_000;

    private static final ThreadLocal<Sink> OF_THREAD = ThreadLocal.withInitial(Sink::new);

    private static final String VIEWS = "insert into peer.page_views"
            + " (message_id, leaf, event_time, url, path, title, referrer, name, properties)"
            + " values (?, ?, ?::timestamptz, ?, ?, ?, ?, ?, ?::jsonb) on conflict do nothing";
    private static final String OCCURRENCES = "insert into peer.event_occurrences"
            + " (message_id, leaf, event, event_time, properties)"
            + " values (?, ?, ?, ?::timestamptz, ?::jsonb) on conflict do nothing";
    private static final String PROFILES = "insert into peer.profiles as p"
            + " (profile_id, user_id, email, page_views, first_seen, last_seen, attributes)"
            + " values (?, ?, ?, ?, ?::timestamptz, ?::timestamptz, ?::jsonb)"
            + " on conflict (profile_id) do update set user_id = excluded.user_id, email = excluded.email,"
            + " page_views = excluded.page_views, first_seen = excluded.first_seen, last_seen = excluded.last_seen,"
            + " attributes = excluded.attributes";

    private record Row(String leaf, Message message) {}

    private final List<Row> views = new ArrayList<>();
    private final List<Row> occurrences = new ArrayList<>();
    private final Map<String, Profile> profiles = new HashMap<>();
    private Connection connection;

    static Sink ofThread() {
        return OF_THREAD.get();
    }

    void add(String leaf, Message message, Profile profile) {
        switch (message.type) {
            case "page" -> views.add(new Row(leaf, message));
            case "track" -> occurrences.add(new Row(leaf, message));
            default -> { }
        }
        profiles.put(leaf, profile);
        if (views.size() + occurrences.size() >= ROWS_MAX) {
            flush();
        }
    }

    void flush() {
        if (profiles.isEmpty()) {
            return;
        }
        try {
            write();
        } catch (SQLException error) {
            throw new IllegalStateException("Postgres refused a batch", error);
        }
        views.clear();
        occurrences.clear();
        profiles.clear();
    }

    private void write() throws SQLException {
        if (connection == null) {
            connection = DriverManager.getConnection(System.getenv("BENCH_JDBC_URL"));
            connection.setAutoCommit(false);
        }
        try (PreparedStatement insert = connection.prepareStatement(VIEWS)) {
            for (Row row : views) {
                Message message = row.message;
                insert.setString(1, message.messageId);
                insert.setString(2, row.leaf);
                insert.setString(3, message.timestamp);
                insert.setString(4, text(message, "url"));
                insert.setString(5, text(message, "path"));
                insert.setString(6, text(message, "title"));
                insert.setString(7, text(message, "referrer"));
                insert.setString(8, message.name);
                insert.setString(9, properties(message));
                insert.addBatch();
            }
            insert.executeBatch();
        }
        try (PreparedStatement insert = connection.prepareStatement(OCCURRENCES)) {
            for (Row row : occurrences) {
                insert.setString(1, row.message.messageId);
                insert.setString(2, row.leaf);
                insert.setString(3, row.message.event);
                insert.setString(4, row.message.timestamp);
                insert.setString(5, properties(row.message));
                insert.addBatch();
            }
            insert.executeBatch();
        }
        try (PreparedStatement upsert = connection.prepareStatement(PROFILES)) {
            for (Map.Entry<String, Profile> entry : profiles.entrySet()) {
                Profile profile = entry.getValue();
                upsert.setString(1, entry.getKey());
                upsert.setString(2, profile.userId);
                upsert.setString(3, profile.email());
                upsert.setLong(4, profile.pageViews);
                upsert.setString(5, profile.firstSeen);
                upsert.setString(6, profile.lastSeen);
                upsert.setString(7, profile.attributes.toString());
                upsert.addBatch();
            }
            upsert.executeBatch();
        }
        connection.commit();
    }

    private static String text(Message message, String name) {
        return message.properties == null || !message.properties.path(name).isTextual()
                ? null
                : message.properties.get(name).textValue();
    }

    private static String properties(Message message) {
        return message.properties == null ? "{}" : message.properties.toString();
    }
}
