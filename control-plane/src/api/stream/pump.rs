//! What a reader is told when: events as they come, signs of life, and one last word.
//!
//! Between the source and the reader's connection lies a buffer of a fixed size. While it is full, nothing is read from the
//! source; when it stays full for too long, the reader is let go. The last word has a place of its own in the buffer.

use super::super::problem::Problem;
use crate::operations::OperationError;
use futures_util::{Stream, StreamExt};
use std::{collections::VecDeque, pin::pin, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{self, Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

/// Messages between the source and the connection: what a reader may be behind without anything being held up.
const BUFFER_MESSAGES: usize = 256;
/// What these messages take together, where they are more than one.
const BUFFER_BYTES: usize = 256 * 1024;

/// One event as it is sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Frame {
    /// What a reader names to go on after it; nothing where that is no place to go on from. Such an event is sent if there is room
    /// for it at once, and else lost.
    pub(super) id: Option<String>,
    /// The event as JSON.
    pub(super) text: String,
}

/// Why a source has no more although nothing ended.
#[derive(Debug)]
pub(super) enum Break {
    /// The reader took too slowly for it.
    Lost,
    /// It failed, which the log was told.
    Told,
    /// It failed.
    Failed(OperationError),
}

/// What a reader is told.
#[derive(Debug)]
pub(super) enum Message {
    /// An event, and what it takes of the buffer until it is handed on.
    Event(Frame, Room),
    /// Nothing happened, and the stream is there.
    Alive,
    /// The last message.
    End(Farewell),
}

/// What a frame takes of the buffer.
#[derive(Debug)]
pub(super) struct Room {
    _bytes: OwnedSemaphorePermit,
}

/// Why a stream ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Farewell {
    /// The run has ended, and all is told.
    Ended,
    /// The reader did not keep up.
    Lagged {
        /// The last event that was sent.
        last_id: String,
    },
    /// The server ends.
    Draining,
    /// The reader may not follow any more, or nobody can say whether.
    Refused,
    /// The source failed.
    Failed,
}

/// How often and how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How long the buffer may stay full.
    pub(super) patience: Duration,
    /// How often there is a sign of life: proxies cut connections that are silent for a minute.
    pub(super) alive: Duration,
    /// How often it is looked whether the reader still may follow.
    pub(super) permitted: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { patience: Duration::from_secs(10), alive: Duration::from_secs(15), permitted: Duration::from_secs(30) }
    }
}

/// Moves events from a source to a reader.
pub(super) struct Pump<F> {
    pub(super) pace: Pace,
    /// Cancelled when the server ends.
    pub(super) draining: CancellationToken,
    /// Whether the reader still may follow.
    pub(super) still_permitted: F,
}

impl<F, P> Pump<F>
where
    F: Fn() -> P + Send + Sync + 'static,
    P: Future<Output = Result<(), Problem>> + Send,
{
    /// Begins, in a task that ends with the source or with the reader. `last_id` is what the reader has already.
    pub(super) fn start(
        self,
        events: impl Stream<Item = Result<Vec<Frame>, Break>> + Send + 'static,
        last_id: String,
    ) -> mpsc::Receiver<Message> {
        let (sender, messages) = mpsc::channel(BUFFER_MESSAGES);
        let last_word = sender.clone().try_reserve_owned().expect("a new buffer is empty");
        tokio::spawn(async move {
            if let Some(farewell) = self.run(events, &sender, last_id).await {
                last_word.send(Message::End(farewell));
            }
        });
        messages
    }

    /// Why it ended; nothing where the reader is gone.
    async fn run(
        self,
        events: impl Stream<Item = Result<Vec<Frame>, Break>>,
        sender: &mpsc::Sender<Message>,
        mut last_id: String,
    ) -> Option<Farewell> {
        let mut events = pin!(events);
        let room = Arc::new(Semaphore::new(BUFFER_BYTES));
        let mut waiting: VecDeque<Frame> = VecDeque::new();
        let mut taken_at = Instant::now();
        let mut alive = ticks(self.pace.alive);
        let mut permitted = ticks(self.pace.permitted);
        loop {
            tokio::select! {
                biased;
                () = self.draining.cancelled() => return Some(Farewell::Draining),
                () = sender.closed() => return None,
                _ = permitted.tick() => {
                    if (self.still_permitted)().await.is_err() {
                        return Some(Farewell::Refused);
                    }
                }
                place = place(sender, &room, waiting.front()), if !waiting.is_empty() => {
                    taken_at = Instant::now();
                    if let (Some((place, bytes)), Some(frame)) = (place, waiting.pop_front()) {
                        if let Some(id) = &frame.id {
                            last_id.clone_from(id);
                        }
                        place.send(Message::Event(frame, bytes));
                    }
                }
                () = time::sleep_until(taken_at + self.pace.patience), if !waiting.is_empty() => {
                    return Some(Farewell::Lagged { last_id });
                }
                _ = alive.tick() => {
                    // A buffer that is full has signs of life enough in it.
                    let _ = sender.try_send(Message::Alive);
                }
                more = events.next(), if waiting.is_empty() => match more {
                    Some(Ok(frames)) => {
                        for frame in frames {
                            match frame.id {
                                Some(_) => waiting.push_back(frame),
                                None => mention(sender, &room, frame),
                            }
                        }
                        taken_at = Instant::now();
                    }
                    Some(Err(Break::Lost)) => return Some(Farewell::Lagged { last_id }),
                    Some(Err(Break::Told)) => return Some(Farewell::Failed),
                    Some(Err(Break::Failed(error))) => {
                        if !error.is_outage() {
                            tracing::error!(%error, "a stream of events broke");
                        }
                        return Some(Farewell::Failed);
                    }
                    None => return Some(Farewell::Ended),
                },
            }
        }
    }
}

