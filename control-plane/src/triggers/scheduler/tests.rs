//! Schedules over time that stands still until it is moved, on one node and on two that share a database.

use super::*;
use crate::{
    access::{
        Caller, May, TokenScope, TokenScopes, Visibility,
        entry::{self, NamedPlace},
        permission::{ManageProject, WriteTriggers},
        projects::ProjectChange,
        tables,
        tokens::{self, TokenSpec},
        users,
    },
    operations::{
        Checking, Checks, Command,
        approvals::{ApprovalState, Verdict},
        drafts::{Expected, NewWorkflow, WorkflowChange},
    },
    triggers::{
        ScheduleId, StartParams,
        schedules::{Change, Terms},
        system,
    },
};
use agentruntime_engine::{
    node::NodeConfig,
    store::{Location, ManualClock, RunFilter, RunRecord},
};
use agentruntime_host_api::{Guest, Invocation, Json, Outcome, Program, StepError, TenantId, WorkflowId};
use agentruntime_tests::postgres;
use futures_util::future::BoxFuture;
use serde_json::json;
use tempfile::TempDir;

/// 2026-01-01T00:00:30Z
const START: Timestamp = Timestamp::from_micros(1_767_225_630_000_000);
/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Steps that compute do not occur here.
struct NoSteps;

impl Guest for NoSteps {
    fn start(&self, _: Invocation) -> BoxFuture<'_, Outcome> {
        Box::pin(std::future::pending())
    }

    fn check(&self, _: TenantId, _: Program) -> BoxFuture<'_, Result<(), StepError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A process: a store and a node.
struct Process {
    store: Store,
    node: Node,
}

impl Process {
    async fn at(location: &Location, clock: &Arc<ManualClock>) -> Self {
        let store = Store::open(location, clock.clone()).await.unwrap();
        store.database().migrate(&tables::MIGRATIONS).await.unwrap();
        let node = Node::start(NodeConfig::default(), store.clone(), Arc::new(NoSteps), clock.clone());
        Self { store, node }
    }

    async fn work(&self) -> Option<Timestamp> {
        Scheduler::new(&self.store, &self.node).work().await.unwrap()
    }
}

/// A project with a workflow whose runs wait for a person, and a process that works on it.
struct World {
    process: Process,
    clock: Arc<ManualClock>,
    project: Project,
    may: May<WriteTriggers>,
    workflow: WorkflowId,
    _folder: Option<TempDir>,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(folder.path().join("data"));
        Self::at(&location, Some(folder)).await
    }

    async fn at(location: &Location, folder: Option<TempDir>) -> Self {
        let clock = Arc::new(ManualClock::at(START));
        let process = Process::at(location, &clock).await;
        let (caller, named) = place(process.store.database()).await;
        let may: May<WriteTriggers> = entry::enter(process.store.database(), caller, &named).await.unwrap();
        let project = Project::of(process.store.clone(), may.place.tenant.tenant.clone(), may.place.project.clone());
        let graph = json!({ "steps": [{ "id": "ask", "type": "human_task", "task_type": "approval" }] });
        let new = NewWorkflow {
            name: "timed".into(),
            description: String::new(),
            graph: Json::of_value(&graph),
            run_setup: None,
        };
        let workflow = project.create_workflow(&may.caller, new).await.unwrap().id;
        let checking = Checking { checks: &Checks::default(), guest: Arc::new(NoSteps) };
        project.publish_draft(&may.caller, checking, &workflow, None).await.unwrap();
        Self { process, clock, project, may, workflow, _folder: folder }
    }

    async fn schedule(&self, cron: &str, overlap: Overlap, catch_up: bool) -> ScheduleId {
        let params = StartParams { trigger_payload: Some(json!({ "n": 1 }).into()), ..StartParams::default() };
        let (cron, timezone) = (cron.to_owned(), "UTC".to_owned());
        let terms = Terms { cron, timezone, params, overlap, catch_up, is_enabled: true };
        schedules::create(&self.project, &self.process.node, &self.may, &self.workflow, terms).await.unwrap().id
    }

    /// Publishes a version that asks for more, in a project that wants this approved.
    async fn publish_wider(&self) {
        let (database, caller) = (self.process.store.database(), &self.may.caller);
        let (tenant, project) = (&self.may.place.tenant.tenant, &self.may.place.project);
        let named = NamedPlace {
            tenant: Some(tenant.to_string()),
            project: Some(project.to_string()),
            ..NamedPlace::default()
        };
        let may: May<ManageProject> = entry::enter(database, caller.clone(), &named).await.unwrap();
        let change = ProjectChange { requires_grant_approval: Some(true), ..ProjectChange::default() };
        projects::change(database, &may, change).await.unwrap();
        let step = json!({ "id": "send", "type": "lua_script", "script": "return {}", "capabilities": { "hosts": ["a.example"] } });
        let change =
            WorkflowChange { graph: Some(Json::of_value(&json!({ "steps": [step] }))), ..WorkflowChange::default() };
        self.project.change_workflow(caller, &self.workflow, change, &Expected::Anything).await.unwrap();
        let checking = Checking { checks: &Checks::default(), guest: Arc::new(NoSteps) };
        let published = self.project.publish_draft(caller, checking, &self.workflow, None).await.unwrap();
        assert_eq!((published.version.version, published.approval.state), (2, ApprovalState::Pending));
    }

    async fn read(&self, id: ScheduleId) -> Schedule {
        schedules::get(&self.project, &self.workflow, id).await.unwrap()
    }

    async fn runs(&self) -> Vec<RunRecord> {
        self.project.runs(&RunFilter::default()).await.unwrap()
    }

    /// Moves time and works on what is due then; tells how many runs there are.
    async fn after(&self, minutes: u32) -> usize {
        self.clock.advance(MINUTE * minutes);
        self.process.work().await;
        self.runs().await.len()
    }

    /// Ends a run and waits until it has ended.
    async fn end(&self, run: RunId) {
        let record = self.project.run(run).await.unwrap();
        self.project.command(&record, Command::Stop { graceful: false }).await.unwrap();
        let ended = async {
            while !self.project.run(run).await.unwrap().status.is_final() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.expect("a stopped run ends");
    }

    async fn audited(&self, action: &str) -> usize {
        let mut values = Values::default();
        values.text(action);
        let sql = "SELECT seq FROM audit_log WHERE action = $1";
        self.process.store.database().rows(sql, values).await.unwrap().len()
    }
}

