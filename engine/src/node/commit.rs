//! The group commit: one writer gathers what all runs of the node append and writes it in one transaction, as soon as the
//! one before is done. The slower the disk, the larger the groups; an idle node commits at once.

use super::{Commission, Shared};
use crate::{
    run::event::Event,
    store::{Append, Appended, Chunk},
};
use agentruntime_host_api::{RunId, Timestamp};
use std::{collections::HashMap, sync::Arc, time::Instant};
use tokio::sync::{mpsc, oneshot};

/// Appends that may wait for the writer; an actor that runs ahead of the disk further than that waits, too.
pub(super) const QUEUE_MAX: usize = 1_024;
/// Appends in one transaction, so that it stays short.
const GROUP_MAX: usize = 512;

/// What an actor hands to the writer.
pub(super) struct Commit {
    pub(super) of: Arc<Commission>,
    pub(super) append: Append,
    pub(super) events: Vec<Event>,
    /// When the run began, if it ends with this.
    pub(super) ended: Option<Timestamp>,
    /// Who waits for the verdict.
    pub(super) done: Option<oneshot::Sender<Appended>>,
    /// Who waits until it is durable, and hears nothing where it never is.
    pub(super) waiting: Vec<oneshot::Sender<()>>,
}

/// One run's part of a transaction: consecutive appends as one.
struct Group {
    append: Append,
    then: Then,
}

/// What follows once it is known what became of an append.
struct Then {
    of: Arc<Commission>,
    events: Vec<Event>,
    ended: Option<Timestamp>,
    done: Vec<oneshot::Sender<Appended>>,
    waiting: Vec<oneshot::Sender<()>>,
}

/// Writes until nobody can send any more.
pub(super) async fn write(shared: Arc<Shared>, mut queue: mpsc::Receiver<Commit>) {
    let mut gathered = Vec::with_capacity(GROUP_MAX);
    while queue.recv_many(&mut gathered, GROUP_MAX).await > 0 {
        // After a failed commit, what a run had appended behind it rests on events that may be missing.
        let kept =
            gathered.drain(..).filter(|commit| commit.append.create.is_some() || shared.holds(commit.append.lease));
        let groups = group(kept);
        let (appends, rest): (Vec<_>, Vec<_>) = groups.into_iter().map(|group| (group.append, group.then)).unzip();
        let begun = Instant::now();
        let committed = shared.store.commit(&shared.id, shared.config.lease, &appends).await;
        // Precise enough below 2^53 of them.
        metrics::histogram!("agentruntime_commit_batch").record(appends.len() as f64);
        metrics::histogram!("agentruntime_commit_duration_seconds").record(begun.elapsed());
        match committed {
            Ok(verdicts) => {
                for ((append, then), verdict) in appends.iter().zip(rest).zip(verdicts) {
                    settle(&shared, append, then, verdict);
                }
            }
            // Whether it took effect is not known. The runs are let go and claimed again: what counts is what the
            // journal then says.
            Err(error) => {
                if !error.is_outage() {
                    tracing::error!(%error, runs = appends.len(), "a commit failed; its runs are taken up again from the journal");
                }
                for append in &appends {
                    shared.abandon(append.lease);
                    shared.watchers.end(append.lease.run);
                }
            }
        }
    }
}

fn settle(shared: &Shared, append: &Append, then: Then, verdict: Appended) {
    let Then { of, events, ended, done, waiting } = then;
    follow(shared, &of, append, events, verdict);
    if verdict == Appended::Durable {
        if let Some(started_at) = ended {
            tell_end(&of, append, started_at);
        }
        for waiting in waiting {
            // Whoever asked may have gone; that is its own affair.
            let _ = waiting.send(());
        }
    }
    for done in done {
        let _ = done.send(verdict);
    }
}

fn follow(shared: &Shared, of: &Commission, append: &Append, events: Vec<Event>, verdict: Appended) {
    let lease = append.lease;
    match verdict {
        Appended::Durable => {
            // Before anybody hears of it, who may start something next.
            shared.tenants.wrote(&of.scope.tenant, append.event_bytes());
            shared.watchers.publish(lease.run, of, events);
            if append.release.is_some() {
                shared.forget(lease);
            } else if append.create.is_some() {
                shared.is_durable(lease);
            }
            if append.release.is_some() && !append.row.status.is_final() {
                // It may be due earlier than what the node waits for.
                shared.work.notify_one();
            }
            for (run, _) in &append.signals {
                shared.tell(*run);
            }
            if !append.children.is_empty() {
                shared.publish_children(append);
                shared.work.notify_one();
            }
        }
        Appended::LeaseLost => {
            tracing::warn!(run = %lease.run, epoch = lease.epoch, "lost the lease on a run; another node has it");
            shared.abandon(lease);
            shared.watchers.end(lease.run);
        }
        // Whoever wanted it started lets go of what it began; the id may be that of a run which the node holds.
        Appended::AlreadyExists | Appended::Repeated(_) => {}
    }
}

/// One line of the log for each run that ended. That one failed is its author's affair: the service did what it should.
fn tell_end(of: &Commission, append: &Append, started_at: Timestamp) {
    let row = &append.row;
    let status = row.status.as_str();
    metrics::counter!("agentruntime_runs_finished_total", "status" => status).increment(1);
    tracing::info!(
        run = %append.lease.run,
        workflow = of.workflow.as_str(),
        tenant = of.scope.tenant.as_str(),
        project = of.scope.project.as_str(),
        status,
        seconds = row.finished_at.map(|at| at.since(started_at).as_secs_f64()),
        error = row.error.as_ref().map(|error| tracing::field::display(error.code)),
        "a run ended"
    );
}

/// Joins consecutive appends of the same actor, in the order in which the actors first appear. An actor shares what it
/// commits for with its own start alone: another start with the id of its run has the same lease and must not be joined.
fn group(commits: impl Iterator<Item = Commit>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut places: HashMap<(RunId, *const Commission), usize> = HashMap::new();
    for Commit { of, append, events, ended, done, waiting } in commits {
        let actor = (append.lease.run, Arc::as_ptr(&of));
        match places.get(&actor).map(|&place| &mut groups[place]) {
            Some(group) if group.append.lease == append.lease && group.append.release.is_none() => {
                group.then.events.extend(events);
                group.then.ended = ended.or(group.then.ended);
                group.then.done.extend(done);
                group.then.waiting.extend(waiting);
                join(&mut group.append, append);
            }
            _ => {
                places.insert(actor, groups.len());
                let done = done.into_iter().collect();
                groups.push(Group { append, then: Then { of, events, ended, done, waiting } });
            }
        }
    }
    groups
}

fn join(earlier: &mut Append, later: Append) {
    earlier.events = match (earlier.events.take(), later.events) {
        (Some(first), Some(second)) => Some(concatenated(first, &second)),
        (one, other) => one.or(other),
    };
    earlier.row = later.row;
    earlier.inbox_read = earlier.inbox_read.max(later.inbox_read);
    earlier.release = later.release;
    earlier.tasks_opened.extend(later.tasks_opened);
    earlier.tasks_closed.extend(later.tasks_closed);
    earlier.children.extend(later.children);
    earlier.signals.extend(later.signals);
}

/// Two JSON lists as one.
fn concatenated(mut first: Chunk, second: &Chunk) -> Chunk {
    first.body.pop();
    first.body.push(',');
    first.body.push_str(&second.body[1..]);
    first.last_seq = second.last_seq;
    first
}