/// Waits until the buffer has a place for the next frame, and as many bytes. A frame that is larger than the buffer has all of
/// it; nothing where the reader is gone.
async fn place<'s>(
    sender: &'s mpsc::Sender<Message>,
    room: &Arc<Semaphore>,
    next: Option<&Frame>,
) -> Option<(mpsc::Permit<'s, Message>, Room)> {
    let bytes = next.map_or(0, |frame| frame.text.len().min(BUFFER_BYTES));
    let bytes = room.clone().acquire_many_owned(u32::try_from(bytes).ok()?).await.ok()?;
    Some((sender.reserve().await.ok()?, Room { _bytes: bytes }))
}

/// Puts a frame into the buffer that may be lost, while the buffer is no more than half full: the rest is for those that may not.
fn mention(sender: &mpsc::Sender<Message>, room: &Arc<Semaphore>, frame: Frame) {
    let bytes = frame.text.len();
    if sender.capacity() <= BUFFER_MESSAGES / 2 || room.available_permits() < bytes + BUFFER_BYTES / 2 {
        return;
    }
    let Ok(bytes) = u32::try_from(bytes) else { return };
    if let (Ok(place), Ok(bytes)) = (sender.try_reserve(), room.clone().try_acquire_many_owned(bytes)) {
        place.send(Message::Event(frame, Room { _bytes: bytes }));
    }
}

