//! Which runs there are: lists by filter, from the newest to the oldest, of one project or several of a tenant.
//!
//! A page is read along an index that has its order, either of the project or of the workflow, so that the first page of a
//! workflow costs the same however many runs there are.

use super::{
    LIST_MAX, Lineage, RunCursor, RunFilter, RunRecord, Scope, Store,
    runs::{run_columns, run_record},
};
use crate::{
    database::{StoreError, Values, json, number},
    run::event::RunStatus,
};
use agentruntime_host_api::{ProjectId, TenantId, Timestamp};

/// Projects in one list: each is a question of its own to the database.
pub const PROJECTS_MAX: usize = 100;

/// All but the workflow. The pattern `$11` is for what is stored as JSON; ids hold nothing that JSON would escape. Of an
/// error's document, what stands before its message does not count.
macro_rules! list_where {
    () => {
        " FROM runs WHERE tenant_id = $1 AND project_id = $2 AND (started_at, run_id) < ($3, $4) AND started_at >= $5 \
         AND ($6 IS NULL OR status = $6) AND ($7 IS NULL OR trigger_type = $7) AND ($8 IS NULL OR version = $8) \
         AND ($9 = 0 OR parent_run_id IS NULL) AND ($12 IS NULL OR pat_id = $12) \
         AND ($11 IS NULL OR run_id LIKE lower(CAST($11 AS TEXT)) ESCAPE '\\' OR lower(workflow_id) LIKE lower(CAST($11 AS TEXT)) ESCAPE '\\' \
         OR lower(external_user_id) LIKE lower(CAST($11 AS TEXT)) ESCAPE '\\' \
         OR lower(error) LIKE '%\"message\":\"' || lower(CAST($11 AS TEXT)) ESCAPE '\\')"
    };
}

const LIST: &str =
    concat!("SELECT ", run_columns!(), list_where!(), " ORDER BY started_at DESC, run_id DESC LIMIT $10");

const LIST_OF_WORKFLOW: &str = concat!(
    "SELECT ",
    run_columns!(),
    list_where!(),
    " AND workflow_id = $13 ORDER BY started_at DESC, run_id DESC LIMIT $10"
);

const COUNT_UNFINISHED: &str =
    "SELECT COUNT(*) FROM (SELECT 1 FROM runs WHERE finished_at IS NULL AND tenant_id = $1 LIMIT $2) t";

impl Store {
    /// How many runs of a tenant have not ended; counts no further than `up_to`.
    pub async fn unfinished_runs(&self, tenant: &TenantId, up_to: u32) -> Result<u32, StoreError> {
        let mut values = Values::default();
        values.text(tenant.as_str()).number(up_to);
        number(&self.shared.database.row(COUNT_UNFINISHED, values).await?, 0)
    }

    /// Runs of a project, the newest first.
    pub async fn runs(&self, scope: &Scope, filter: &RunFilter) -> Result<Vec<RunRecord>, StoreError> {
        let mut values = Values::default();
        let (at, run) = upper_bound(filter);
        values.scope(scope).number(at).text(run);
        values.number(filter.started_from.map_or(i64::MIN, Timestamp::as_micros));
        values.maybe_text(filter.status.map(RunStatus::as_str)).maybe_text(filter.trigger_type.as_deref());
        values.maybe_number(filter.version).number(u8::from(filter.lineage == Lineage::Parentless));
        values.number(limit(filter)).maybe_text(filter.text.as_deref().map(pattern));
        values.maybe_text(filter.pat_id.as_deref());
        let rows = match &filter.workflow {
            Some(workflow) => {
                values.text(workflow.as_str());
                self.shared.database.rows(LIST_OF_WORKFLOW, values).await?
            }
            None => self.shared.database.rows(LIST, values).await?,
        };
        rows.iter().map(run_record).collect()
    }

    /// Runs of several projects of a tenant as one list, the newest first; at most [`PROJECTS_MAX`] projects.
    pub async fn runs_in(
        &self,
        tenant: &TenantId,
        projects: &[ProjectId],
        filter: &RunFilter,
    ) -> Result<Vec<RunRecord>, StoreError> {
        if projects.len() > PROJECTS_MAX {
            return Err(StoreError::TooManyProjects { given: projects.len(), max: PROJECTS_MAX });
        }
        let mut projects = projects.to_vec();
        projects.sort();
        projects.dedup();
        let mut filter = filter.clone();
        let mut found: Vec<RunRecord> = Vec::new();
        for project in projects {
            found.extend(self.runs(&Scope { tenant: tenant.clone(), project }, &filter).await?);
            found.sort_unstable_by_key(|record| std::cmp::Reverse((record.started_at, record.run.to_string())));
            found.truncate(limit(&filter) as usize);
            // What is older than all of a full page is of no use in the projects that follow.
            if let Some(last) = found.last().filter(|_| found.len() == limit(&filter) as usize) {
                filter.started_from = filter.started_from.max(Some(last.started_at));
            }
        }
        Ok(found)
    }
}

fn limit(filter: &RunFilter) -> u32 {
    filter.limit.unwrap_or(LIST_MAX).min(LIST_MAX)
}

/// The place in the list before which the page begins: the cursor's, or where the time ends, whichever comes later in it.
fn upper_bound(filter: &RunFilter) -> (i64, String) {
    let end = (filter.started_to.map_or(i64::MAX, Timestamp::as_micros), String::new());
    let cursor = |RunCursor { started_at, run }: RunCursor| (started_at.as_micros(), run.to_string());
    filter.before.map_or(end.clone(), |before| cursor(before).min(end))
}

/// A pattern that finds the text anywhere, as it is written in JSON.
fn pattern(text: &str) -> String {
    let quoted = json(&text);
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default();
    let mut pattern = String::from("%");
    for letter in inner.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}
