//! sqlx: a protocol of its own, in binary, everything prepared.

use futures_util::TryStreamExt;
use postern_drivers::{
    END, Outcome, TLS, WAIT, Way, compare, lines, long_text, port, say, sum, variable,
};
use sqlx::postgres::{PgConnectOptions, PgListener, PgSslMode};
use sqlx::{ConnectOptions, Connection, Error, PgConnection};

fn options(way: &Way) -> PgConnectOptions {
    // Without the variables of libpq, which say something else.
    PgConnectOptions::new_without_pgpass()
        .host(&variable("PGHOST"))
        .port(port())
        .username(&variable("PGUSER"))
        .password(&way.password)
        .database(&variable("PGDATABASE"))
        .ssl_root_cert(&way.authority)
        .ssl_mode(match way.mode {
            "disable" => PgSslMode::Disable,
            "prefer" => PgSslMode::Prefer,
            "require" => PgSslMode::Require,
            "verify-ca" => PgSslMode::VerifyCa,
            _ => PgSslMode::VerifyFull,
        })
}

async fn connection() -> Result<PgConnection, Error> {
    options(&Way::full()).connect().await
}

fn code(error: &Error) -> String {
    let code = error.as_database_error().and_then(|it| it.code());
    code.map(|it| it.into_owned()).unwrap_or_default()
}

async fn alive(connection: &mut PgConnection) -> Result<String, Error> {
    let query = sqlx::query_scalar("select $1::text").bind("alive");
    query.fetch_one(connection).await
}

async fn outcome(way: &Way) -> Outcome {
    // It takes `allow` for `disable`.
    if way.mode == "allow" {
        return Ok("cannot".to_owned());
    }
    let mut connection = match options(way).connect().await {
        Ok(connection) => connection,
        Err(error) => return Ok(format!("refused {}", code(&error))),
    };
    let tls: bool = sqlx::query_scalar(TLS).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(if tls { "tls" } else { "plain" }.to_owned())
}

async fn filled() -> Result<PgConnection, Error> {
    let mut connection = connection().await?;
    sqlx::query("create temporary table card (n integer)")
        .execute(&mut connection)
        .await?;
    let mut copy = connection.copy_in_raw("copy card from stdin").await?;
    copy.send(lines().into_bytes()).await?;
    copy.finish().await?;
    Ok(connection)
}

async fn copy_in() -> Outcome {
    let mut connection = filled().await?;
    let query = sqlx::query_scalar("select count(*) || ' ' || sum(n) from card");
    Ok(query.fetch_one(&mut connection).await?)
}

async fn copy_out() -> Outcome {
    let mut connection = filled().await?;
    let copy = connection.copy_out_raw("copy card to stdout").await?;
    let parts: Vec<_> = copy.try_collect().await?;
    sum(std::str::from_utf8(&parts.concat())?)
}

async fn prepared() -> Outcome {
    let mut connection = connection().await?;
    let mut said = String::new();
    for number in 41..44_i32 {
        let query = sqlx::query_scalar::<_, i32>("select $1::int4 + 1").bind(number);
        said += &format!("{} ", query.fetch_one(&mut connection).await?);
    }
    Ok(said)
}

async fn notify() -> Outcome {
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1);
    let pool = pool.connect_with(options(&Way::full())).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen("card").await?;
    sqlx::query("notify card, 'hello'")
        .execute(&mut connection().await?)
        .await?;
    let heard = tokio::time::timeout(WAIT, listener.recv()).await??;
    Ok(heard.payload().to_owned())
}

async fn long_row() -> Outcome {
    let text = long_text();
    let query = sqlx::query_scalar::<_, String>("select $1::text").bind(&text);
    Ok(compare(
        &text,
        &query.fetch_one(&mut connection().await?).await?,
    ))
}

async fn failing() -> Outcome {
    let mut connection = connection().await?;
    match sqlx::query("select 1 / 0").execute(&mut connection).await {
        Ok(_) => Ok("no error".to_owned()),
        Err(error) => Ok(format!(
            "{} {}",
            code(&error),
            alive(&mut connection).await?
        )),
    }
}

async fn reconnect() -> Outcome {
    match sqlx::query(END).execute(&mut connection().await?).await {
        Ok(_) => Ok("it did not end".to_owned()),
        Err(_) => Ok(format!("ended {}", alive(&mut connection().await?).await?)),
    }
}

#[tokio::main]
async fn main() {
    for (name, way) in Way::all() {
        say(&name, outcome(&way).await);
    }
    say("cancel", Ok("cannot".to_owned()));
    say("copy-in", copy_in().await);
    say("copy-out", copy_out().await);
    say("prepared", prepared().await);
    say("notify", notify().await);
    say("long-row", long_row().await);
    say("error", failing().await);
    say("reconnect", reconnect().await);
}
