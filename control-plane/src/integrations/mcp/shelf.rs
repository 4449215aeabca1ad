//! Which sessions are kept, for whom, and which go first. Knows no time of its own, and nothing of what a session is.

use crate::integrations::McpInstanceId;
use agentruntime_host_api::{Caller, ProjectId, RunId, TenantId};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Whose a session is. A server may remember what was said in one, so that it serves one run and no other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    tenant: TenantId,
    project: ProjectId,
    run: RunId,
    place: Place,
}

/// What a run has a session with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// An instance of its project.
    Instance(McpInstanceId),
    /// A server that is no instance, by its address.
    Address(String),
}

impl Key {
    /// The session of a step's run with a place.
    pub(super) fn new(caller: &Caller, place: Place) -> Self {
        let Caller { tenant, project, run, .. } = caller;
        Self { tenant: tenant.clone(), project: project.clone(), run: *run, place }
    }
}

/// How many sessions are kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShelfLimits {
    /// Of all tenants.
    pub(super) all: usize,
    /// Of one.
    pub(super) of_tenant: usize,
    /// How long nobody uses one before it goes.
    pub(super) idle: Duration,
}

/// The sessions that are kept. One that is taken off ends when its last user is done with it.
#[derive(Debug)]
pub(super) struct Shelf<S> {
    limits: ShelfLimits,
    held: HashMap<Key, Held<S>>,
}

#[derive(Debug)]
struct Held<S> {
    session: Arc<S>,
    users: usize,
    /// Since when there are so many.
    since: Instant,
}

impl<S> Held<S> {
    fn is_idle(&self) -> bool {
        self.users == 0
    }
}

impl<S> Shelf<S> {
    pub(super) fn new(limits: ShelfLimits) -> Self {
        Self { limits, held: HashMap::new() }
    }

    /// The session of a key, for one user more. A new one is kept if there is room for it: where too many are kept, the one goes
    /// that nobody has used for the longest. Where all are in use, nothing is kept of the new one.
    pub(super) fn take(&mut self, key: &Key, now: Instant, make: impl FnOnce() -> S) -> Arc<S> {
        if let Some(held) = self.held.get_mut(key) {
            held.users += 1;
            held.since = now;
            return held.session.clone();
        }
        let session = Arc::new(make());
        if self.has_room(&key.tenant) {
            self.held.insert(key.clone(), Held { session: session.clone(), users: 1, since: now });
        }
        session
    }

    /// A user is done.
    pub(super) fn give_back(&mut self, key: &Key, session: &Arc<S>, now: Instant) {
        if let Some(held) = self.held.get_mut(key)
            && Arc::ptr_eq(&held.session, session)
        {
            held.users = held.users.saturating_sub(1);
            held.since = now;
        }
    }

    /// Takes off what nobody has used for too long.
    pub(super) fn take_idle(&mut self, now: Instant) -> Vec<Arc<S>> {
        let idle = self.limits.idle;
        self.take_off(|_, held| held.is_idle() && held.since + idle <= now)
    }

    /// Takes off what a run has.
    pub(super) fn take_of_run(&mut self, run: RunId) -> Vec<Arc<S>> {
        self.take_off(|key, _| key.run == run)
    }

    /// Takes off everything.
    pub(super) fn take_all(&mut self) -> Vec<Arc<S>> {
        self.take_off(|_, _| true)
    }

    /// When to look for idle ones next; nothing where none is kept.
    pub(super) fn next_look(&self, now: Instant) -> Option<Instant> {
        let idle = self.held.values().filter(|held| held.is_idle()).map(|held| held.since).min();
        (!self.held.is_empty()).then(|| idle.unwrap_or(now) + self.limits.idle)
    }