async fn place(database: &Database) -> (Caller, NamedPlace) {
    let now = database.time().as_micros();
    let mut tx = database.begin().await.unwrap();
    let user = users::create_verified(&mut tx, "a@example.com", "A", now).await.unwrap();
    let caller = system(user);
    let tenant = tenants::create(&mut tx, &caller, "acme", "Acme", now).await.unwrap();
    projects::create(&mut tx, &caller, &tenant, "main", "Main", Visibility::Public, now).await.unwrap();
    tx.commit().await.unwrap();
    (caller, NamedPlace { tenant: Some("acme".into()), project: Some("main".into()), ..NamedPlace::default() })
}

#[tokio::test]
async fn each_due_time_starts_one_run() {
    let world = World::new().await;
    let id = world.schedule("*/5 * * * *", Overlap::Allow, false).await;
    assert_eq!(world.after(0).await, 0);
    assert_eq!(world.after(4).await, 0);
    assert_eq!(world.after(1).await, 1);
    // Looking again starts nothing.
    assert_eq!(world.after(0).await, 1);
    assert_eq!(world.after(5).await, 2);
    let (schedule, runs) = (world.read(id).await, world.runs().await);
    assert_eq!(schedule.last_due.unwrap().to_string(), "2026-01-01T00:10:00.000000Z");
    assert_eq!(schedule.next_due.to_string(), "2026-01-01T00:15:00.000000Z");
    assert_eq!(schedule.last_run, Some(runs[0].run));
    assert_eq!(
        (runs[0].trigger_type.as_str(), &runs[0].user_id),
        ("schedule", &Some(world.may.caller.user.to_string()))
    );
    assert_eq!(world.process.work().await, Some(schedule.next_due));
}

#[tokio::test]
async fn what_waits_for_an_approval_is_not_started() {
    let world = World::new().await;
    let id = world.schedule("* * * * *", Overlap::Allow, false).await;
    world.publish_wider().await;
    assert_eq!(world.after(1).await, 1);
    assert_eq!(world.runs().await[0].version, 1);
    let decided = world.project.decide_version(&world.may.caller, &world.workflow, 2, Verdict::Approve, None).await;
    assert_eq!(decided.unwrap().state, ApprovalState::Approved);
    assert_eq!(world.after(1).await, 2);
    assert_eq!((world.runs().await[0].version, world.read(id).await.last_error), (2, None));
}

#[tokio::test]
async fn a_process_that_died_between_start_and_note_leaves_nothing_twice() {
    let world = World::new().await;
    let id = world.schedule("* * * * *", Overlap::Allow, false).await;
    let seen = world.read(id).await;
    assert_eq!(world.after(1).await, 1);
    // The same due time again, as one sees it who has not read that it was worked on.
    let scheduler = Scheduler::new(&world.process.store, &world.process.node);
    scheduler.work_on(seen.clone(), world.process.store.database().time()).await.unwrap();
    assert_eq!(world.runs().await.len(), 1);
    // And as it lies in the database if the note was lost.
    let mut values = Values::default();
    values.id(id).number(seen.next_due.as_micros());
    let lost = "UPDATE schedules SET next_due = $2, last_due = NULL, last_run_id = NULL WHERE schedule_id = $1";
    world.process.store.database().write(lost, values).await.unwrap();
    assert_eq!(world.after(0).await, 1);
    let noted = world.read(id).await;
    assert_eq!((noted.last_run, noted.last_due), (Some(world.runs().await[0].run), Some(seen.next_due)));
}

