//! Random graphs: every step type, condition, policy and way to fail, small enough to shrink to the one that matters.

use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

/// What a random graph is made from.
#[derive(Clone, Debug)]
pub(crate) struct GraphPlan {
    steps: Vec<StepPlan>,
    drains: bool,
}

#[derive(Clone, Debug)]
struct StepPlan {
    kind: u8,
    /// A bit for each step before it.
    depends_on: u16,
    /// What makes it fail, retry, be skipped and the like.
    traits: Traits,
    body: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Traits {
    enabled: bool,
    condition: u8,
    retries: u8,
    on_error: u8,
    timeout: bool,
    detail: u8,
    terminal: bool,
}

pub(crate) fn graph_plans() -> impl Strategy<Value = GraphPlan> {
    (vec(step_plans(), 1..8), any::<bool>()).prop_map(|(steps, drains)| GraphPlan { steps, drains })
}

fn step_plans() -> impl Strategy<Value = StepPlan> {
    let traits = (
        prop::bool::weighted(0.9),
        prop_oneof![4 => Just(0u8), 1 => 1u8..6],
        prop_oneof![2 => Just(0u8), 1 => 1u8..3],
        prop_oneof![2 => Just(0u8), 1 => 1u8..3],
        prop::bool::weighted(0.3),
        any::<u8>(),
        prop::bool::weighted(0.1),
    );
    let traits = traits.prop_map(|(enabled, condition, retries, on_error, timeout, detail, terminal)| Traits {
        enabled,
        condition,
        retries,
        on_error,
        timeout,
        detail,
        terminal,
    });
    (0u8..12, any::<u16>(), traits, vec(any::<u8>(), 1..3)).prop_map(|(kind, depends_on, traits, body)| StepPlan {
        kind,
        depends_on,
        traits,
        body,
    })
}

impl GraphPlan {
    /// The graph as an author would write it.
    pub(crate) fn document(&self) -> Value {
        let steps: Vec<Value> = self.steps.iter().enumerate().map(|(index, step)| step.document(index)).collect();
        json!({ "failure_policy": if self.drains { "drain" } else { "fail_fast" }, "steps": steps })
    }
}

impl StepPlan {
    fn document(&self, index: usize) -> Value {
        let Traits { enabled, condition, retries, on_error, timeout, detail, terminal } = self.traits;
        let before: Vec<String> = (0..index).filter(|bit| self.depends_on & (1 << bit) != 0).map(id).collect();
        let mut step = self.own_fields();
        let upstream = before.first().cloned();
        let more = step.as_object_mut().unwrap();
        more.insert("id".into(), id(index).into());
        more.insert("enabled".into(), enabled.into());
        more.insert("terminal".into(), terminal.into());
        if before.is_empty() && detail.is_multiple_of(17) {
            more.insert("no_auto_start".into(), true.into());
        }
        more.insert("depends_on".into(), json!(before));
        match (condition, upstream) {
            (1, _) => drop(more.insert("condition".into(), "{{ input.no }}".into())),
            (2, _) => drop(more.insert("skip_when".into(), "{{ input.no }}".into())),
            (3, Some(id)) => drop(more.insert("condition".into(), format!("{{{{ steps.{id}.result.ok }}}}").into())),
            (4, Some(id)) => drop(more.insert("skip_when".into(), format!("{{{{ steps.{id}.result.ok }}}}").into())),
            (5, Some(id)) => {
                drop(more.insert("condition".into(), format!("{{{{ steps.{id}.result.approved }}}}").into()))
            }
            _ => {}
        }
        more.insert("retry_count".into(), retries.into());
        match on_error {
            1 => drop(more.insert("on_error".into(), "continue".into())),
            2 => drop(more.insert("on_error".into(), json!({ "result": { "ok": false } }))),
            _ => {}
        }
        if timeout {
            more.insert("timeout_s".into(), 10.into());
        }
        step
    }

    fn own_fields(&self) -> Value {
        let detail = self.traits.detail;
        match self.kind {
            0..=2 => json!({ "type": "lua_script", "script": program(detail) }),
            3 => {
                json!({ "type": "human_task", "task_type": "t", "on_reject": if detail.is_multiple_of(2) { "stop" } else { "continue" } })
            }
            4 => json!({ "type": "sleep", "duration_s": detail % 40 }),
            5 => json!({ "type": "workflow_call", "workflow_id": "w", "version": 1 }),
            6 => json!({ "type": "human_task", "task_type": "t", "task_payload": { "x": "{{ input.missing }}" } }),
            7 => json!({ "type": "mcp_call", "tool_name": "t", "server_url": "https://x.example" }),
            8 | 9 => self.for_each(detail),
            _ => self.repeat(detail),
        }
    }

    fn for_each(&self, detail: u8) -> Value {
        let policies = ["fail_fast", "continue_on_error", "pause", "human_review"];
        let items: Vec<Value> =
            (0..detail % 5).map(|item| if item == detail / 5 % 6 { "bad".into() } else { item.into() }).collect();
        let mut body = self.body_steps("e");
        if detail.is_multiple_of(2) {
            body[0]["script"] = "fail LUA_ERROR if item \"bad\"".into();
        }
        json!({
            "type": "for_each", "for_each_items": items, "for_each_body_steps": body,
            "for_each_max_parallel": 1 + detail % 3, "for_each_error_policy": policies[usize::from(detail) / 7 % 4],
        })
    }

    fn repeat(&self, detail: u8) -> Value {
        let mut step = json!({
            "type": "while", "while_mode": if detail.is_multiple_of(2) { "until" } else { "while" },
            "while_max_iterations": 1 + detail % 4, "while_body_steps": self.body_steps("w"),
        });
        match detail % 3 {
            0 => step["while_eval_script"] = format!("pass loop {}", detail % 4).into(),
            1 => step["while_condition"] = "{{ body.w0.ok }}".into(),
            _ => step["while_eval_script"] = "fail LUA_ERROR until 2".into(),
        }
        step
    }

    fn body_steps(&self, prefix: &str) -> Value {
        let step = |(index, detail): (usize, &u8)| {
            let mut step = json!({ "id": format!("{prefix}{index}"), "type": "lua_script", "script": program(*detail), "retry_count": detail / 9 % 2 });
            match detail % 11 {
                0 => step["enabled"] = false.into(),
                1 => step["condition"] = "{{ input.no }}".into(),
                2 => step["on_error"] = "continue".into(),
                _ => {}
            }
            step
        };
        self.body.iter().enumerate().map(step).collect()
    }
}

fn program(detail: u8) -> &'static str {
    match detail % 10 {
        0 => "fail LUA_ERROR",
        1 => "fail LUA_ERROR until 2",
        2 => "fail INVALID_INPUT",
        3 => "give {\"ok\":false}",
        4 => "hold",
        5 => "echo input steps",
        _ => "give {\"ok\":true}",
    }
}

fn id(index: usize) -> String {
    format!("s{index}")
}