    /// Whether nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn has_room(&mut self, tenant: &TenantId) -> bool {
        let of_tenant = self.held.keys().filter(|key| key.tenant == *tenant).count();
        if of_tenant >= self.limits.of_tenant {
            return self.let_oldest_go(|key| key.tenant == *tenant);
        }
        self.held.len() < self.limits.all || self.let_oldest_go(|_| true)
    }

    fn let_oldest_go(&mut self, among: impl Fn(&Key) -> bool) -> bool {
        let idle = self.held.iter().filter(|(key, held)| held.is_idle() && among(key));
        let oldest = idle.min_by_key(|(_, held)| held.since).map(|(key, _)| key.clone());
        oldest.is_some_and(|key| self.held.remove(&key).is_some())
    }

    fn take_off(&mut self, which: impl Fn(&Key, &Held<S>) -> bool) -> Vec<Arc<S>> {
        self.held.extract_if(|key, held| which(key, held)).map(|(_, held)| held.session).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integrations::mcp::{MCP_SESSION_IDLE, MCP_SESSIONS_MAX, MCP_WORKSPACE_SESSIONS_MAX};

    const LIMITS: ShelfLimits =
        ShelfLimits { all: MCP_SESSIONS_MAX, of_tenant: MCP_WORKSPACE_SESSIONS_MAX, idle: MCP_SESSION_IDLE };

    fn key(tenant: &str, run: RunId) -> Key {
        let (tenant, project) = (TenantId::new(tenant), ProjectId::new("main"));
        Key { tenant, project, run, place: Place::Address("https://a.example/".into()) }
    }

    fn kept<S>(shelf: &Shelf<S>, key: &Key) -> bool {
        shelf.held.contains_key(key)
    }

    #[test]
    fn a_session_is_one_runs_with_one_place() {
        let (mut shelf, now, run) = (Shelf::new(LIMITS), Instant::now(), RunId::new_v7());
        let first = shelf.take(&key("a", run), now, || ());
        assert!(Arc::ptr_eq(&first, &shelf.take(&key("a", run), now, || ())));
        let mut elsewhere = key("a", run);
        elsewhere.place = Place::Instance(McpInstanceId::new_v7());
        let mut other_project = key("a", run);
        other_project.project = ProjectId::new("other");
        for other in [key("b", run), key("a", RunId::new_v7()), elsewhere, other_project] {
            assert!(!Arc::ptr_eq(&first, &shelf.take(&other, now, || ())), "{other:?}");
        }
        assert_eq!(shelf.take_of_run(run).len(), 4);
        assert_eq!(shelf.take_all().len(), 1);
        assert!(shelf.is_empty() && shelf.next_look(now).is_none());
    }

    #[test]
    fn what_nobody_uses_goes_after_a_while_and_not_before() {
        let (mut shelf, begun, key) = (Shelf::new(LIMITS), Instant::now(), key("a", RunId::new_v7()));
        let session = shelf.take(&key, begun, || ());
        shelf.take(&key, begun, || ());
        let later = begun + MCP_SESSION_IDLE * 2;
        assert!(shelf.take_idle(later).is_empty(), "it is in use");
        shelf.give_back(&key, &session, later);
        assert!(shelf.take_idle(later + MCP_SESSION_IDLE).is_empty(), "by one still");
        shelf.give_back(&key, &session, later);
        assert_eq!(shelf.next_look(later), Some(later + MCP_SESSION_IDLE));
        assert!(shelf.take_idle(later + MCP_SESSION_IDLE - Duration::from_millis(1)).is_empty());
        assert_eq!(shelf.take_idle(later + MCP_SESSION_IDLE).len(), 1);
        // What was taken off counts for nothing that came after it.
        shelf.take(&key, later, || ());
        shelf.give_back(&key, &session, later);
        assert!(shelf.take_idle(later + MCP_SESSION_IDLE).is_empty());
    }

    #[test]
    fn a_tenant_and_a_process_keep_so_many_and_the_longest_unused_goes_first() {
        let (mut shelf, begun) = (Shelf::new(LIMITS), Instant::now());
        let second = |number: usize| begun + Duration::from_secs(number as u64);
        let keys = |tenant: &str, many: usize| (0..many).map(|_| key(tenant, RunId::new_v7())).collect::<Vec<_>>();
        let fill = |shelf: &mut Shelf<()>, keys: &[Key]| -> Vec<_> {
            keys.iter().enumerate().map(|(number, key)| shelf.take(key, second(number), || ())).collect()
        };
        let own = keys("a", MCP_WORKSPACE_SESSIONS_MAX);
        let sessions = fill(&mut shelf, &own);
        assert!(own.iter().all(|key| kept(&shelf, key)));
        let more = key("a", RunId::new_v7());
        shelf.take(&more, begun, || ());
        assert!(!kept(&shelf, &more), "all are in use");
        shelf.give_back(&own[7], &sessions[7], second(1_000));
        shelf.give_back(&own[3], &sessions[3], second(1_001));
        shelf.take(&more, begun, || ());
        assert!(kept(&shelf, &more) && !kept(&shelf, &own[7]) && kept(&shelf, &own[3]));
        // Others have room until the process has none.
        for tenant in ["b", "c", "d", "e"] {
            let theirs = keys(tenant, MCP_WORKSPACE_SESSIONS_MAX);
            fill(&mut shelf, &theirs);
            assert!(theirs.iter().all(|key| kept(&shelf, key)));
        }
        let (last, one_more) = (key("f", RunId::new_v7()), key("f", RunId::new_v7()));
        shelf.take(&last, begun, || ());
        assert!(kept(&shelf, &last) && !kept(&shelf, &own[3]), "the only one that nobody uses");
        shelf.take(&one_more, begun, || ());
        assert!(!kept(&shelf, &one_more));
        assert_eq!(shelf.held.len(), MCP_SESSIONS_MAX);
    }
}
