//! The sessions of the process. A run has one with each server that it calls, kept from call to call: for a while, as long as the
//! run is worked on here, and while instance, version and credentials stay the same. Nothing of one is ever another run's.

use super::{
    MCP_SESSION_IDLE, MCP_SESSIONS_MAX, MCP_WORKSPACE_SESSIONS_MAX,
    failure::Failure,
    session::{Bounds, GOODBYE_TIMEOUT, Handshake, Session},
    shelf::{Key, Shelf, ShelfLimits},
    wire::{Ends, Wire},
};
use agentruntime_host_api::RunId;
use futures_util::future::BoxFuture;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{Mutex as AsyncMutex, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

const LIMITS: ShelfLimits =
    ShelfLimits { all: MCP_SESSIONS_MAX, of_tenant: MCP_WORKSPACE_SESSIONS_MAX, idle: MCP_SESSION_IDLE };

/// All sessions.
#[derive(Clone)]
pub(in crate::integrations) struct Sessions(Arc<Inner>);

struct Inner {
    shelf: Arc<Mutex<Shelf<Slot>>>,
    endings: Endings,
}

/// Where a session is, once it has begun. Whoever begins it holds the slot meanwhile, and others wait for that.
#[derive(Default)]
struct Slot(AsyncMutex<Option<Arc<Kept>>>);

/// A session that is used by everybody who has it, and ends with the last of them.
struct Kept {
    session: Option<Session>,
    /// The version of the tools that it was begun for.
    version: Option<u32>,
    /// Nobody is to begin to use it.
    is_spoilt: AtomicBool,
    endings: Endings,
}

/// Sessions that take leave.
#[derive(Clone, Default)]
struct Endings(Arc<Mutex<JoinSet<()>>>);

/// With what a call speaks to which server.
pub(super) struct Wanted {
    /// Its own, where it may share a session with other calls.
    pub(super) key: Option<Key>,
    /// The server, and what it is told.
    pub(super) ends: Ends,
    /// The version of the tools.
    pub(super) version: Option<u32>,
    /// How the server wants to be greeted.
    pub(super) handshake: Handshake,
    /// How long it may take.
    pub(super) limit: Duration,
}

/// What is done in a session: a second time, where the first was in one that the server had forgotten.
pub(super) trait Work<T>:
    for<'s> Fn(&'s Session, &'s Bounds) -> BoxFuture<'s, Result<T, Failure>> + Send + Sync + 'static
{
}

impl<T, W> Work<T> for W where
    W: for<'s> Fn(&'s Session, &'s Bounds) -> BoxFuture<'s, Result<T, Failure>> + Send + Sync + 'static
{
}

impl Default for Sessions {
    fn default() -> Self {
        let shelf = Arc::new(Mutex::new(Shelf::new(LIMITS)));
        Self(Arc::new(Inner { shelf, endings: Endings::default() }))
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl Sessions {
    /// Does something in the session that is wanted, which is begun if there is none. Dropping the future ends that: a call that is
    /// under way is cancelled at the server.
    pub(super) async fn converse<T: Send + 'static>(&self, wanted: Wanted, work: impl Work<T>) -> Result<T, Failure> {
        let stop = CancellationToken::new();
        let _given_up = stop.clone().drop_guard();
        let bounds = Bounds::new(wanted.limit, stop);
        let (done, outcome) = oneshot::channel();
        let sessions = self.clone();
        tokio::spawn(async move {
            let worked = sessions.work(&wanted, &bounds, work).await;
            // Nobody may be there any more.
            let _ = done.send(worked.map_err(|failure| failure.cleaned(&wanted.ends.scrubber())));
        });
        outcome.await.unwrap_or(Err(Failure::Stopped))
    }

    async fn work<T>(&self, wanted: &Wanted, bounds: &Bounds, work: impl Work<T>) -> Result<T, Failure> {
        let place = Taken::new(self, wanted.key.as_ref());
        let mut again = false;
        loop {
            let kept = place.slot.session(wanted, bounds, &self.0.endings).await?;
            let Some(session) = &kept.session else { return Err(Failure::Stopped) };
            session.wire().is_used();
            let worked = work(session, bounds).await;
            if worked.as_ref().is_err_and(Failure::ends_session) {
                place.slot.spoil(&kept);
            }
            match worked {
                // It did nothing, so that nothing is done twice.
                Err(Failure::Forgotten) if !again => again = true,
                worked => return worked,
            }
        }
    }

    /// The run is not worked on here any more, for now or for ever.
    pub(in crate::integrations) fn let_go(&self, run: RunId) {
        let ended = self.shelf().take_of_run(run);
        drop(ended);
    }

    /// Ends all of them, and waits for that for a moment.
    pub(in crate::integrations) async fn end(&self) {
        let ended = self.shelf().take_all();
        drop(ended);
        let mut endings = std::mem::take(&mut *self.0.endings.lock());
        let _ = timeout(GOODBYE_TIMEOUT, async { while endings.join_next().await.is_some() {} }).await;
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf<Slot>> {
        locked(&self.0.shelf)
    }

    fn take(&self, key: &Key) -> Arc<Slot> {
        let mut shelf = self.shelf();
        let was_empty = shelf.is_empty();
        let slot = shelf.take(key, Instant::now(), Slot::default);
        if was_empty {
            tokio::spawn(let_idle_go(Arc::downgrade(&self.0.shelf), Instant::now, sleep_until));
        }
        slot
    }
}

/// Takes off the shelf what nobody uses, until nothing is kept any more.
async fn let_idle_go<S, F: Future<Output = ()>>(
    shelf: Weak<Mutex<Shelf<S>>>,
    now: impl Fn() -> Instant,
    sleep_until: impl Fn(Instant) -> F,
) {
    loop {
        let Some(next) = shelf.upgrade().and_then(|shelf| locked(&shelf).next_look(now())) else { return };
        sleep_until(next).await;
        let Some(shelf) = shelf.upgrade() else { return };
        let idle = locked(&shelf).take_idle(now());
        drop(idle);
    }
}

fn locked<S>(shelf: &Mutex<Shelf<S>>) -> MutexGuard<'_, Shelf<S>> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A slot in the hands of one call.
struct Taken<'s> {
    sessions: &'s Sessions,
    key: Option<&'s Key>,
    slot: Arc<Slot>,
}

impl<'s> Taken<'s> {
    fn new(sessions: &'s Sessions, key: Option<&'s Key>) -> Self {
        let slot = key.map_or_else(Arc::default, |key| sessions.take(key));
        Self { sessions, key, slot }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.sessions.shelf().give_back(key, &self.slot, Instant::now());
        }
    }
}

impl Slot {
    /// The session that is here, or one that is begun now.
    async fn session(&self, wanted: &Wanted, bounds: &Bounds, endings: &Endings) -> Result<Arc<Kept>, Failure> {
        let wire = Wire::new(wanted.ends.clone());
        let mut slot = bounds.wait(&wire, None, async { Ok(self.0.lock().await) }).await?;
        if let Some(kept) = slot.take().filter(|kept| kept.serves(wanted)) {
            return Ok(slot.insert(kept).clone());
        }
        let session = Some(Session::begin(wire, wanted.handshake, bounds).await?);
        let (version, is_spoilt, endings) = (wanted.version, AtomicBool::default(), endings.clone());
        Ok(slot.insert(Arc::new(Kept { session, version, is_spoilt, endings })).clone())
    }

    /// Keeps others from using a session that may not be in order.
    fn spoil(&self, kept: &Arc<Kept>) {
        kept.is_spoilt.store(true, Relaxed);
        // Where somebody begins another one, that one comes to stand here in any case.
        if let Ok(mut slot) = self.0.try_lock()
            && slot.as_ref().is_some_and(|it| Arc::ptr_eq(it, kept))
        {
            *slot = None;
        }
    }
}

impl Kept {
    /// Whether it is what is wanted, and in order.
    fn serves(&self, wanted: &Wanted) -> bool {
        let Some(session) = &self.session else { return false };
        if self.is_spoilt.load(Relaxed) || session.is_broken() {
            return false;
        }
        let is_same = session.wire().has(&wanted.ends);
        if !is_same {
            // Whoever changed them may have done so to keep them from being sent.
            session.wire().drop_credentials();
        }
        session.wire().is_kept();
        is_same && self.version == wanted.version
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.endings.add(session);
        }
    }
}

