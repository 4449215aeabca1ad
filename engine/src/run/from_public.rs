//! Events read back from the form of the API: how a client on another machine knows what happened.
//!
//! The public form leaves out what only nodes need: the results that a start takes over from another run (each comes as
//! an event of its own), and how deep below its parent a child is. Everything else comes back as it was.

use super::event::{Event, EventKind, Parent, Reuse, Start, StepPath, step_inputs};
use agentruntime_host_api::{HostRequest, Json, RunId, Timestamp, WorkflowId};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, sync::Arc};

/// The document is no event that this program knows.
#[derive(Debug, thiserror::Error)]
pub enum NotAnEvent {
    /// It has not the form of an event.
    #[error("this is not an event: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Something that events of its kind have is missing.
    #[error("an event of type `{event_type}` has no `{field}`")]
    Missing {
        /// Its type.
        event_type: String,
        /// What is missing.
        field: &'static str,
    },
    /// Its time is none.
    #[error(transparent)]
    Time(#[from] agentruntime_host_api::TimestampError),
    /// A later version of this program wrote it.
    #[error("events of type `{0}` are not known to this version of the program; update it")]
    Unknown(String),
}

#[derive(Deserialize)]
struct Public {
    event_type: String,
    run_id: RunId,
    seq: u64,
    step_id: Option<Arc<str>>,
    attempt: Option<u32>,
    at: String,
    #[serde(default)]
    data: Map<String, Value>,
}

impl Event {
    /// Reads [`Event::public`] back, and which run it belongs to.
    ///
    /// # Errors
    /// The document is no event, or one of a kind that this version does not know.
    pub fn from_public(document: Value) -> Result<(RunId, Self), NotAnEvent> {
        let mut public: Public = serde_json::from_value(document)?;
        let kind = kind(&mut public)?;
        Ok((public.run_id, Self { seq: public.seq, at: public.at.parse()?, kind }))
    }
}

fn kind(public: &mut Public) -> Result<EventKind, NotAnEvent> {
    Ok(match public.event_type.as_str() {
        "run_started" => EventKind::RunStarted(Box::new(start(public)?)),
        "run_rejected" => EventKind::RunRejected { error: public.take("error")? },
        "run_completed" => EventKind::RunCompleted { outputs: public.json("outputs")? },
        "run_failed" => {
            let path = public.find::<String>("failed_step")?.map(|text| StepPath::parse(&text));
            EventKind::RunFailed { path, error: public.take("error")? }
        }
        "run_stopped" => EventKind::RunStopped { error: public.take("error")? },
        "state_changed" => EventKind::StateChanged {
            from: public.take("from")?,
            to: public.take("to")?,
            reason: public.take("reason")?,
        },
        _ => step_kind(public)?,
    })
}

fn step_kind(public: &mut Public) -> Result<EventKind, NotAnEvent> {
    let path = public.path()?;
    Ok(match public.event_type.as_str() {
        "step_started" => {
            EventKind::StepStarted { path, attempt: public.attempt()?, inputs: public.find_json("inputs") }
        }
        "step_completed" if public.data.contains_key("skipped") => {
            EventKind::StepSkipped { path, reason: public.take("reason")? }
        }
        "step_completed" => EventKind::StepCompleted {
            path,
            attempt: public.attempt()?,
            result: public.json("result")?,
            duration_us: public.micros()?,
            fuel: public.find("fuel")?,
            reused_from: public.find("reused_from")?,
        },
        "step_failed" => EventKind::StepFailed {
            path,
            attempt: public.attempt()?,
            error: public.take("error")?,
            duration_us: public.micros()?,
            recovered: public.find_json("recovered"),
        },
        "step_retrying" => EventKind::StepRetrying {
            path,
            attempt: public.attempt()?,
            error: public.take("error")?,
            due: public.take::<String>("retry_at")?.parse()?,
        },
        "request_made" => EventKind::RequestMade {
            path,
            attempt: public.attempt()?,
            request: HostRequest {
                number: public.take("number")?,
                capability: public.take("capability")?,
                arguments: public.json("arguments")?,
            },
        },
        "request_completed" => EventKind::RequestCompleted {
            path,
            attempt: public.attempt()?,
            number: public.take("number")?,
            duration_us: public.micros()?,
            reply: match public.find("error")? {
                Some(error) => Err(error),
                None => Ok(public.json("result")?),
            },
        },
        "step_cancelled" => EventKind::StepCancelled { path, attempt: public.attempt()? },
        "human_task_created" => EventKind::HumanTaskCreated {
            path,
            task: public.take("task_id")?,
            task_type: public.take("task_type")?,
            payload: public.json("task_payload")?,
            due: public.find::<String>("expires_at")?.map(|text| text.parse::<Timestamp>()).transpose()?,
            request: public.find("request_number")?,
        },
        "human_task_completed" => EventKind::HumanTaskCompleted {
            path,
            task: public.take("task_id")?,
            approved: public.take("approved")?,
            result: public.json("result")?,
        },
        unknown => return Err(NotAnEvent::Unknown(unknown.to_owned())),
    })
}

fn start(public: &mut Public) -> Result<Start, NotAnEvent> {
    let parent = public.find("parent_run_id")?.map(|run| Parent {
        run,
        step: StepPath::top(&Arc::from("")),
        depth: 0,
        descendants: 0,
    });
    let reuse = public.find("resume_from_run_id")?.map(|run| Reuse { run, results: BTreeMap::new() });
    Ok(Start {
        workflow: WorkflowId::new(public.take::<String>("workflow_id")?),
        version: public.take("version")?,
        input: public.json("input")?,
        trigger_steps: step_inputs(public.find("trigger_steps")?.unwrap_or_default()),
        excluded_step_ids: public.find("excluded_step_ids")?.unwrap_or_default(),
        trigger_type: public.take("trigger_type")?,
        external_user_id: public.find("external_user_id")?,
        user_id: public.find("user_id")?,
        pat_id: public.find("pat_id")?,
        due_at: public.find::<String>("due_at")?.map(|text| text.parse::<Timestamp>()).transpose()?,
        trace_parent: None,
        parent,
        reuse,
    })
}

impl Public {
    fn missing(&self, field: &'static str) -> NotAnEvent {
        NotAnEvent::Missing { event_type: self.event_type.clone(), field }
    }

