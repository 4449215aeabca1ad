//! `validate`: the dry-run of a graph.

use super::{
    Ending, arguments::ValidateArguments, context::Context, failure::Refusal, graph_file::GraphFile, json_argument,
    screen, style,
};
use crate::operations;
use agentruntime_engine::graph::{DryRun, DryRunOptions};
use std::sync::Arc;

pub(crate) async fn validate(context: &Context, arguments: ValidateArguments) -> anyhow::Result<Ending> {
    let file = GraphFile::read(&arguments.graph)?;
    let mut options = match &arguments.options {
        Some(text) => read_options(text)?,
        None => DryRunOptions::default(),
    };
    if let Some(input) = &arguments.input {
        options.params.trigger_payload = Some(json_argument::read("the input", input)?);
    }
    let sandbox = context.sandbox()?;
    let report = operations::dry_run(Arc::new(file.document), move || options, sandbox, ()).await;
    if context.json {
        screen::json_line(&serde_json::to_value(&report)?)?;
    } else {
        screen::print(&text(&report))?;
    }
    Ok(if report.valid { Ending::Done } else { Ending::Refused })
}

fn read_options(text: &str) -> Result<DryRunOptions, Refusal> {
    let options = json_argument::read("--options", text)?;
    serde_json::from_value(options).map_err(|error| Refusal::new("INVALID_JSON", format!("--options: {error}")))
}

fn text(report: &DryRun) -> String {
    let mut text = style::issues(&report.issues);
    let errors = report.issues.iter().filter(|issue| issue.is_error()).count();
    let warnings = report.issues.len() - errors;
    let counted = |count: usize, word: &str| match count {
        0 => None,
        1 => Some(format!("1 {word}")),
        count => Some(format!("{count} {word}s")),
    };
    let found: Vec<String> = [counted(errors, "error"), counted(warnings, "warning")].into_iter().flatten().collect();
    let steps = counted(report.topological_order.len(), "step").unwrap_or_default();
    let verdict = match (report.valid, found.is_empty()) {
        (true, true) => format!("{}: {steps}", style::good("valid")),
        (true, false) => format!("{}: {steps}, {}", style::good("valid"), found.join(", ")),
        (false, _) => format!("{}: {}", style::bad("not valid"), found.join(", ")),
    };
    text.push_str(&verdict);
    text.push('\n');
    text
}
