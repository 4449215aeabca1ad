//! A run: its events, the state they add up to, and the pure function that decides what comes next.
//!
//! [`decide`] turns an input into events and effects, [`RunState::apply`] takes an event into the state, and a node that
//! takes a run over folds its journal with the latter. Never reads a clock, draws a random number, or touches a disk or a
//! network.

mod apply;
mod backoff;
mod body;
mod composite;
mod decide;
mod due;
mod ending;
pub mod event;
mod from_public;
mod invocation;
mod lookup;
mod payload;
mod public;
mod requests;
mod signal;
mod start;
mod state;
mod tally;
mod transition;
mod turn;

pub use apply::{DRAIN_LIMIT, IllegalEvent, RUN_BYTES_MAX, RUN_EVENTS_MAX};
pub use composite::COMPOSITE_RESULT_BYTES_MAX;
pub(crate) use decide::input_refused;
pub use decide::{DECISION_STEPS_MAX, Decision, Effect, Input, decide};
pub use from_public::NotAnEvent;
pub use invocation::{Job, Work};
pub use payload::Payload;
pub use requests::{Approval, Decided, Question, Recorded, TOOL_APPROVAL};
pub use signal::{Awaiting, Signal, TaskStatus};
pub use start::{CHILD_DEPTH_MAX, CHILD_RUNS_MAX};
pub use state::{Admission, Executing, Inner, Iteration, IterationOutcome, Loop, Phase, RunState, StepState};
