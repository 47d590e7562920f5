//! The server for whoever collects the numbers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::{complaints, exposition, warnings};
use crate::gate::{CurrentPlane, Gate};
use crate::limits::{
    ACCEPT_PAUSE, METRICS_CLIENTS_MAX, METRICS_HEAD_TIMEOUT, METRICS_REQUEST_BYTES_MAX,
    METRICS_TIMEOUT,
};

/// The media type of OpenMetrics 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Answers for as long as the process runs. One request a connection, so many at a time, and each
/// within its time.
pub(crate) async fn serve(current: Arc<CurrentPlane>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(METRICS_CLIENTS_MAX));
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "metrics: a connection could not be accepted");
                // Out of descriptors, say: they come back when sessions end.
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::debug!(%client, "metrics: too many ask at once");
            continue;
        };
        let gate = current.gate();
        drop(tokio::spawn(async move {
            answer_one(&gate, stream, client).await;
            drop(place);
        }));
    }
}

async fn answer_one(gate: &Arc<Gate>, stream: TcpStream, client: SocketAddr) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(gate, &request);
        async { Ok::<_, Infallible>(answer) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    http.header_read_timeout(METRICS_HEAD_TIMEOUT);
    http.keep_alive(false)
        .max_buf_size(METRICS_REQUEST_BYTES_MAX);
    let served = http.serve_connection(TokioIo::new(stream), service);
    match timeout(METRICS_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%client, %error, "metrics: not HTTP"),
        Err(_) => tracing::debug!(%client, "metrics: a request took too long"),
    }
}

fn answer(gate: &Arc<Gate>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "GET and HEAD are answered\n",
        );
        let allowed = hyper::header::HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(ALLOW, allowed);
        return refused;
    }
    match request.uri().path() {
        "/metrics" => match exposition(gate) {
            Ok(text) => response(StatusCode::OK, OPEN_METRICS, text),
            Err(_) => plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the numbers cannot be told\n",
            ),
        },
        "/livez" => plain(StatusCode::OK, "ok\n"),
        "/readyz" => match complaints(gate) {
            none if none.is_empty() => {
                let mut lines = vec!["ok".to_owned()];
                lines.extend(
                    warnings(gate)
                        .into_iter()
                        .map(|it| format!("warning: {it}")),
                );
                plain(StatusCode::OK, &(lines.join("\n") + "\n"))
            }
            why => plain(StatusCode::SERVICE_UNAVAILABLE, &(why.join("\n") + "\n")),
        },
        _ => plain(
            StatusCode::NOT_FOUND,
            "there are /metrics, /livez and /readyz\n",
        ),
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    response(status, PLAIN, text.to_owned())
}

fn response(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