/// Ticks from one period on.
fn ticks(period: Duration) -> time::Interval {
    let mut ticks = time::interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;
    use futures_util::stream;

    const PATIENT: Pace =
        Pace { patience: Duration::from_secs(60), alive: Duration::from_secs(60), permitted: Duration::from_secs(60) };

    fn pages(sizes: &[usize]) -> impl Stream<Item = Result<Vec<Frame>, Break>> + Send + 'static {
        let mut seq = 0;
        let mut page = |size: &usize| {
            let frames = (0..*size).map(|_| {
                seq += 1;
                Frame { id: Some(seq.to_string()), text: "{}".into() }
            });
            Ok(frames.collect())
        };
        stream::iter(sizes.iter().map(&mut page).collect::<Vec<_>>())
    }

    fn pump(pace: Pace) -> Pump<impl Fn() -> std::future::Ready<Result<(), Problem>> + Send + Sync + 'static> {
        Pump { pace, draining: CancellationToken::new(), still_permitted: || std::future::ready(Ok(())) }
    }

    async fn all(mut messages: mpsc::Receiver<Message>) -> (Vec<String>, Option<Farewell>) {
        let mut ids = Vec::new();
        while let Some(message) = messages.recv().await {
            match message {
                Message::Event(frame, _) => ids.extend(frame.id),
                Message::Alive => {}
                Message::End(farewell) => return (ids, Some(farewell)),
            }
        }
        (ids, None)
    }

    #[tokio::test]
    async fn a_reader_is_told_everything_in_order_and_then_the_end() {
        let (ids, end) = all(pump(PATIENT).start(pages(&[2, 500, 1]), "0".into())).await;
        let expected: Vec<String> = (1..=503).map(|id| id.to_string()).collect();
        assert_eq!((ids, end), (expected, Some(Farewell::Ended)));
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_let_go_with_the_place_to_go_on_from() {
        let pace = Pace { patience: Duration::from_millis(20), ..PATIENT };
        let mut messages = pump(pace).start(pages(&[1_000, 1_000]), "0".into());
        // The task ends although nothing is taken; then all that was sent is there, and the last word after it.
        while !messages.is_closed() {
            tokio::task::yield_now().await;
        }
        messages.close();
        let (ids, end) = all(messages).await;
        assert_eq!(ids.len(), BUFFER_MESSAGES - 1);
        assert_eq!(end, Some(Farewell::Lagged { last_id: ids.last().unwrap().clone() }));
    }

    #[tokio::test]
    async fn what_lies_in_the_buffer_is_counted_in_bytes() {
        let pace = Pace { patience: Duration::from_millis(20), ..PATIENT };
        let large = |id: u32| Frame { id: Some(id.to_string()), text: "x".repeat(BUFFER_BYTES / 2) };
        let source = stream::once(std::future::ready(Ok((1..=5).map(large).collect())));
        let mut messages = pump(pace).start(source, "0".into());
        while !messages.is_closed() {
            tokio::task::yield_now().await;
        }
        messages.close();
        let (ids, end) = all(messages).await;
        assert_eq!((ids, end), (vec!["1".into(), "2".into()], Some(Farewell::Lagged { last_id: "2".into() })));
        let huge = Frame { id: Some("1".into()), text: "x".repeat(2 * BUFFER_BYTES) };
        let source = stream::once(std::future::ready(Ok(vec![huge.clone(), Frame { id: Some("2".into()), ..huge }])));
        assert_eq!(all(pump(PATIENT).start(source, "0".into())).await.0, ["1", "2"]);
    }

    #[tokio::test]
    async fn pieces_of_output_are_lost_rather_than_waited_for_and_no_event_is() {
        let piece = || Ok(vec![Frame { id: None, text: "{}".into() }]);
        let pieces = stream::iter((0..1_000).map(move |_| piece()));
        let source = pieces.chain(pages(&[BUFFER_MESSAGES / 2 - 1]));
        let mut messages = pump(PATIENT).start(source, "0".into());
        // The task ends although nothing is taken: the pieces left room for all events.
        while !messages.is_closed() {
            tokio::task::yield_now().await;
        }
        messages.close();
        let (mut pieces, mut ids) = (0, Vec::new());
        while let Some(message) = messages.recv().await {
            match message {
                Message::Event(Frame { id: Some(id), .. }, _) => ids.push(id),
                Message::Event(..) => pieces += 1,
                Message::Alive => {}
                Message::End(farewell) => assert_eq!(farewell, Farewell::Ended),
            }
        }
        assert_eq!(pieces, BUFFER_MESSAGES / 2 - 1, "the last word has a place of its own");
        assert_eq!(ids.len(), BUFFER_MESSAGES / 2 - 1);
    }

    #[tokio::test]
    async fn a_piece_of_output_is_no_place_to_go_on_from() {
        let piece = stream::once(std::future::ready(Ok(vec![Frame { id: None, text: "{}".into() }])));
        let source = pages(&[2]).chain(piece).chain(stream::once(std::future::ready(Err(Break::Lost))));
        let (ids, end) = all(pump(PATIENT).start(source, "0".into())).await;
        assert_eq!((ids.len(), end), (2, Some(Farewell::Lagged { last_id: "2".into() })));
    }

    #[tokio::test]
    async fn a_reader_that_was_too_slow_for_the_source_is_told_how_far_it_came() {
        let source = pages(&[2]).chain(stream::once(std::future::ready(Err(Break::Lost))));
        let (ids, end) = all(pump(PATIENT).start(source, "0".into())).await;
        assert_eq!((ids.len(), end), (2, Some(Farewell::Lagged { last_id: "2".into() })));
    }

    #[tokio::test]
    async fn who_may_not_follow_any_more_is_told_nothing_more() {
        let refused = || {
            let problem = Problem::new(StatusCode::UNAUTHORIZED, "NOT_AUTHENTICATED", "revoked");
            std::future::ready(Err::<(), _>(problem))
        };
        let pace = Pace { permitted: Duration::from_millis(1), ..PATIENT };
        let pump = Pump { pace, draining: CancellationToken::new(), still_permitted: refused };
        let (ids, end) = all(pump.start(stream::pending(), "0".into())).await;
        assert_eq!((ids.len(), end), (0, Some(Farewell::Refused)));
    }

    #[tokio::test]
    async fn an_idle_stream_gives_signs_of_life_until_the_server_ends() {
        let pace = Pace { alive: Duration::from_millis(1), ..PATIENT };
        let pump = pump(pace);
        let draining = pump.draining.clone();
        let mut messages = pump.start(stream::pending(), "0".into());
        assert!(matches!(messages.recv().await, Some(Message::Alive)));
        draining.cancel();
        assert_eq!(all(messages).await.1, Some(Farewell::Draining));
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_ends_the_pump() {
        let (dropped, mut gone) = mpsc::channel::<()>(1);
        let source = stream::pending().chain(stream::once(async move {
            drop(dropped);
            Ok(Vec::new())
        }));
        drop(pump(PATIENT).start(source, "0".into()));
        assert_eq!(gone.recv().await, None);
    }
}