impl Endings {
    fn add(&self, session: Session) {
        // Where the runtime is gone, everything else is.
        let Ok(runtime) = Handle::try_current() else { return };
        let mut endings = self.lock();
        while endings.try_join_next().is_some() {}
        endings.spawn_on(session.end(), &runtime);
    }

    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integrations::mcp::shelf::Place;
    use agentruntime_host_api::{Caller, ProjectId, TenantId};

    #[tokio::test]
    async fn a_session_that_nobody_uses_is_let_go_in_time() {
        let (begun, open) = (Instant::now(), Arc::new(()));
        let caller = Caller {
            tenant: TenantId::new("a"),
            project: ProjectId::new("main"),
            run: RunId::new_v7(),
            step: "s".into(),
        };
        let key = |address: &str| Key::new(&caller, Place::Address(address.into()));
        let shelf = Arc::new(Mutex::new(Shelf::new(LIMITS)));
        let take = |key: &Key, at: Instant| locked(&shelf).take(key, at, || open.clone());
        let (first, second) = (key("https://a.example/"), key("https://b.example/"));
        let (session, other) = (take(&first, begun), take(&second, begun));
        let second_at = |seconds: u64| begun + Duration::from_secs(seconds);
        // What happens, and when it is looked again: how many are open then.
        let (clock, seen) = (Mutex::new(begun), Mutex::new(Vec::new()));
        let (held, given) = (Mutex::new(Some((session, other))), Arc::downgrade(&shelf));
        let look = |until: Instant| {
            let now = until.duration_since(begun).as_secs();
            seen.lock().unwrap().push((now, Arc::strong_count(&open) - 1));
            *clock.lock().unwrap() = until;
            if let (Some(shelf), Some((session, other))) = (given.upgrade(), held.lock().unwrap().take()) {
                locked(&shelf).give_back(&first, &session, second_at(10));
                locked(&shelf).give_back(&second, &other, second_at(20));
            }
            std::future::ready(())
        };
        let_idle_go(Arc::downgrade(&shelf), || *clock.lock().unwrap(), look).await;
        assert_eq!(*seen.lock().unwrap(), [(30, 2), (40, 2), (50, 1)]);
        assert_eq!(Arc::strong_count(&open), 1, "and then nobody looks any more");
        assert!(locked(&shelf).is_empty());
    }
}
