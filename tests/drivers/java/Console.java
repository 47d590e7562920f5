// JDBC on the admin console, as a tool with a window uses it: by name, in both formats, and with
// transactions around everything.

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.Statement;
import java.sql.SQLException;
import java.util.Properties;

public final class Console {
    /** One more than the driver asks before it prepares a statement and wants binary values. */
    static final int ROUNDS = 6;

    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        properties.setProperty("user", System.getenv("PGUSER"));
        properties.setProperty("password", System.getenv("PGPASSWORD"));
        properties.setProperty("sslmode", "verify-full");
        properties.setProperty("sslrootcert", System.getenv("PGSSLROOTCERT"));
        properties.setProperty("ApplicationName", "a window");
        try (Connection console = DriverManager.getConnection(arguments[0], properties)) {
            System.out.println(console.isValid(10));
            read(console);
            console.setAutoCommit(false);
            read(console);
            console.commit();
            try (Statement statement = console.createStatement()) {
                statement.execute("select * from pg_class");
                System.out.println("answered");
            } catch (SQLException refusal) {
                System.out.println(refusal.getSQLState());
            }
            console.rollback();
            read(console);
        }
    }

    /** The type of a column, and a number of the limits, by a statement that is used again. */
    static void read(Connection console) throws SQLException {
        try (var limits = console.prepareStatement("show limits");
                var version = console.prepareStatement("show version")) {
            long most = 0;
            for (int round = 0; round < ROUNDS; round++) {
                try (ResultSet rows = limits.executeQuery()) {
                    while (rows.next()) {
                        if (rows.getString(1).equals("limits.sessions_max")) {
                            most = rows.getLong(2);
                        }
                    }
                }
            }
            try (ResultSet rows = version.executeQuery()) {
                rows.next();
                boolean isTime = rows.getTimestamp(3).getTime() > 0;
                System.out.println((most + 1) + " " + isTime);
            }
        }
    }
}
