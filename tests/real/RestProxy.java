import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.errors.AuthenticationException;
import org.apache.kafka.common.errors.AuthorizationException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The v2 produce API of a Kafka REST proxy on Kafka's own Java producer. No package registry carries a proxy, and both
 * Confluent's and Strimzi's are a thin layer over this producer: what fails, how, and how long that takes is the
 * producer's, with its defaults; this file only puts it in the words of the one or the other.
 *
 * <p>Usage: RestProxy PORT BOOTSTRAP confluent|strimzi
 */
final class RestProxy {
    // Digits pass through as they came, so that what lands can be compared with the database's own.
    private static final ObjectMapper JSON = new ObjectMapper()
            .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
            .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
            .setNodeFactory(JsonNodeFactory.withExactBigDecimals(true));
    private static final String JSON_RECORDS = "application/vnd.kafka.json.v2+json";
    private static final String ANSWER = "application/vnd.kafka.v2+json";

    private final boolean strimzi;
    private final KafkaProducer<byte[], byte[]> producer;
    private final Admin admin;

    /** An answer that is an error as a whole. */
    private static final class Refusal extends Exception {
        private final int status;
        private final int code;

        Refusal(int status, int code, String message) {
            super(message);
            this.status = status;
            this.code = code;
        }
    }

    private RestProxy(String bootstrap, boolean strimzi) {
        this.strimzi = strimzi;
        // The proxies forgo idempotence. They share one producer, but for Strimzi's, which has one for each connection.
        producer = new KafkaProducer<>(
                Map.of("bootstrap.servers", bootstrap, "enable.idempotence", "false", "acks", strimzi ? "1" : "all"),
                new ByteArraySerializer(),
                new ByteArraySerializer());
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
    }

