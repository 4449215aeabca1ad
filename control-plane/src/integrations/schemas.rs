//! Checks by a JSON Schema, those that a step asks for and those of what goes to a tool and comes from it.
//!
//! Owns where they are done: a schema is somebody's program that runs in the host, and reading it takes its time as well. A
//! tenant's checks are done one after another, so that many of them keep no other tenant's waiting.

use agentruntime_engine::{
    graph::{InputSchema, Issue},
    node::Compute,
};
use agentruntime_host_api::{Check, ErrorCode, HostReply, StepError, TenantId};
use serde_json::{Value, json};
use std::sync::Arc;

/// Problems that are told of.
const PROBLEMS_MAX: usize = 10;

/// Checks for one tenant, in its turns.
#[derive(Clone)]
pub(super) struct Checks {
    compute: Arc<Compute>,
    tenant: TenantId,
}

/// What came of a check.
#[derive(Debug)]
pub(super) enum Checked {
    /// The value fits.
    Fits,
    /// The schema is none, or one that is not used here.
    NotASchema(Vec<Issue>),
    /// The value does not fit.
    Misfits(Vec<Issue>),
}

impl Checks {
    pub(super) fn of(compute: &Arc<Compute>, tenant: &TenantId) -> Self {
        Self { compute: compute.clone(), tenant: tenant.clone() }
    }

    /// Reads the schema and checks the value by it.
    pub(super) async fn checked(&self, schema: Value, value: Value) -> Checked {
        let check = move || match InputSchema::parse(&schema) {
            Err(issues) => Checked::NotASchema(issues),
            Ok(schema) => match schema.check(&value) {
                issues if issues.is_empty() => Checked::Fits,
                issues => Checked::Misfits(issues),
            },
        };
        self.compute.apart(&self.tenant, check).await
    }

    /// Says whether the value fits, and what does not.
    pub(super) async fn check(&self, check: &Check) -> HostReply {
        let issues = match self.checked(check.schema.clone(), check.value.clone()).await {
            Checked::Fits => Vec::new(),
            Checked::Misfits(issues) => issues,
            Checked::NotASchema(issues) => {
                let issue = issues.first().map(|issue| issue.message.replace("`input_schema`", "the schema"));
                return Err(StepError::new(ErrorCode::InvalidInput, issue.unwrap_or_default()));
            }
        };
        let told = |issue: &Issue| format!("{} {}", issue.json_path, issue.message);
        let problems: Vec<String> = issues.iter().take(PROBLEMS_MAX).map(told).collect();
        Ok(json!({ "valid": problems.is_empty(), "problems": problems }).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::{FutureExt, join_all};
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_tenants_checks_wait_for_one_another_and_those_of_others_do_not() {
        let compute = Arc::new(Compute::new(2));
        let (one, two) = (TenantId::new("one"), TenantId::new("two"));
        let (go, gate) = mpsc::channel::<()>();
        let long = {
            let (compute, one) = (compute.clone(), one.clone());
            tokio::spawn(async move { compute.apart(&one, move || gate.recv()).await })
        };
        tokio::task::yield_now().await;
        let (checks, others) = (Checks::of(&compute, &one), Checks::of(&compute, &two));
        let mut waiting = join_all((0..50).map(|_| checks.checked(json!({ "type": "array" }), json!(1)))).boxed();
        assert!((&mut waiting).now_or_never().is_none());
        // All of the one's wait for what it has under way, and none has the second thread.
        assert!(matches!(others.checked(json!({}), json!(1)).await, Checked::Fits));
        assert!((&mut waiting).now_or_never().is_none());
        go.send(()).unwrap();
        long.await.unwrap().unwrap();
        assert!(waiting.await.iter().all(|checked| matches!(checked, Checked::Misfits(_))));
    }
}