    fn attempt(&self) -> Result<u32, NotAnEvent> {
        self.attempt.ok_or_else(|| self.missing("attempt"))
    }

    fn path(&mut self) -> Result<StepPath, NotAnEvent> {
        let Some(step) = self.step_id.take() else {
            // What has no step and is no event of a run is of a kind that came later.
            return Err(NotAnEvent::Unknown(self.event_type.clone()));
        };
        Ok(match (self.find::<Arc<str>>("parent_step_id")?, self.find("iteration")?) {
            (Some(parent), Some(iteration)) => StepPath::inner(&parent, iteration, &step),
            _ => StepPath::top(&step),
        })
    }

    fn micros(&mut self) -> Result<u64, NotAnEvent> {
        // Written as microseconds over a thousand: the nearest whole number is the one that was divided.
        Ok((self.take::<f64>("duration_ms")? * 1000.0).round() as u64)
    }

    fn find<T: DeserializeOwned>(&mut self, field: &str) -> Result<Option<T>, NotAnEvent> {
        Ok(self.data.remove(field).map(serde_json::from_value).transpose()?)
    }

    fn take<T: DeserializeOwned>(&mut self, field: &'static str) -> Result<T, NotAnEvent> {
        self.find(field)?.ok_or_else(|| self.missing(field))
    }

    fn find_json(&mut self, field: &str) -> Option<Json> {
        self.data.remove(field).map(Json::from)
    }

