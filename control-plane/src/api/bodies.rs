//! How many bytes of bodies are under way: being read, waiting, or worked at.
//!
//! What was sent lies in memory until the request is done with it, and whoever sends much at once would have all of it there.
//! So each body counts before it is read, by the length that it announces, or else as it comes. It counts for the workspace
//! that the request has entered by then. Who has entered none counts under the address, and all of those together have a
//! part of the whole, so that nobody without a credential uses up what is a workspace's. Never looks into a body.

use super::problem::Problem;
use crate::{
    access::{attempts::network, caller::Origin},
    settings::BodyRoom,
};
use agentruntime_host_api::TenantId;
use axum::http::{HeaderValue, StatusCode, header, request::Parts};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Bodies of those who entered no workspace have one part in so many of all the room.
const STRANGERS_PART: usize = 2;
/// Whoever is refused may try again after this: most bodies are done with sooner.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Whom a body counts for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Payer {
    /// The workspace that the request has entered.
    Workspace(TenantId),
    /// The address that it came from, of IPv6 the network that one customer gets.
    Address(IpAddr),
}

/// The bodies of one process.
#[derive(Clone)]
pub(crate) struct Bodies(Arc<Counted>);

struct Counted {
    room: BodyRoom,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    all: usize,
    strangers: usize,
    payers: HashMap<Payer, usize>,
}

/// What one body counts. Dropping it makes room.
pub(crate) struct Share {
    bodies: Bodies,
    payer: Payer,
    bytes: usize,
}

/// There is no room for a body now.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoRoom {
    /// The workspace, or the address, has as much as it may.
    #[error(
        "bodies of {of}, and answers with data of runs, that are under way have {bytes_max} bytes already, or would with this \
         one; wait until some are done, or send or ask for less at once"
    )]
    Own {
        /// Whose bodies.
        of: &'static str,
        /// How much it may.
        bytes_max: usize,
    },
    /// All together have as much as they may.
    #[error("the bodies of all requests under way take as much memory as they may; try again in a moment")]
    All,
}

impl Bodies {
    /// Room for as much as the settings say.
    pub(crate) fn new(room: BodyRoom) -> Self {
        Self(Arc::new(Counted { room, counts: Mutex::default() }))
    }

    /// A body of which nothing counts yet.
    pub(super) fn share(&self, payer: Payer) -> Share {
        Share { bodies: self.clone(), payer, bytes: 0 }
    }

    /// What an answer counts that has so many bytes. One that is larger than all that its workspace may have counts as that.
    pub(super) fn for_answer(&self, tenant: &TenantId, bytes: usize) -> Result<Share, NoRoom> {
        let mut share = self.share(Payer::Workspace(tenant.clone()));
        share.cover(bytes.min(self.0.room.each))?;
        Ok(share)
    }

    /// No code that holds this lock can panic half-way, so a poisoned one is as good.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, payer: &Payer, bytes: usize) -> Result<(), NoRoom> {
        let BodyRoom { all, each } = self.0.room;
        let mut counts = self.counts();
        let own = counts.payers.get(payer).copied().unwrap_or_default();
        if own + bytes > each {
            return Err(NoRoom::Own { of: payer.told(), bytes_max: each });
        }
        let is_stranger = matches!(payer, Payer::Address(_));
        // A single body fits in any case.
        let strangers_max = (all / STRANGERS_PART).max(each);
        if counts.all + bytes > all || (is_stranger && counts.strangers + bytes > strangers_max) {
            return Err(NoRoom::All);
        }
        counts.all += bytes;
        counts.strangers += if is_stranger { bytes } else { 0 };
        counts.payers.insert(payer.clone(), own + bytes);
        Ok(())
    }

    fn take(&self, payer: &Payer, bytes: usize) {
        let mut counts = self.counts();
        counts.all -= bytes;
        counts.strangers -= if matches!(payer, Payer::Address(_)) { bytes } else { 0 };
        if let Some(own) = counts.payers.get_mut(payer) {
            *own -= bytes;
            if *own == 0 {
                counts.payers.remove(payer);
            }
        }
    }
}

