// JDBC: a protocol of its own.

import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;

public final class Card {
    static final String AUTHORITY = System.getenv("PGSSLROOTCERT");
    static final String PASSWORD = System.getenv("PGPASSWORD");
    static final int ROWS = 100_000;
    static final int WAIT_MS = 30_000;
    static final String[] MODES = {
        "disable", "allow", "prefer", "require", "verify-ca", "verify-full"
    };

    /** How often a cancel request is repeated until the query has ended. */
    static final int CANCEL_INTERVAL_MS = 1_000;

    interface Item {
        String play() throws Exception;
    }

    static Connection connect(String mode, String authority, String password)
            throws SQLException {
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT")
                + "/" + System.getenv("PGDATABASE");
        Properties properties = new Properties();
        properties.setProperty("user", System.getenv("PGUSER"));
        properties.setProperty("password", password);
        properties.setProperty("sslmode", mode);
        if (mode.startsWith("verify")) {
            properties.setProperty("sslrootcert", authority);
        }
        properties.setProperty("prepareThreshold", "1");
        return DriverManager.getConnection(url, properties);
    }

    static Connection connect() throws SQLException {
        return connect("verify-full", AUTHORITY, PASSWORD);
    }

    static String one(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getString(1);
        }
    }

    static String outcome(String mode, String authority, String password) throws SQLException {
        try (Connection connection = connect(mode, authority, password)) {
            String sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
            return one(connection, sql).equals("t") ? "tls" : "plain";
        } catch (SQLException error) {
            String state = error.getSQLState();
            return state.startsWith("08") ? "refused" : "refused " + state;
        }
    }

    static String cancel() throws Exception {
        try (Connection connection = connect();
                Statement statement = connection.createStatement()) {
            Thread thread = new Thread(() -> {
                try {
                    while (true) {
                        Thread.sleep(CANCEL_INTERVAL_MS);
                        statement.cancel();
                    }
                } catch (InterruptedException | SQLException over) {
                    // The query has ended, or its end shows what is wrong.
                }
            });
            thread.start();
            try {
                statement.executeQuery("select pg_sleep(60)");
                return "it slept to the end";
            } catch (SQLException error) {
                thread.interrupt();
                thread.join();
                return error.getSQLState() + " " + one(connection, "select 'alive'");
            }
        }
    }

    static Connection filled() throws Exception {
        Connection connection = connect();
        connection.createStatement().execute("create temporary table card (n integer)");
        String lines = IntStream.rangeClosed(1, ROWS).mapToObj(it -> it + "\n")
                .collect(Collectors.joining());
        PGConnection ours = connection.unwrap(PGConnection.class);
        ours.getCopyAPI().copyIn("copy card from stdin", new StringReader(lines));
        return connection;
    }

    static String copyIn() throws Exception {
        try (Connection connection = filled()) {
            return one(connection, "select count(*) || ' ' || sum(n) from card");
        }
    }

    static String copyOut() throws Exception {
        try (Connection connection = filled()) {
            StringWriter text = new StringWriter();
            PGConnection ours = connection.unwrap(PGConnection.class);
            ours.getCopyAPI().copyOut("copy card to stdout", text);
            String[] lines = text.toString().split("\n");
            long sum = 0;
            for (String line : lines) {
                sum += Long.parseLong(line);
            }
            return lines.length + " " + sum;
        }
    }

    static String prepared() throws Exception {
        StringBuilder said = new StringBuilder();
        try (Connection connection = connect();
                PreparedStatement statement = connection.prepareStatement("select ? + 1")) {
            for (int number = 41; number < 44; number++) {
                statement.setInt(1, number);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    said.append(rows.getInt(1)).append(' ');
                }
            }
        }
        return said.toString();
    }

    static String hear() throws Exception {
        try (Connection listener = connect(); Connection other = connect()) {
            listener.createStatement().execute("listen card");
            other.createStatement().execute("notify card, 'hello'");
            PGConnection ours = listener.unwrap(PGConnection.class);
            PGNotification[] heard = ours.getNotifications(WAIT_MS);
            return heard[0].getParameter();
        }
    }

    static String longRow() throws Exception {
        String text = "x".repeat(Integer.parseInt(System.getenv("CARD_ROW_BYTES")));
        try (Connection connection = connect();
                PreparedStatement statement = connection.prepareStatement("select ?::text")) {
            statement.setString(1, text);
            try (ResultSet rows = statement.executeQuery()) {
                rows.next();
                String back = rows.getString(1);
                return back.length() + (back.equals(text) ? " same" : " changed");
            }
        }
    }

    static String error() throws Exception {
        try (Connection connection = connect()) {
            try {
                return one(connection, "select 1 / 0");
            } catch (SQLException error) {
                return error.getSQLState() + " " + one(connection, "select 'alive'");
            }
        }
    }

    static String reconnect() throws Exception {
        try (Connection connection = connect()) {
            return one(connection, "select pg_terminate_backend(pg_backend_pid())");
        } catch (SQLException error) {
            try (Connection connection = connect()) {
                return "ended " + one(connection, "select 'alive'");
            }
        }
    }

    static void play(String name, Item item) {
        String outcome;
        try {
            outcome = item.play();
        } catch (Exception | OutOfMemoryError error) {
            outcome = "failed " + error;
        }
        System.out.println(name + "\t" + outcome.replaceAll("\\s+", " ").trim());
    }

    public static void main(String[] arguments) {
        for (String mode : MODES) {
            play("sslmode=" + mode, () -> outcome(mode, AUTHORITY, PASSWORD));
        }
        String foreign = System.getenv("CARD_FOREIGN_CA");
        play("foreign-authority", () -> outcome("verify-full", foreign, PASSWORD));
        play("wrong-password", () -> outcome("require", AUTHORITY, "not-this-one"));
        play("cancel", Card::cancel);
        play("copy-in", Card::copyIn);
        play("copy-out", Card::copyOut);
        play("prepared", Card::prepared);
        play("notify", Card::hear);
        play("long-row", Card::longRow);
        play("error", Card::error);
        play("reconnect", Card::reconnect);
    }
}