    fn json(&mut self, field: &'static str) -> Result<Json, NotAnEvent> {
        self.find_json(field).ok_or_else(|| self.missing(field))
    }
}

impl StepPath {
    /// Reads its display form back: `step`, or `step[4].inner`.
    pub fn parse(text: &str) -> Self {
        let inside = text.split_once('[').and_then(|(step, rest)| {
            let (iteration, inner) = rest.split_once("].")?;
            Some(Self::inner(&step.into(), iteration.parse().ok()?, &inner.into()))
        });
        inside.unwrap_or_else(|| Self::top(&text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::event::{RunStatus, SkipReason};
    use agentruntime_host_api::{ErrorCode, StepError, TaskId};
    use proptest::{collection::vec, option, prelude::*};
    use serde_json::json;
    use std::str::FromStr;

    fn id<T: FromStr<Err: std::fmt::Debug>>(number: u64) -> T {
        format!("01234567-89ab-7def-{:04x}-{:012x}", number >> 48, number & 0xffff_ffff_ffff).parse().unwrap()
    }

    fn documents() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e300..1e300).prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        let nested = leaf.prop_recursive(3, 16, 4, |inner| vec(inner, 0..4).prop_map(Value::from));
        vec(("[a-z]{1,4}", nested), 0..4).prop_map(|fields| Json::from(Value::Object(fields.into_iter().collect())))
    }

    fn paths() -> impl Strategy<Value = StepPath> {
        let name = || "[a-z][a-z0-9_-]{0,6}".prop_map(|name| Arc::<str>::from(name.as_str()));
        (name(), option::of((any::<u32>(), name()))).prop_map(|(step, body)| StepPath { step, body })
    }

    fn times() -> impl Strategy<Value = Timestamp> {
        (0..4_000_000_000_000_000_i64).prop_map(Timestamp::from_micros)
    }

    fn errors() -> impl Strategy<Value = StepError> {
        (0..ErrorCode::ALL.len(), ".{0,12}", option::of(documents())).prop_map(|(code, message, details)| StepError {
            code: ErrorCode::ALL[code],
            message,
            details,
        })
    }

    fn statuses() -> impl Strategy<Value = RunStatus> {
        use RunStatus::{Completed, Draining, Failed, Paused, Pending, Running, Stopped};
        prop::sample::select(vec![Pending, Running, Paused, Draining, Completed, Failed, Stopped])
    }

    fn starts() -> impl Strategy<Value = EventKind> {
        let texts = || option::of("[a-z]{1,5}");
        let runs = || option::of(any::<u64>().prop_map(id::<RunId>));
        let given = (documents(), documents(), vec("[a-z]{1,4}", 0..3));
        let due = option::of((0..1_i64 << 52).prop_map(Timestamp::from_micros));
        ("[a-z]{1,6}", any::<u32>(), given, (texts(), texts(), texts(), due), (runs(), runs())).prop_map(
            |(workflow, version, (input, steps, excluded_step_ids), who, (parent, reuse))| {
                let (external_user_id, user_id, pat_id, due_at) = who;
                let trigger_steps = step_inputs(steps.to_value().as_object().cloned().unwrap_or_default());
                let step = StepPath::top(&"".into());
                EventKind::RunStarted(Box::new(Start {
                    workflow: WorkflowId::new(workflow),
                    version,
                    input,
                    trigger_steps,
                    excluded_step_ids,
                    trigger_type: "manual".into(),
                    external_user_id,
                    user_id,
                    pat_id,
                    due_at,
                    trace_parent: None,
                    parent: parent.map(|run| Parent { run, step, depth: 0, descendants: 0 }),
                    reuse: reuse.map(|run| Reuse { run, results: BTreeMap::new() }),
                }))
            },
        )
    }

    fn of_steps() -> impl Strategy<Value = EventKind> {
        let reasons = prop::sample::select(vec![SkipReason::Blocked, SkipReason::UpstreamRejected]);
        let tasks = || any::<u64>().prop_map(id::<TaskId>);
        let runs = option::of(any::<u64>().prop_map(id::<RunId>));
        // Division and multiplication are each off by 2^-53 at most: below 2^51 µs, seventy years, by less than a half together.
        let micros = || 0..(1_u64 << 51);
        prop_oneof![
            (paths(), any::<u32>(), option::of(documents()))
                .prop_map(|(path, attempt, inputs)| EventKind::StepStarted { path, attempt, inputs }),
            (paths(), any::<u32>(), documents(), micros(), option::of(any::<u64>()), runs).prop_map(
                |(path, attempt, result, duration_us, fuel, reused_from)| EventKind::StepCompleted {
                    path,
                    attempt,
                    result,
                    duration_us,
                    fuel,
                    reused_from
                }
            ),
            (paths(), reasons).prop_map(|(path, reason)| EventKind::StepSkipped { path, reason }),
            (paths(), any::<u32>(), errors(), micros(), option::of(documents())).prop_map(
                |(path, attempt, error, duration_us, recovered)| EventKind::StepFailed {
                    path,
                    attempt,
                    error,
                    duration_us,
                    recovered
                }
            ),
            (paths(), any::<u32>(), errors(), times())
                .prop_map(|(path, attempt, error, due)| EventKind::StepRetrying { path, attempt, error, due }),
            (paths(), any::<u32>()).prop_map(|(path, attempt)| EventKind::StepCancelled { path, attempt }),
            (paths(), any::<u32>(), any::<u32>(), "[a-z.]{1,9}", documents()).prop_map(
                |(path, attempt, number, capability, arguments)| EventKind::RequestMade {
                    path,
                    attempt,
                    request: HostRequest { number, capability, arguments }
                }
            ),
            (
                paths(),
                any::<u32>(),
                any::<u32>(),
                prop_oneof![documents().prop_map(Ok), errors().prop_map(Err)],
                micros()
            )
                .prop_map(|(path, attempt, number, reply, duration_us)| EventKind::RequestCompleted {
                    path,
                    attempt,
                    number,
                    reply,
                    duration_us
                }),
            (paths(), tasks(), "[a-z]{1,5}", documents(), option::of(times()), option::of(any::<u32>())).prop_map(
                |(path, task, task_type, payload, due, request)| EventKind::HumanTaskCreated {
                    path,
                    task,
                    task_type,
                    payload,
                    due,
                    request
                }
            ),
            (paths(), tasks(), any::<bool>(), documents()).prop_map(|(path, task, approved, result)| {
                EventKind::HumanTaskCompleted { path, task, approved, result }
            }),
        ]
    }

    fn of_runs() -> impl Strategy<Value = EventKind> {
        prop_oneof![
            starts(),
            errors().prop_map(|error| EventKind::RunRejected { error }),
            (statuses(), statuses(), "[a-z]{1,5}").prop_map(|(from, to, reason)| EventKind::StateChanged {
                from,
                to,
                reason
            }),
            documents().prop_map(|outputs| EventKind::RunCompleted { outputs }),
            (option::of(paths()), errors()).prop_map(|(path, error)| EventKind::RunFailed { path, error }),
            errors().prop_map(|error| EventKind::RunStopped { error }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_published_is_read_back(
            kind in prop_oneof![of_runs(), of_steps()], seq in any::<u64>(), at in times(), run in any::<u64>(),
        ) {
            let (run, event) = (id(run), Event { seq, at, kind });
            let text = event.public(run).to_string();
            let (of, read) = Event::from_public(serde_json::from_str(&text).unwrap()).unwrap();
            prop_assert_eq!((of, read), (run, event));
        }
    }

    #[test]
    fn what_a_later_version_publishes_is_named() {
        let event =
            json!({ "event_type": "step_dreamt", "run_id": RunId::new_v7(), "seq": 1, "at": "2026-01-01T00:00:00Z" });
        let error = Event::from_public(event).unwrap_err().to_string();
        assert!(error.contains("step_dreamt") && error.contains("update it"), "{error}");
        let missing =
            json!({ "event_type": "run_failed", "run_id": RunId::new_v7(), "seq": 1, "at": "2026-01-01T00:00:00Z" });
        assert_eq!(
            Event::from_public(missing).unwrap_err().to_string(),
            "an event of type `run_failed` has no `error`"
        );
    }
}
