import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;

/** What is kept of an identity. Times are ISO 8601 texts in UTC, which sort as they are. */
@JsonInclude(JsonInclude.Include.NON_NULL)
public final class Profile {
    public String userId;
    public long pageViews;
    public String firstSeen;
    public String lastSeen;
    public String identifiedAt = "";
    public ObjectNode attributes = JsonNodeFactory.instance.objectNode();

    /** Takes a message in, whatever order messages come in. */
    void apply(Message message) {
        String at = message.timestamp;
        userId = message.userId;
        if (firstSeen == null || at.compareTo(firstSeen) < 0) {
            firstSeen = at;
        }
        if (message.type.equals("page")) {
            pageViews++;
            if (lastSeen == null || at.compareTo(lastSeen) > 0) {
                lastSeen = at;
            }
        } else if (message.type.equals("identify") && message.traits instanceof ObjectNode traits) {
            if (at.compareTo(identifiedAt) >= 0) {
                identifiedAt = at;
                attributes.setAll(traits);
            } else {
                ObjectNode older = traits.deepCopy();
                older.setAll(attributes);
                attributes = older;
            }
        }
    }

    String email() {
        JsonNode email = attributes.get("email");
        return email == null ? null : email.asText();
    }
}
