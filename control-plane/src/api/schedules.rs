//! Schedules of workflows.

use super::{
    State,
    extract::{Body, Path, Query, object},
    page::{Page, PageQuery},
    problem::{Problem, ProblemBody},
};
use crate::{
    access::{
        May,
        permission::{ReadWorkflows, WriteTriggers},
    },
    triggers::{
        GivenParams, ScheduleId, StartParams,
        schedules::{self, Change, Overlap, Terms},
    },
};
use agentruntime_engine::run::event::StepInputs;
use agentruntime_host_api::{self as host, Timestamp, WorkflowId};
use axum::{Json, extract::State as Given, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

/// Due times that are shown ahead.
const SHOWN_AHEAD: usize = 5;

/// The routes of schedules.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, change, delete))
}

/// A schedule of a workflow.
#[derive(Serialize, ToSchema)]
struct Schedule {
    /// Its id.
    id: Uuid,
    /// The workflow that it starts.
    workflow_id: String,
    /// When it comes due: minute, hour, day of month, month, day of week.
    #[schema(example = "30 9 * * MON-FRI")]
    cron: String,
    /// The time zone in which that is read. A time of day that does not exist on a day comes due at the next moment that
    /// does, one that exists twice comes due at its first; where the hour is `*`, it goes on in real time.
    #[schema(example = "Europe/Berlin")]
    timezone: String,
    /// The input of each run.
    #[schema(value_type = Option<Value>)]
    trigger_payload: Option<host::Json>,
    /// Input of single steps.
    #[schema(value_type = Object)]
    trigger_steps: StepInputs,
    /// Steps that are left out.
    excluded_step_ids: Vec<String>,
    /// What happens at a due time while the run of an earlier one has not ended.
    overlap: Overlap,
    /// Whether due times that were missed are made up for: up to 100 of them.
    catch_up: bool,
    /// Whether it comes due at all.
    is_enabled: bool,
    /// The next five due times; none while it is not enabled.
    #[schema(value_type = Vec<String>)]
    next_due_times: Vec<String>,
    /// The last due time that was worked on, whether a run was started or `last_error` says why not.
    #[schema(format = DateTime)]
    last_due: Option<String>,
    /// The last run that it started.
    last_run_id: Option<Uuid>,
    /// Why the last due time started none.
    last_error: Option<String>,
    /// Who made it.
    created_by: Uuid,
    /// In whose name runs are started: who made or changed it last.
    owner: Uuid,
    /// The token by which they did; null for a session. When it is revoked or expires, the schedule starts nothing more.
    by_pat_id: Option<Uuid>,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was changed last.
    #[schema(format = DateTime)]
    updated_at: String,
}

/// What a new schedule is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewSchedule {
    /// When it comes due: minute, hour, day of month, month, day of week, or one of `@yearly`, `@monthly`, `@weekly`,
    /// `@daily`, `@hourly`. There is no field for seconds.
    #[schema(max_length = 200, example = "30 9 * * MON-FRI")]
    cron: String,
    /// The time zone in which that is read; `UTC` if it is missing.
    #[schema(example = "Europe/Berlin")]
    timezone: Option<String>,
    /// The input of each run; an empty object if it is missing. What the newest version would not take is refused here.
    #[schema(value_type = Option<Value>)]
    trigger_payload: Option<host::Json>,
    /// Input of single steps, which also lets `no_auto_start` steps run.
    #[serde(default, deserialize_with = "object")]
    #[schema(value_type = Option<Object>)]
    trigger_steps: Option<host::Json>,
    /// Steps that are left out.
    excluded_step_ids: Option<Vec<String>>,
    /// What happens at a due time while the run of an earlier one has not ended; `skip` if it is missing.
    overlap: Option<Overlap>,
    /// Whether due times that were missed are made up for; `false` if it is missing. Then only one that was missed by less
    /// than a minute is.
    catch_up: Option<bool>,
    /// `true` if it is missing.
    is_enabled: Option<bool>,
}

/// What is to be different; what is missing stays. From then on it runs in the name of whoever changed it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ScheduleChange {
    /// When it comes due.
    #[schema(max_length = 200)]
    cron: Option<String>,
    /// The time zone in which that is read.
    timezone: Option<String>,
    /// The input of each run.
    #[schema(value_type = Option<Value>)]
    trigger_payload: Option<host::Json>,
    /// Input of single steps.
    #[serde(default, deserialize_with = "object")]
    #[schema(value_type = Option<Object>)]
    trigger_steps: Option<host::Json>,
    /// Steps that are left out.
    excluded_step_ids: Option<Vec<String>>,
    /// What happens while the run of an earlier due time has not ended.
    overlap: Option<Overlap>,
    /// Whether due times that were missed are made up for.
    catch_up: Option<bool>,
    /// Whether it comes due at all.
    is_enabled: Option<bool>,
}