#[tokio::test]
async fn while_a_run_is_under_way_due_times_are_left_out() {
    let world = World::new().await;
    let id = world.schedule("* * * * *", Overlap::Skip, false).await;
    assert_eq!(world.after(1).await, 1);
    let run = world.read(id).await.last_run.unwrap();
    assert_eq!(world.after(1).await, 1);
    assert_eq!(world.after(1).await, 1);
    let schedule = world.read(id).await;
    let why = schedule.last_error.unwrap();
    assert!(why.contains(&run.to_string()) && why.contains("has not ended"), "{why}");
    assert_eq!(schedule.last_due.map(|due| due.plus(MINUTE)), Some(schedule.next_due), "the one that was left out");
    world.end(run).await;
    assert_eq!(world.after(0).await, 1, "what was left out is not made up for");
    assert_eq!(world.after(1).await, 2);
}

#[tokio::test]
async fn of_due_times_that_queue_one_waits() {
    let world = World::new().await;
    let id = world.schedule("* * * * *", Overlap::Queue, false).await;
    assert_eq!(world.after(1).await, 1);
    assert_eq!(world.after(1).await, 1);
    let waiting = world.read(id).await.queued_due;
    assert!(waiting.is_some());
    assert_eq!(world.after(1).await, 1);
    assert_eq!(world.read(id).await.queued_due, waiting, "the first to come waits");
    world.end(world.read(id).await.last_run.unwrap()).await;
    assert_eq!(world.after(0).await, 2);
    let schedule = world.read(id).await;
    assert_eq!((schedule.queued_due, schedule.last_due), (None, waiting));
    world.end(schedule.last_run.unwrap()).await;
    assert_eq!(world.after(0).await, 2, "no more than one waited");
    assert_eq!(world.after(1).await, 3);
}

#[tokio::test]
async fn missed_due_times_are_made_up_for_only_if_asked_and_not_without_end() {
    let world = World::new().await;
    let id = world.schedule("*/10 * * * *", Overlap::Allow, false).await;
    assert_eq!(world.after(35).await, 0, "the newest was missed by five minutes");
    assert_eq!(world.after(5).await, 1, "the newest was missed by half a minute, the others by more");
    let change = Change { catch_up: Some(true), ..Change::default() };
    schedules::change(&world.project, &world.process.node, &world.may, &world.workflow, id, change).await.unwrap();
    assert_eq!(world.after(35).await, 4);
    // Each run knows for which time it stands in.
    let mut due = Vec::new();
    for run in world.runs().await {
        let events = world.project.events(run.run, 0).await.unwrap();
        due.push(events[0].public(run.run)["data"]["due_at"].as_str().unwrap().to_owned());
    }
    due.sort();
    let expected = ["00:40", "00:50", "01:00", "01:10"].map(|time| format!("2026-01-01T{time}:00.000000Z"));
    assert_eq!(due, expected);
    assert_eq!(world.after(10 * 150).await, 4 + CATCH_UP_MAX);
    let runs = world.project.runs(&RunFilter { limit: Some(1), ..RunFilter::default() }).await.unwrap();
    assert_eq!(world.read(id).await.last_run, Some(runs[0].run));
    assert_eq!(world.read(id).await.last_due.unwrap().to_string(), "2026-01-02T02:10:00.000000Z");
}

#[tokio::test]
async fn a_start_that_cannot_be_is_told_and_not_tried_for_ever() {
    let world = World::new().await;
    let id = world.schedule("* * * * *", Overlap::Skip, false).await;
    world.project.archive_workflow(&world.may.caller, &world.workflow).await.unwrap();
    assert_eq!(world.after(1).await, 0);
    let schedule = world.read(id).await;
    assert!(schedule.last_error.unwrap().contains("archived"));
    assert_eq!(schedule.next_due.to_string(), "2026-01-01T00:02:00.000000Z");
    assert_eq!(schedule.last_due.unwrap().to_string(), "2026-01-01T00:01:00.000000Z");
    assert_eq!(schedule.last_run, None);
    assert_eq!(world.after(1).await, 0);
    assert_eq!(world.audited("schedule.failed").await, 1, "the same failure again is not told again");
}

