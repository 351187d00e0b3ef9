//! A WebSocket (RFC 6455) and what is behind it: octets of the screen or of the serial line, both ways, with bounds.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, error::CapacityError};

use super::Stream;
use super::body::{Body, empty, text};
use super::connection::{Connection, Who};
use super::guard::Route;
use crate::proto::rfb::LookOnly;

/// Of a browser. What is typed or pasted is far less.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Of QEMU, a message each.
const CHUNK_BYTES: usize = 16 * 1024;
const READ_BYTES: usize = 8 * 1024;
/// Proxies close what is silent: some after 21 s (kubevirt#6493).
const PING_EVERY: Duration = Duration::from_secs(15);
/// Without a pong for so long, nobody is there.
const SILENT: Duration = Duration::from_secs(50);
/// For the word of farewell.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Why it ends, for the log and for the browser.
enum End {
    /// The browser closed it, or is gone.
    Left,
    Silent,
    /// QEMU or the guest's line is gone.
    Over,
    TooLarge,
    Refused(&'static str),
}

impl End {
    fn words(&self) -> &'static str {
        match self {
            Self::Left => "it left",
            Self::Silent => "it was silent",
            Self::Over => "QEMU closed it",
            Self::TooLarge => "a message was too large",
            Self::Refused(why) => why,
        }
    }

    /// RFC 6455 §7.4.1.
    fn code(&self) -> CloseCode {
        match self {
            Self::Left | Self::Silent => CloseCode::Normal,
            Self::Over => CloseCode::Away,
            Self::TooLarge => CloseCode::Size,
            Self::Refused(_) => CloseCode::Policy,
        }
    }
}

/// What is attached, in the log.
const SCREEN: &str = "screen";

/// The answer to whoever wants a WebSocket; from then on another task has it.
pub(super) async fn attach(
    mut request: Request<Incoming>,
    connection: &Connection,
    route: Route,
    who: Who,
) -> Response<Body> {
    let shared = connection.shared.clone();
    let Ok(response) = create_response_with_body(&request, || ()) else {
        let mut response = text(StatusCode::UPGRADE_REQUIRED, "this is for a WebSocket");
        let websocket = HeaderValue::from_static("websocket");
        response.headers_mut().insert(header::UPGRADE, websocket);
        return response;
    };
    let read_only = shared.read_only;
    let (name, stream) = match route {
        Route::Serial => match &shared.parts.serial {
            None => return text(StatusCode::NOT_FOUND, "there is no serial line here"),
            Some(serial) => ("serial line", serial.attach(&who.to_string(), read_only)),
        },
        _ => {
            let screen = shared.screen.attach().await;
            let boxed = |stream| Box::new(stream) as Box<dyn Stream>;
            (SCREEN, screen.map(boxed).map_err(|error| error.to_string()))
        }
    };
    let stream = match stream {
        Ok(stream) => stream,
        Err(why) => return text(StatusCode::SERVICE_UNAVAILABLE, why),
    };
    let look_only = (route == Route::Screen && read_only).then(LookOnly::default);
    let session = Session { stream, look_only, read_only };
    let upgrade = hyper::upgrade::on(&mut request);
    let room = connection.room.clone();
    tokio::spawn(async move {
        run(upgrade, session, name, &who).await;
        drop(room);
    });
    let mut answer = empty(StatusCode::SWITCHING_PROTOCOLS);
    answer.headers_mut().extend(response.into_parts().0.headers);
    if wants_binary(&request) {
        let binary = HeaderValue::from_static("binary");
        answer.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, binary);
    }
    answer
}

/// Older viewers name the one subprotocol there is.
fn wants_binary<T>(request: &Request<T>) -> bool {
    let all = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    all.filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .any(|word| word.trim() == "binary")
}

struct Session {
    stream: Box<dyn Stream>,
    /// Of a screen that may be looked at alone: what of the browser's words passes.
    look_only: Option<LookOnly>,
    /// Of other streams nothing does.
    read_only: bool,
}

async fn run(upgrade: OnUpgrade, session: Session, name: &'static str, who: &Who) {
    let Ok(upgraded) = upgrade.await else { return };
    let since = Instant::now();
    // Who reads the serial line is told by the console, which has it.
    let is_screen = name == SCREEN;
    if is_screen {
        tracing::info!(%who, read_only = session.read_only, "{name} attached");
    }
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES))
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * CHUNK_BYTES);
    let socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let end = relay(socket, session).await;
    let (seconds, why) = (since.elapsed().as_secs(), end.words());
    if is_screen {
        tracing::info!(%who, seconds, "{name} detached: {why}");
    } else {
        tracing::debug!(%who, seconds, "{name} detached: {why}");
    }
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Either way has its own pace, and one chunk under way; both end together.
async fn relay(socket: Socket, session: Session) -> End {
    let Session { stream, look_only, read_only } = session;
    let (mut to_browser, from_browser) = socket.split();
    let (from_qemu, to_qemu) = tokio::io::split(stream);
    let end = tokio::select! {
        end = show(from_qemu, &mut to_browser) => end,
        end = listen(from_browser, to_qemu, look_only, read_only) => end,
    };
    let frame = CloseFrame { code: end.code(), reason: end.words().into() };
    let _ = timeout(CLOSE_WITHIN, to_browser.send(Message::Close(Some(frame)))).await;
    end
}

async fn show(
    mut from: impl tokio::io::AsyncRead + Unpin,
    to: &mut futures_util::stream::SplitSink<Socket, Message>,
) -> End {
    let mut pings = interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.tick().await;
    loop {
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        let message = tokio::select! {
            read = from.read_buf(&mut chunk) => match read {
                Ok(0) | Err(_) => return End::Over,
                Ok(_) => Message::Binary(chunk.freeze()),
            },
            _ = pings.tick() => Message::Ping(Bytes::new()),
        };
        if to.send(message).await.is_err() {
            return End::Left;
        }
    }
}

async fn listen(
    mut from: futures_util::stream::SplitStream<Socket>,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    mut look_only: Option<LookOnly>,
    read_only: bool,
) -> End {
    loop {
        let Ok(message) = timeout(SILENT, from.next()).await else { return End::Silent };
        let bytes = match message {
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Text(_))) => return End::Refused("a text is not taken here"),
            Some(Err(Error::Capacity(CapacityError::MessageTooLong { .. }))) => {
                return End::TooLarge;
            }
            _ => return End::Left,
        };
        let bytes = match &mut look_only {
            None if read_only => continue,
            None => bytes,
            Some(filter) => {
                let mut passed = Vec::with_capacity(bytes.len());
                if filter.pass(&bytes, &mut passed).is_err() {
                    return End::Refused("what a viewer may not say, or is not known here");
                }
                passed.into()
            }
        };
        if to.write_all(&bytes).await.is_err() {
            return End::Over;
        }
    }
}