impl Share {
    /// Counts so many bytes, where it counts fewer.
    pub(super) fn cover(&mut self, bytes: usize) -> Result<(), NoRoom> {
        if bytes > self.bytes {
            self.bodies.add(&self.payer, bytes - self.bytes)?;
            self.bytes = bytes;
        }
        Ok(())
    }

    /// On whose account the body is read where that takes long. Those who entered no workspace have one together.
    pub(super) fn account(&self) -> TenantId {
        match &self.payer {
            Payer::Workspace(tenant) => tenant.clone(),
            Payer::Address(_) => TenantId::new(""),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.bodies.take(&self.payer, self.bytes);
        }
    }
}

impl Payer {
    /// Who that is for a request: whoever lets it into a workspace notes that with the request.
    pub(super) fn of(parts: &Parts) -> Self {
        let address = || parts.extensions.get::<Origin>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |it| it.address);
        parts.extensions.get::<Self>().cloned().unwrap_or_else(|| Self::Address(network(address())))
    }

    fn told(&self) -> &'static str {
        match self {
            Self::Workspace(_) => "this workspace's requests",
            Self::Address(_) => "this address's requests",
        }
    }
}

impl From<NoRoom> for Problem {
    fn from(error: NoRoom) -> Self {
        let status = match error {
            NoRoom::Own { .. } => StatusCode::TOO_MANY_REQUESTS,
            NoRoom::All => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, "TOO_MANY_BODIES", error.to_string()).with_header(header::RETRY_AFTER, RETRY_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(name: &str) -> Payer {
        Payer::Workspace(TenantId::new(name))
    }

    fn address(last: u8) -> Payer {
        Payer::Address(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)))
    }

    fn counting(bodies: &Bodies, payer: Payer, bytes: usize) -> Result<Share, NoRoom> {
        let mut share = bodies.share(payer);
        share.cover(bytes).map(|()| share)
    }

    fn is_own<T>(result: Result<T, NoRoom>) -> bool {
        matches!(result, Err(NoRoom::Own { bytes_max: 100, .. }))
    }

    #[test]
    fn a_workspace_has_so_much_and_others_have_theirs() {
        let bodies = Bodies::new(BodyRoom { all: 1_000, each: 100 });
        let first = counting(&bodies, workspace("a"), 60).unwrap();
        let second = counting(&bodies, workspace("a"), 40).unwrap();
        assert!(is_own(counting(&bodies, workspace("a"), 1)));
        let other = counting(&bodies, workspace("b"), 100).unwrap();
        drop(first);
        let third = counting(&bodies, workspace("a"), 60).unwrap();
        assert!(is_own(counting(&bodies, workspace("a"), 1)));
        drop((second, third, other));
        let counts = bodies.counts();
        assert_eq!((counts.all, counts.strangers, counts.payers.len()), (0, 0, 0));
    }

    #[test]
    fn a_body_counts_once_however_it_comes() {
        let bodies = Bodies::new(BodyRoom { all: 1_000, each: 100 });
        let mut share = counting(&bodies, workspace("a"), 50).unwrap();
        share.cover(20).unwrap();
        share.cover(70).unwrap();
        assert_eq!(bodies.counts().all, 70);
        // What does not fit changes nothing.
        assert!(is_own(share.cover(101)));
        assert_eq!(bodies.counts().all, 70);
        share.cover(100).unwrap();
        drop(share);
        assert_eq!(bodies.counts().all, 0);
    }

    #[test]
    fn all_together_have_so_much_and_strangers_a_part_of_it() {
        let bodies = Bodies::new(BodyRoom { all: 400, each: 100 });
        let strangers: Vec<_> = (0..2).map(|last| counting(&bodies, address(last), 100).unwrap()).collect();
        assert!(is_own(counting(&bodies, address(0), 1)));
        assert_eq!(counting(&bodies, address(9), 1).err(), Some(NoRoom::All));
        let known: Vec<_> = ["a", "b"].map(|name| counting(&bodies, workspace(name), 100).unwrap()).into();
        assert_eq!(counting(&bodies, workspace("c"), 1).err(), Some(NoRoom::All));
        drop(strangers);
        let last = counting(&bodies, workspace("c"), 100).unwrap();
        drop((known, last));
        assert_eq!(bodies.counts().all, 0);
    }
}
