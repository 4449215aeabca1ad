//! A stream over a WebSocket: each event a text message, the end a close frame that says why.

use super::{
    pump::{Farewell, Message},
    seats::Seat,
};
use axum::{
    extract::ws::{CloseFrame, Message as Sent, WebSocket, WebSocketUpgrade, close_code},
    response::Response,
};
use serde_json::json;
use std::time::Duration;
use tokio::{sync::mpsc, time};

/// The close code for a reader that did not keep up; the reason is the last event that was sent.
const LAGGED: u16 = 4008;
/// What a reader has to say here is nothing, in as many bytes.
const READ_BYTES_MAX: usize = 4 << 10;
/// How long one message may take to leave. The pump loses patience earlier, so that its last word can still arrive.
const SEND_PATIENCE: Duration = Duration::from_secs(20);

/// Answers the upgrade, and relays until either side ends.
pub(super) fn accept(upgrade: WebSocketUpgrade, messages: mpsc::Receiver<Message>, seat: Seat) -> Response {
    upgrade
        .max_message_size(READ_BYTES_MAX)
        .max_frame_size(READ_BYTES_MAX)
        .on_upgrade(move |socket| relay(socket, messages, seat))
}

async fn relay(mut socket: WebSocket, mut messages: mpsc::Receiver<Message>, seat: Seat) {
    loop {
        tokio::select! {
            message = messages.recv() => {
                let Some(message) = message else { break };
                let is_last = matches!(message, Message::End(_));
                for sent in said(message) {
                    if !matches!(time::timeout(SEND_PATIENCE, socket.send(sent)).await, Ok(Ok(()))) {
                        return;
                    }
                }
                if is_last {
                    break;
                }
            }
            // Answers to pings and the reader's own close are the protocol's; anything else it says is not heard.
            heard = socket.recv() => if !matches!(heard, Some(Ok(_))) { return },
        }
    }
    // Until the reader has closed its side, too: else what is under way to it may be lost.
    let _ = time::timeout(SEND_PATIENCE, async { while let Some(Ok(_)) = socket.recv().await {} }).await;
    drop(seat);
}

fn said(message: Message) -> Vec<Sent> {
    let close = |code, reason: &str| Sent::Close(Some(CloseFrame { code, reason: reason.into() }));
    match message {
        Message::Event(frame, room) => {
            drop(room);
            vec![Sent::Text(frame.text.into())]
        }
        Message::Alive => vec![Sent::Ping(Vec::new().into())],
        Message::End(Farewell::Ended) => vec![close(close_code::NORMAL, "the run has ended")],
        Message::End(Farewell::Lagged { last_id }) => {
            let told = json!({ "event_type": "lagged", "resume_from": last_id }).to_string();
            vec![Sent::Text(told.into()), close(LAGGED, &last_id)]
        }
        Message::End(Farewell::Draining) => vec![close(close_code::RESTART, "the server restarts; connect again")],
        Message::End(Farewell::Refused) => vec![close(close_code::POLICY, "you may not follow this any more")],
        Message::End(Farewell::Failed) => vec![close(close_code::ERROR, "the stream broke; connect again")],
    }
}