#[tokio::test]
async fn a_schedule_whose_owner_may_not_start_runs_starts_none() {
    let world = World::new().await;
    let id = world.schedule("* * * * *", Overlap::Skip, false).await;
    let mut values = Values::default();
    values.id(world.may.caller.user).number(1);
    let leave = "UPDATE memberships SET deactivated_at = $2 WHERE user_id = $1";
    world.process.store.database().write(leave, values).await.unwrap();
    assert_eq!(world.after(1).await, 0);
    assert_eq!(world.read(id).await.last_error.as_deref(), Some(OWNER_GONE));
}

#[tokio::test]
async fn a_schedule_starts_nothing_after_the_token_by_which_it_was_made() {
    let mut world = World::new().await;
    let database = world.process.store.database().clone();
    let expires_at = Some(START.plus(MINUTE * 3));
    let scopes = TokenScopes::new([TokenScope::WorkflowWrite, TokenScope::WorkflowRun]);
    let spec = TokenSpec { name: "maker".into(), project: None, scopes, expires_at };
    let mut tx = database.begin().await.unwrap();
    let (_, new) = tokens::create(&mut tx, &world.may.caller, &world.may.place.tenant, &spec, START).await.unwrap();
    tx.commit().await.unwrap();
    let in_session = world.may.clone();
    let caller =
        tokens::recognise(&database, new.expose(), in_session.caller.origin.clone()).await.unwrap().unwrap().caller;
    let pat = caller.credential.pat();
    let named = NamedPlace { project: Some("main".into()), ..NamedPlace::default() };
    world.may = entry::enter(&database, caller, &named).await.unwrap();
    let id = world.schedule("* * * * *", Overlap::Allow, false).await;
    assert_eq!(world.read(id).await.by_pat, pat);
    assert_eq!((world.after(1).await, world.after(1).await), (1, 2));
    assert_eq!(world.after(1).await, 2, "it has expired");
    let told = world.read(id).await;
    assert_eq!((told.last_error.as_deref(), world.audited("schedule.failed").await), (Some(TOKEN_GONE), 1));
    // In a session, there is no token that ends.
    schedules::change(&world.project, &world.process.node, &in_session, &world.workflow, id, Change::default())
        .await
        .unwrap();
    assert_eq!((world.after(1).await, world.read(id).await.by_pat), (3, None));
}

#[tokio::test]
async fn what_is_not_enabled_does_not_come_due_and_what_was_missed_so_is_no_loss() {
    let world = World::new().await;
    let id = world.schedule("* * * * *", Overlap::Allow, true).await;
    let switch = |is_enabled: bool| {
        let change = Change { is_enabled: Some(is_enabled), ..Change::default() };
        schedules::change(&world.project, &world.process.node, &world.may, &world.workflow, id, change)
    };
    switch(false).await.unwrap();
    assert_eq!(world.after(10).await, 0);
    switch(true).await.unwrap();
    assert_eq!(world.after(0).await, 0);
    assert_eq!(world.after(1).await, 1);
}

#[tokio::test]
async fn two_processes_on_one_database_start_each_due_time_once() {
    let Some(postgres) = postgres::server() else { return };
    let location = Location::Postgres(postgres.database());
    let world = World::at(&location, None).await;
    let other = Process::at(&location, &world.clock).await;
    let every = world.schedule("* * * * *", Overlap::Allow, true).await;
    world.schedule("*/2 * * * *", Overlap::Allow, false).await;
    for _ in 0..20 {
        world.clock.advance(MINUTE);
        tokio::join!(world.process.work(), other.work(), world.process.work(), other.work());
    }
    assert_eq!(world.runs().await.len(), 20 + 10);
    let schedule = world.read(every).await;
    assert_eq!(schedule.last_due.unwrap().to_string(), "2026-01-01T00:20:00.000000Z");
}

#[test]
fn the_newest_of_a_long_past_are_found_without_walking_over_it() {
    let walked = std::cell::Cell::new(0_u32);
    let at = |minutes: i64| Timestamp::from_micros(minutes * 60_000_000);
    let minutely = |moment: Timestamp| {
        let next = moment.as_micros().div_euclid(60_000_000) + 1;
        (next..).map(|minutes| {
            walked.set(walked.get() + 1);
            at(minutes)
        })
    };
    let check = |first: i64, now: i64, wanted: usize| {
        let found = newest(at(first), at(now), wanted, minutely);
        (found.front().map(|time| time.as_micros() / 60_000_000), found.len())
    };
    assert_eq!(check(5, 4, 1), (None, 0));
    assert_eq!(check(5, 5, 1), (Some(5), 1));
    assert_eq!(check(5, 7, 1), (Some(7), 1));
    assert_eq!(check(5, 7, 100), (Some(5), 3));
    assert_eq!(check(0, 99, 100), (Some(0), 100));
    assert_eq!(check(0, 100, 100), (Some(1), 100));
    walked.set(0);
    assert_eq!(check(0, 10_000_000, 100), (Some(9_999_901), 100));
    assert!(walked.get() < 500, "{} walked", walked.get());
}