    public static void main(String[] args) throws IOException {
        // Without it each answer waits for the client's delayed acknowledgement.
        System.setProperty("sun.net.httpserver.nodelay", "true");
        var proxy = new RestProxy(args[1], args[2].equals("strimzi"));
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), 0);
        // A produce request holds its thread until the producer is done with each of its records.
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", proxy::handle);
        server.start();
    }

    private void handle(HttpExchange exchange) throws IOException {
        var body = exchange.getRequestBody().readAllBytes();
        int status = 200;
        JsonNode answer;
        try {
            var path = exchange.getRequestURI().getPath().split("/");
            if (path.length < 2 || path.length > 3 || !path[1].equals("topics")) {
                throw new Refusal(404, 404, "HTTP 404 Not Found");
            }
            answer = switch (exchange.getRequestMethod()) {
                case "GET" -> path.length == 2 ? topics() : topic(path[2]);
                case "POST" -> produce(path[2], exchange.getRequestHeaders().getFirst("Content-Type"), body);
                default -> throw new Refusal(405, 405, "HTTP 405 Method Not Allowed");
            };
            status = status(answer);
        } catch (Refusal refusal) {
            status = refusal.status;
            answer = JSON.createObjectNode().put("error_code", refusal.code).put("message", refusal.getMessage());
        } catch (RuntimeException | ExecutionException | InterruptedException error) {
            status = 500;
            int code = error.getCause() instanceof RetriableException ? 50003 : 500;
            answer = JSON.createObjectNode().put("error_code", code).put("message", String.valueOf(error.getMessage()));
        }
        var bytes = JSON.writeValueAsBytes(answer);
        exchange.getResponseHeaders().set("Content-Type", ANSWER);
        exchange.sendResponseHeaders(status, bytes.length);
        try (var out = exchange.getResponseBody()) {
            out.write(bytes);
        }
    }

    private JsonNode topics() throws ExecutionException, InterruptedException {
        ArrayNode names = JSON.createArrayNode();
        admin.listTopics().names().get().forEach(names::add);
        return names;
    }

    private JsonNode topic(String name) throws Refusal, ExecutionException, InterruptedException {
        try {
            var topic = admin.describeTopics(List.of(name)).topicNameValues().get(name).get();
            ObjectNode answer = JSON.createObjectNode().put("name", name);
            ArrayNode partitions = answer.putArray("partitions");
            for (TopicPartitionInfo partition : topic.partitions()) {
                partitions.addObject().put("partition", partition.partition()).put("leader", partition.leader().id());
            }
            return answer;
        } catch (ExecutionException error) {
            if (error.getCause() instanceof UnknownTopicOrPartitionException) {
                throw new Refusal(404, strimzi ? 404 : 40401, "Topic " + name + " not found.");
            }
            throw error;
        }
    }

    private JsonNode produce(String topic, String contentType, byte[] body) throws Refusal, InterruptedException {
        if (!JSON_RECORDS.equals(contentType)) {
            throw strimzi
                    ? new Refusal(400, 400, "The format of the request body is not supported")
                    : new Refusal(415, 415, "HTTP 415 Unsupported Media Type");
        }
        // One after the other, as the proxies do: an unknown topic holds each of them for the producer's max.block.ms.
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (JsonNode record : records(body)) {
            Integer partition = record.has("partition") ? record.get("partition").asInt() : null;
            sent.add(producer.send(
                    new ProducerRecord<>(topic, partition, bytes(record.get("key")), bytes(record.get("value")))));
        }
        ObjectNode answer = JSON.createObjectNode();
        if (!strimzi) {
            answer.putNull("key_schema_id").putNull("value_schema_id");
        }
        ArrayNode offsets = answer.putArray("offsets");
        for (Future<RecordMetadata> one : sent) {
            offsets.add(entry(one));
        }
        return answer;
    }

    private JsonNode records(byte[] body) throws Refusal {
        int invalid = strimzi ? 400 : 422;
        JsonNode request;
        try {
            request = JSON.readTree(body);
        } catch (JsonProcessingException error) {
            throw new Refusal(400, 400, "Bad Request: " + error.getOriginalMessage());
        } catch (IOException error) {
            throw new Refusal(400, 400, "Bad Request");
        }
        JsonNode records = request.get("records");
        if (records == null || !records.isArray() || records.isEmpty()) {
            throw new Refusal(invalid, invalid, "records may not be empty");
        }
        onlyFields(request, Set.of("records", "key_schema_id", "value_schema_id"), invalid);
        for (JsonNode record : records) {
            onlyFields(record, Set.of("key", "value", "partition"), invalid);
            if (strimzi && record.has("key") && !record.get("key").isTextual() && !record.get("key").isContainerNode()) {
                throw new Refusal(400, 400, "Validation error: key is no array, object or string");
            }
        }
        return records;
    }

    private static void onlyFields(JsonNode object, Set<String> known, int invalid) throws Refusal {
        for (Iterator<String> names = object.fieldNames(); names.hasNext(); ) {
            String name = names.next();
            if (!known.contains(name)) {
                throw new Refusal(invalid, invalid, "Unrecognized field: " + name);
            }
        }
    }

    private static byte[] bytes(JsonNode node) {
        try {
            return node == null || node.isNull() ? null : JSON.writeValueAsBytes(node);
        } catch (JsonProcessingException error) {
            throw new IllegalArgumentException(error);
        }
    }

    private JsonNode entry(Future<RecordMetadata> sent) throws InterruptedException {
        ObjectNode entry = JSON.createObjectNode();
        try {
            RecordMetadata at = sent.get();
            entry.put("partition", at.partition()).put("offset", at.offset());
            return strimzi ? entry : entry.putNull("error_code").putNull("error");
        } catch (ExecutionException failed) {
            Throwable cause = failed.getCause();
            String message = String.valueOf(cause.getMessage());
            if (strimzi) {
                boolean absent = message.contains("not present in metadata");
                return entry.put("error_code", absent ? 404 : 500).put("message", message);
            }
            entry.putNull("partition").putNull("offset");
            return entry.put("error_code", code(cause)).put("error", message);
        }
    }

    private static int code(Throwable cause) {
        if (cause instanceof AuthenticationException) {
            return 40101;
        }
        if (cause instanceof AuthorizationException) {
            return 40301;
        }
        if (cause instanceof RetriableException) {
            return 50003;
        }
        if (cause instanceof KafkaException) {
            return 50002;
        }
        throw new IllegalStateException(cause);
    }

    /** Failed records leave it at 200, but for those that the broker's access rules refuse. */
    private static int status(JsonNode answer) {
        for (JsonNode entry : answer.path("offsets")) {
            switch (entry.path("error_code").asInt()) {
                case 40101:
                    return 401;
                case 40301:
                    return 403;
                default:
            }
        }
        return 200;
    }
}
