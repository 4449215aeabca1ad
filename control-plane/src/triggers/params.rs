//! What a trigger starts runs with.
//!
//! It may be large, and as values it takes many times what it takes as text: so it is text while it is kept and while a request
//! waits. Whoever looks into it does so in its tenant's turn, and keeps no values.

use super::TriggerError;
use agentruntime_engine::{
    node::{Node, StartRequest},
    run::event::StepInputs,
};
use agentruntime_host_api::{Json, TenantId, WorkflowId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The largest document of start parameters, in bytes: it is read at each start.
pub(crate) const PARAMS_BYTES_MAX: usize = 256 * 1024;

/// Start parameters that a trigger keeps. Other keys stand beside them and mean nothing here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StartParams {
    /// The input of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trigger_payload: Option<Json>,
    /// Input for single steps.
    #[serde(default, skip_serializing_if = "StepInputs::is_empty")]
    pub(crate) trigger_steps: StepInputs,
    /// Steps that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) excluded_step_ids: Vec<String>,
}

/// Start parameters as they were sent: nobody has looked into them yet.
#[derive(Default)]
pub(crate) struct GivenParams {
    /// The input of the run.
    pub(crate) trigger_payload: Option<Json>,
    /// Input for single steps: an object.
    pub(crate) trigger_steps: Option<Json>,
    /// Steps that are left out.
    pub(crate) excluded_step_ids: Option<Vec<String>>,
}

/// A document that holds start parameters, an object, as it is kept. One that is too large is refused unread.
pub(super) async fn checked(
    field: &'static str,
    document: Json,
    node: &Node,
    tenant: &TenantId,
) -> Result<Json, TriggerError> {
    check_size(field, &document)?;
    let bytes = document.as_str().len();
    let read = move || {
        let document = plain(&document);
        // Written out, a number may be longer.
        check_size(field, &document)?;
        StartParams::read(field, &document).map(|_| document)
    };
    node.work_on_json(tenant, bytes, read).await
}

fn check_size(field: &'static str, document: &Json) -> Result<(), TriggerError> {
    match document.as_str().len() <= PARAMS_BYTES_MAX {
        true => Ok(()),
        false => Err(TriggerError::invalid(field, format!("it is larger than {PARAMS_BYTES_MAX} bytes"))),
    }
}

/// The same document as we write it: without white space, and with each key once.
fn plain(document: &Json) -> Json {
    document.to_value().into()
}

impl GivenParams {
    /// Whether they say anything.
    pub(super) fn is_any(&self) -> bool {
        self.trigger_payload.is_some() || self.trigger_steps.is_some() || self.excluded_step_ids.is_some()
    }

    /// These in place of others, which stay where these say nothing. What is too large is refused unread.
    pub(crate) async fn over(
        self,
        old: StartParams,
        node: &Node,
        tenant: &TenantId,
    ) -> Result<StartParams, TriggerError> {
        let bytes =
            [&self.trigger_payload, &self.trigger_steps].into_iter().flatten().map(|it| it.as_str().len()).sum();
        if bytes > PARAMS_BYTES_MAX {
            return Err(too_large());
        }
        node.work_on_json(tenant, bytes, move || self.laid_over(old)).await
    }

    fn laid_over(self, old: StartParams) -> Result<StartParams, TriggerError> {
        let read = StartParams {
            trigger_payload: self.trigger_payload.as_ref().map(plain).or(old.trigger_payload),
            trigger_steps: self.trigger_steps.map_or(Ok(old.trigger_steps), |steps| read_steps(&steps))?,
            excluded_step_ids: self.excluded_step_ids.unwrap_or(old.excluded_step_ids),
        };
        read.check().map(|()| read)
    }
}

fn read_steps(steps: &Json) -> Result<StepInputs, TriggerError> {
    let steps: StepInputs = steps
        .read()
        .map_err(|_| TriggerError::invalid("trigger_steps", "an object: the inputs of steps, by their ids"))?;
    Ok(steps.into_iter().map(|(step, inputs)| (step, plain(&inputs))).collect())
}

fn too_large() -> TriggerError {
    TriggerError::invalid("trigger_payload", format!("all in all, at most {PARAMS_BYTES_MAX} bytes"))
}

impl StartParams {
    /// Reads them out of a document, an object.
    pub(super) fn read(field: &'static str, document: &Json) -> Result<Self, TriggerError> {
        document.read().map_err(|_| {
            let message = "`trigger_steps` is an object (inputs of steps, by their ids), and `excluded_step_ids` a list of \
                           steps' ids";
            TriggerError::invalid(field, message)
        })
    }

    /// Refuses what is too large to be kept.
    fn check(&self) -> Result<(), TriggerError> {
        match serde_json::to_string(self).is_ok_and(|text| text.len() <= PARAMS_BYTES_MAX) {
            true => Ok(()),
            false => Err(too_large()),
        }
    }

    /// With the body of a delivery over the payload: the members of an object over those of an object, else instead of it.
    pub(super) fn with_body(mut self, body: Value) -> Self {
        let payload = self.trigger_payload.as_ref().map(Json::to_value);
        let laid_over = match (payload, body) {
            (Some(Value::Object(mut base)), Value::Object(over)) => {
                base.extend(over);
                Value::Object(base)
            }
            (_, body) => body,
        };
        self.trigger_payload = Some(laid_over.into());
        self
    }

    /// The start of a run with them.
    pub(super) fn request(self, workflow: WorkflowId, trigger_type: &str) -> StartRequest {
        StartRequest {
            trigger_steps: self.trigger_steps,
            excluded_step_ids: self.excluded_step_ids,
            trigger_type: trigger_type.to_owned(),
            ..StartRequest::new(workflow, self.trigger_payload.unwrap_or_else(Json::empty_object))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_body_lies_over_the_payload() {
        let check = |base: Value, body: Value| {
            let params = StartParams { trigger_payload: Some(base.into()), ..StartParams::default() };
            params.with_body(body).trigger_payload.unwrap().to_value()
        };
        assert_eq!(
            check(json!({ "a": 1, "b": { "c": 2 } }), json!({ "b": { "d": 3 } })),
            json!({ "a": 1, "b": { "d": 3 } })
        );
        assert_eq!(check(json!({ "a": 1 }), json!([1])), json!([1]));
        assert_eq!(check(json!("x"), json!({ "a": 1 })), json!({ "a": 1 }));
        assert_eq!(StartParams::default().with_body(json!(null)).trigger_payload, Some(Json::null()));
    }

    #[test]
    fn what_was_sent_is_kept_as_we_write_it_and_what_was_not_stays() {
        let json = |text: &str| Json::parse(text).unwrap();
        let old = StartParams { excluded_step_ids: vec!["old".into()], ..StartParams::default() };
        let given = GivenParams {
            trigger_payload: Some(json(r#"{ "b": 1e0, "a": 1, "a": 2 }"#)),
            trigger_steps: Some(json(r#"{ "two": { "x": [ ] }, "one": {}, "one": 7 }"#)),
            excluded_step_ids: None,
        };
        let kept = serde_json::to_string(&given.laid_over(old).unwrap()).unwrap();
        let wanted = r#"{"trigger_payload":{"a":2,"b":1.0},"trigger_steps":{"one":7,"two":{"x":[]}},"excluded_step_ids":["old"]}"#;
        assert_eq!(kept, wanted);
        assert_eq!(serde_json::to_string(&StartParams::read("extras", &json(wanted)).unwrap()).unwrap(), wanted);
    }
}
