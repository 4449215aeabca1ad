//! An answer that comes piece by piece: its text is told to those who watch, and in the end there is the same answer that the
//! vendor would have given at once, so that what is recorded, and what the step's program reads, is of one form.
//!
//! Decides nothing by what a model says. A shape that is not known gives no text and is left out.
//!
//! | file | owns |
//! |---|---|
//! | `fold` | putting events together, whatever the vendor |
//! | `chat`, `responses`, `messages`, `generate` | the events of each form |
//! | `teller` | what is told of it when |

mod chat;
mod fold;
mod generate;
mod messages;
mod responses;
mod teller;

use super::fault::Fault;
use agentruntime_egress::{EgressError, LineLimits, Opened, Pieces, REPLY_BYTES_DEFAULT, Scrubber};
use agentruntime_engine::node::Compute;
use agentruntime_host_api::{Errand, Operation};
use fold::{Fold, Taken};
use futures_util::{StreamExt, TryStreamExt};
use secrecy::SecretString;
use serde_json::Value;
use sse_stream::{Error as Malformed, Sse, SseStream};
use std::{io::Cursor, pin::pin};
use teller::Teller;
use tokio::time::{self, Instant};

/// What an answer may take on its way, of which most is the wrapping of each piece; the answer itself may be as long as any
/// other reply.
const STREAM_BYTES_MAX: usize = 16 << 20;
/// One event: OpenAI's `responses` repeat the whole answer in the last.
const EVENT_BYTES_MAX: usize = REPLY_BYTES_DEFAULT;
/// Reading so much JSON takes a fraction of a millisecond.
const LIGHT_BYTES_MAX: usize = 32 << 10;

const LIMITS: LineLimits = LineLimits { line_bytes_max: EVENT_BYTES_MAX, bytes_max: STREAM_BYTES_MAX };

/// Who reads, and for whom.
pub(super) struct Reading<'a> {
    /// The form of the answer.
    pub(super) operation: Operation,
    /// What went out and must not come back.
    pub(super) secrets: Vec<&'a SecretString>,
    /// Who hears the pieces.
    pub(super) errand: &'a Errand,
    /// Where large events are read.
    pub(super) compute: &'a Compute,
}

/// Whether the reply is a stream: a server may not know how, and then answers at once.
pub(super) fn is_stream(opened: &Opened) -> bool {
    let kind = opened.headers.get("content-type").and_then(|kind| kind.split(';').next());
    (200..300).contains(&opened.status)
        && kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// Reads it to its end; gives the answer as text.
///
/// # Errors
/// It broke off, is too long, is no such stream, or the vendor says in the middle that it failed.
pub(super) async fn read(opened: Opened, reading: Reading<'_>) -> Result<String, Fault> {
    let scrubber = Scrubber::of(reading.secrets.iter().copied());
    let mut teller = Teller::new(&*reading.errand.live, Pieces::of(reading.secrets.iter().copied()));
    let mut fold = fold::of(reading.operation);
    let mut events = pin!(SseStream::from_bytes_stream(opened.lines(LIMITS).map_ok(Cursor::new)));
    let mut kept = 0_usize;
    loop {
        let next = match teller.due() {
            None => events.next().await,
            Some(due) => match time::timeout_at(due, events.next()).await {
                Ok(next) => next,
                Err(_) => {
                    teller.tell(Instant::now());
                    continue;
                }
            },
        };
        let Some(event) = next.transpose().map_err(broken)? else { break };
        let taken = take(&mut *fold, event, &reading).await?;
        kept = kept.saturating_add(taken.kept);
        if kept > REPLY_BYTES_DEFAULT {
            return Err(Fault::TooLong { limit: REPLY_BYTES_DEFAULT });
        }
        teller.take(&taken.text, Instant::now());
        if fold.is_over() {
            break;
        }
    }
    if !fold.is_whole() {
        return Err(Fault::BrokeOff);
    }
    teller.end();
    // Its texts were cleaned piece by piece, which does not find what is cut.
    Ok(scrubber.clean(fold.answer().to_string()))
}

async fn take(fold: &mut dyn Fold, event: Sse, reading: &Reading<'_>) -> Result<Taken, Fault> {
    let Some(data) = event.data else { return Ok(Taken::default()) };
    if data.trim() == fold::DONE {
        fold.done();
        return Ok(Taken::default());
    }
    let parse = |data: String| serde_json::from_str::<Value>(&data);
    let event = match data.len() <= LIGHT_BYTES_MAX {
        true => parse(data),
        false => reading.compute.apart(&reading.errand.caller.tenant, move || parse(data)).await,
    };
    let event = event.map_err(|_| Fault::Illegible)?;
    fold.take(event).map_err(Fault::Said)
}

/// What the library says of a stream that cannot be read on.
fn broken(error: Malformed) -> Fault {
    match error {
        Malformed::Body(error) => {
            error.downcast::<EgressError>().map_or(Fault::BrokeOff, |error| Fault::Egress(*error))
        }
        _ => Fault::Illegible,
    }
}
