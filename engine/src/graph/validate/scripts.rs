//! Scripts in the sandbox: whether they compile, and what they do with made-up values.

use super::{DryRunOptions, fixtures};
use crate::graph::{
    issue::{Check, IssueCode},
    parse::Draft,
    report::{Report, ScriptFound},
};
use agentruntime_host_api::{ErrorCode, Guest, Invocation, Language, Outcome, Program, StepError};

/// Scripts that one dry-run executes at most: each may take seconds.
const FIXTURES_MAX: usize = 50;

/// Compiles every script, and runs those that there are values for.
pub(super) async fn check(draft: &Draft, options: &DryRunOptions, guest: &dyn Guest, report: &mut Report) {
    let wanted = options.wanted();
    let is_wanted = |script: &&ScriptFound| {
        options.step_ids.as_ref().is_none_or(|ids| ids.iter().any(|id| is_of(script, draft, id)))
    };
    // Without anything made up, nothing runs: a script that reads nothing could, and would only cost its time.
    let may_run = wanted.contains(&Check::LuaFixture) && options.has_fixtures();
    let mut fixtures_left = FIXTURES_MAX;
    for script in draft.scripts.iter().filter(is_wanted) {
        let compiled = match wanted.contains(&Check::LuaSyntax) {
            true => guest.check(options.tenant.clone(), program(script, draft)).await,
            false => Ok(()),
        };
        if let Err(error) = compiled {
            report.push(script.place.error(IssueCode::LuaSyntaxError, error.message));
        } else if let (true, 1..) = (may_run, fixtures_left)
            && let Some(invocation) = fixtures::invocation(draft, options, script, program(script, draft))
        {
            fixtures_left -= 1;
            run(script, invocation, guest, report).await;
        }
    }
}

async fn run(script: &ScriptFound, invocation: Invocation, guest: &dyn Guest, report: &mut Report) {
    match guest.start(invocation).await {
        Outcome::Done(_) => {}
        Outcome::Failed(error) => {
            report.push(script.place.error(fixture_code(&error), format!("on the values given: {}", error.message)));
        }
        Outcome::Requests { requests, .. } => {
            let asked: Vec<&str> = requests.iter().map(|request| request.capability.as_str()).collect();
            let message = format!(
                "the script asks for {}, which a dry-run never does: what follows was not tried",
                asked.join(", ")
            );
            report.push(script.place.warning(IssueCode::LuaFixtureRuntime, message));
        }
    }
}

/// A script that ran and returned something else than a table is told apart by the guest's own sentence: both are
/// failures of the script.
fn fixture_code(error: &StepError) -> IssueCode {
    match error.code {
        ErrorCode::LuaError if error.message.contains("must return a table") => IssueCode::LuaFixtureReturnType,
        _ => IssueCode::LuaFixtureRuntime,
    }
}

fn is_of(script: &ScriptFound, draft: &Draft, id: &str) -> bool {
    script.site.inner.as_deref() == Some(id) || &*draft.steps[script.site.step].id == id
}

fn program(script: &ScriptFound, draft: &Draft) -> Program {
    let top = &draft.steps[script.site.step].id;
    let name = script.site.inner.as_ref().unwrap_or(top).clone();
    Program { language: Language::Lua, name, source: script.source.clone() }
}
