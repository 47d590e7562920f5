//! tokio-postgres: a protocol of its own, in binary.

use futures_util::{SinkExt, StreamExt, TryStreamExt, stream};
use native_tls::{Certificate, TlsConnector};
use postern_drivers::{
    CANCEL_INTERVAL, END, Outcome, SLEEP, TLS, WAIT, Way, compare, lines, long_text, port, say,
    sum, variable,
};
use postgres_native_tls::MakeTlsConnector;
use tokio::sync::mpsc;
use tokio_postgres::config::SslMode;
use tokio_postgres::{AsyncMessage, Client, Config, Error};

type AnyError = Box<dyn std::error::Error>;

fn connector(way: &Way) -> Result<MakeTlsConnector, AnyError> {
    let mut builder = TlsConnector::builder();
    if ["prefer", "require"].contains(&way.mode) {
        builder.danger_accept_invalid_certs(true);
    } else {
        let authority = std::fs::read(&way.authority)?;
        builder.add_root_certificate(Certificate::from_pem(&authority)?);
    }
    // The driver itself knows no verify-ca; this is how its users say it.
    builder.danger_accept_invalid_hostnames(way.mode != "verify-full");
    Ok(MakeTlsConnector::new(builder.build()?))
}

/// A connection, and the notifications that come over it.
async fn connect(way: &Way) -> Result<(Client, mpsc::UnboundedReceiver<String>), AnyError> {
    let mut config = Config::new();
    config
        .host(variable("PGHOST"))
        .port(port())
        .user(variable("PGUSER"))
        .password(&way.password)
        .dbname(variable("PGDATABASE"))
        .ssl_mode(match way.mode {
            "disable" => SslMode::Disable,
            "prefer" => SslMode::Prefer,
            _ => SslMode::Require,
        });
    let (client, mut connection) = config.connect(connector(way)?).await?;
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        // An error ends the connection, and whoever asks next is told.
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(it) = message {
                let _ = sender.send(it.payload().to_owned());
            }
        }
    });
    Ok((client, receiver))
}

async fn client() -> Result<Client, AnyError> {
    Ok(connect(&Way::full()).await?.0)
}

fn code(error: &Error) -> String {
    error
        .code()
        .map(|it| it.code().to_owned())
        .unwrap_or_default()
}

async fn alive(client: &Client) -> Result<String, AnyError> {
    Ok(client
        .query_one("select $1::text", &[&"alive"])
        .await?
        .get(0))
}

async fn outcome(way: &Way) -> Outcome {
    // It has no such mode.
    if way.mode == "allow" {
        return Ok("cannot".to_owned());
    }
    let client = match connect(way).await {
        Ok((client, _)) => client,
        Err(error) => {
            let code = error.downcast_ref::<Error>().map(code).unwrap_or_default();
            return Ok(format!("refused {code}"));
        }
    };
    let tls: bool = client.query_one(TLS, &[]).await?.get(0);
    Ok(if tls { "tls" } else { "plain" }.to_owned())
}

async fn cancel() -> Outcome {
    let client = client().await?;
    let token = client.cancel_token();
    let connector = connector(&Way::full())?;
    let query = client.batch_execute(SLEEP);
    let mut turns = tokio::time::interval(CANCEL_INTERVAL);
    let repeat = async {
        loop {
            turns.tick().await;
            if let Err(error) = token.cancel_query(connector.clone()).await {
                return error;
            }
        }
    };
    tokio::select! {
        said = query => match said {
            Ok(()) => Ok("it slept to the end".to_owned()),
            Err(error) => Ok(format!("{} {}", code(&error), alive(&client).await?)),
        },
        error = repeat => Err(error.into()),
    }
}

async fn filled() -> Result<Client, AnyError> {
    let client = client().await?;
    client
        .batch_execute("create temporary table card (n integer)")
        .await?;
    let sink = client.copy_in("copy card from stdin").await?;
    let mut sink = Box::pin(sink);
    sink.send(std::io::Cursor::new(lines().into_bytes()))
        .await?;
    sink.as_mut().finish().await?;
    Ok(client)
}

async fn copy_in() -> Outcome {
    let client = filled().await?;
    let query = "select count(*) || ' ' || sum(n) from card";
    Ok(client.query_one(query, &[]).await?.get(0))
}

async fn copy_out() -> Outcome {
    let client = filled().await?;
    let parts: Vec<_> = client
        .copy_out("copy card to stdout")
        .await?
        .try_collect()
        .await?;
    sum(std::str::from_utf8(&parts.concat())?)
}

async fn prepared() -> Outcome {
    let client = client().await?;
    let statement = client.prepare("select $1::int4 + 1").await?;
    let mut said = String::new();
    for number in 41..44_i32 {
        let answer: i32 = client.query_one(&statement, &[&number]).await?.get(0);
        said += &format!("{answer} ");
    }
    Ok(said)
}

async fn notify() -> Outcome {
    let (listener, mut heard) = connect(&Way::full()).await?;
    listener.batch_execute("listen card").await?;
    client()
        .await?
        .batch_execute("notify card, 'hello'")
        .await?;
    let heard = tokio::time::timeout(WAIT, heard.recv()).await?;
    Ok(heard.unwrap_or_default())
}

async fn long_row() -> Outcome {
    let text = long_text();
    let row = client()
        .await?
        .query_one("select $1::text", &[&text])
        .await?;
    Ok(compare(&text, row.get(0)))
}

async fn failing() -> Outcome {
    let client = client().await?;
    match client.batch_execute("select 1 / 0").await {
        Ok(()) => Ok("no error".to_owned()),
        Err(error) => Ok(format!("{} {}", code(&error), alive(&client).await?)),
    }
}

async fn reconnect() -> Outcome {
    match client().await?.batch_execute(END).await {
        Ok(()) => Ok("it did not end".to_owned()),
        Err(_) => Ok(format!("ended {}", alive(&client().await?).await?)),
    }
}

#[tokio::main]
async fn main() {
    for (name, way) in Way::all() {
        say(&name, outcome(&way).await);
    }
    say("cancel", cancel().await);
    say("copy-in", copy_in().await);
    say("copy-out", copy_out().await);
    say("prepared", prepared().await);
    say("notify", notify().await);
    say("long-row", long_row().await);
    say("error", failing().await);
    say("reconnect", reconnect().await);
}
