//! What a trigger starts runs with.

use super::TriggerError;
use agentruntime_engine::node::StartRequest;
use agentruntime_host_api::{Json, WorkflowId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The largest document of start parameters, in bytes: it is read at each start.
pub(crate) const PARAMS_BYTES_MAX: usize = 256 * 1024;

/// Start parameters that a trigger keeps. Other keys stand beside them and mean nothing here.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct StartParams {
    /// The input of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trigger_payload: Option<Value>,
    /// Input for single steps.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) trigger_steps: Map<String, Value>,
    /// Steps that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) excluded_step_ids: Vec<String>,
}

impl StartParams {
    /// Reads them out of a document, which is not too large.
    pub(super) fn read(field: &'static str, document: &Map<String, Value>) -> Result<Self, TriggerError> {
        let value = Value::Object(document.clone());
        if value.to_string().len() > PARAMS_BYTES_MAX {
            return Err(TriggerError::invalid(field, format!("it is larger than {PARAMS_BYTES_MAX} bytes")));
        }
        serde_json::from_value(value).map_err(|_| {
            let message = "`trigger_steps` is an object (inputs of steps, by their ids), and `excluded_step_ids` a list of \
                           steps' ids";
            TriggerError::invalid(field, message)
        })
    }

    /// Refuses what is too large to be kept.
    pub(super) fn check(&self) -> Result<(), TriggerError> {
        match serde_json::to_string(self).is_ok_and(|text| text.len() <= PARAMS_BYTES_MAX) {
            true => Ok(()),
            false => {
                Err(TriggerError::invalid("trigger_payload", format!("all in all, at most {PARAMS_BYTES_MAX} bytes")))
            }
        }
    }

    /// With the body of a delivery over the payload: the members of an object over those of an object, else instead of it.
    pub(super) fn with_body(mut self, body: Value) -> Self {
        self.trigger_payload = Some(match (self.trigger_payload, body) {
            (Some(Value::Object(mut base)), Value::Object(over)) => {
                base.extend(over);
                Value::Object(base)
            }
            (_, body) => body,
        });
        self
    }

    /// The start of a run with them.
    pub(super) fn request(self, workflow: WorkflowId, trigger_type: &str) -> StartRequest {
        let input = self.trigger_payload.as_ref().map_or_else(Json::empty_object, Json::of_value);
        StartRequest {
            trigger_steps: self.trigger_steps.into_iter().map(|(step, given)| (step, given.into())).collect(),
            excluded_step_ids: self.excluded_step_ids,
            trigger_type: trigger_type.to_owned(),
            ..StartRequest::new(workflow, input)
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
            let params = StartParams { trigger_payload: Some(base), ..StartParams::default() };
            params.with_body(body).trigger_payload.unwrap()
        };
        assert_eq!(
            check(json!({ "a": 1, "b": { "c": 2 } }), json!({ "b": { "d": 3 } })),
            json!({ "a": 1, "b": { "d": 3 } })
        );
        assert_eq!(check(json!({ "a": 1 }), json!([1])), json!([1]));
        assert_eq!(check(json!("x"), json!({ "a": 1 })), json!({ "a": 1 }));
        assert_eq!(StartParams::default().with_body(json!(null)).trigger_payload, Some(Value::Null));
    }
}
