import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.databind.JsonNode;

/** A Segment call, with the parts that this job needs: the second topic carries no others. */
@JsonIgnoreProperties(ignoreUnknown = true)
@JsonInclude(JsonInclude.Include.NON_NULL)
public final class Message {
    public String type;
    public String messageId;
    public String userId;
    public String anonymousId;
    public String timestamp;
    public String event;
    public String name;
    public JsonNode properties;
    public JsonNode traits;

    /** The identity: userId, else anonymousId; null where there is neither. */
    String leaf() {
        if (userId != null && !userId.isEmpty()) {
            return "user:" + userId;
        }
        return anonymousId == null || anonymousId.isEmpty() ? null : "anon:" + anonymousId;
    }
}