/// Lists the schedules of a workflow, in the order in which they were made.
#[utoipa::path(
    get,
    path = "/workflows/{id}/triggers",
    operation_id = "list_schedules",
    tag = "triggers",
    params(("id" = Uuid, Path, description = "The workflow"), PageQuery),
    responses((status = 200, body = Page<Schedule>), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn list(
    may: May<ReadWorkflows>,
    Given(app): Given<State>,
    Path(workflow): Path<Uuid>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<Schedule>>, Problem> {
    let (limit, after) = (page.limit()?, page.after()?);
    let found = schedules::list(&app.project(&may.place), &named(workflow), after, limit + 1).await?;
    let place = |it: &schedules::Schedule| (it.created_at.as_micros(), it.id.as_uuid());
    let now = app.database().time();
    Ok(Json(Page::of(found, limit, place, |it| shown(it, now))))
}

/// Makes a schedule: the workflow's newest version is started at each due time, once, in the name of whoever made or
/// changed the schedule last.
#[utoipa::path(
    post,
    path = "/workflows/{id}/triggers",
    operation_id = "create_schedule",
    tag = "triggers",
    params(("id" = Uuid, Path, description = "The workflow")),
    request_body = NewSchedule,
    responses((status = 201, body = Schedule), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write", "workflow:run"]), ("session" = []))
)]
async fn create(
    may: May<WriteTriggers>,
    Given(app): Given<State>,
    Path(workflow): Path<Uuid>,
    Body(new, _): Body<NewSchedule>,
) -> Result<(StatusCode, Json<Schedule>), Problem> {
    let given = GivenParams {
        trigger_payload: new.trigger_payload,
        trigger_steps: new.trigger_steps,
        excluded_step_ids: new.excluded_step_ids,
    };
    let project = app.project(&may.place);
    let terms = Terms {
        cron: new.cron,
        timezone: new.timezone.unwrap_or_else(|| "UTC".into()),
        params: given.over(StartParams::default(), &app.node, &project.scope.tenant).await?,
        overlap: new.overlap.unwrap_or(Overlap::Skip),
        catch_up: new.catch_up.unwrap_or(false),
        is_enabled: new.is_enabled.unwrap_or(true),
    };
    let made = schedules::create(&project, &app.node, &may, &named(workflow), terms).await?;
    Ok((StatusCode::CREATED, Json(shown(made, app.database().time()))))
}

/// Shows a schedule.
#[utoipa::path(
    get,
    path = "/workflows/{id}/triggers/{trigger}",
    operation_id = "get_schedule",
    tag = "triggers",
    params(("id" = Uuid, Path, description = "The workflow"), ("trigger" = Uuid, Path, description = "The schedule")),
    responses((status = 200, body = Schedule), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:read"]), ("session" = []))
)]
async fn get(
    may: May<ReadWorkflows>,
    Given(app): Given<State>,
    Path((workflow, trigger)): Path<(Uuid, Uuid)>,
) -> Result<Json<Schedule>, Problem> {
    let found = schedules::get(&app.project(&may.place), &named(workflow), ScheduleId::from(trigger)).await?;
    Ok(Json(shown(found, app.database().time())))
}

/// Changes a schedule.
#[utoipa::path(
    patch,
    path = "/workflows/{id}/triggers/{trigger}",
    operation_id = "update_schedule",
    tag = "triggers",
    params(("id" = Uuid, Path, description = "The workflow"), ("trigger" = Uuid, Path, description = "The schedule")),
    request_body = ScheduleChange,
    responses((status = 200, body = Schedule), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write", "workflow:run"]), ("session" = []))
)]
async fn change(
    may: May<WriteTriggers>,
    Given(app): Given<State>,
    Path((workflow, trigger)): Path<(Uuid, Uuid)>,
    Body(change, _): Body<ScheduleChange>,
) -> Result<Json<Schedule>, Problem> {
    let change = Change {
        cron: change.cron,
        timezone: change.timezone,
        params: GivenParams {
            trigger_payload: change.trigger_payload,
            trigger_steps: change.trigger_steps,
            excluded_step_ids: change.excluded_step_ids,
        },
        overlap: change.overlap,
        catch_up: change.catch_up,
        is_enabled: change.is_enabled,
    };
    let project = app.project(&may.place);
    let changed =
        schedules::change(&project, &app.node, &may, &named(workflow), ScheduleId::from(trigger), change).await?;
    Ok(Json(shown(changed, app.database().time())))
}

/// Deletes a schedule. Its runs stay.
#[utoipa::path(
    delete,
    path = "/workflows/{id}/triggers/{trigger}",
    operation_id = "delete_schedule",
    tag = "triggers",
    params(("id" = Uuid, Path, description = "The workflow"), ("trigger" = Uuid, Path, description = "The schedule")),
    responses((status = 204), (status = "default", body = ProblemBody)),
    security(("token" = ["workflow:write", "workflow:run"]), ("session" = []))
)]
async fn delete(
    may: May<WriteTriggers>,
    Given(app): Given<State>,
    Path((workflow, trigger)): Path<(Uuid, Uuid)>,
) -> Result<StatusCode, Problem> {
    schedules::delete(&app.project(&may.place), &may, &named(workflow), ScheduleId::from(trigger)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn named(workflow: Uuid) -> WorkflowId {
    WorkflowId::new(workflow.to_string())
}

fn shown(it: schedules::Schedule, now: Timestamp) -> Schedule {
    let ahead = it.terms.due_times().ok().filter(|_| it.terms.is_enabled);
    let ahead = ahead.map(|due| due.all_after(now).take(SHOWN_AHEAD).map(|time| time.to_string()).collect());
    Schedule {
        id: it.id.as_uuid(),
        workflow_id: it.workflow.to_string(),
        cron: it.terms.cron,
        timezone: it.terms.timezone,
        trigger_payload: it.terms.params.trigger_payload,
        trigger_steps: it.terms.params.trigger_steps,
        excluded_step_ids: it.terms.params.excluded_step_ids,
        overlap: it.terms.overlap,
        catch_up: it.terms.catch_up,
        is_enabled: it.terms.is_enabled,
        next_due_times: ahead.unwrap_or_default(),
        last_due: it.last_due.map(|time| time.to_string()),
        last_run_id: it.last_run.map(|run| run.as_uuid()),
        last_error: it.last_error,
        created_by: it.created_by.as_uuid(),
        owner: it.owner.as_uuid(),
        by_pat_id: it.by_pat.map(|pat| pat.as_uuid()),
        created_at: it.created_at.to_string(),
        updated_at: it.updated_at.to_string(),
    }
}
