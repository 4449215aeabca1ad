//! Which workspace is at a limit: for the operator, who sees that many requests are refused and has to know whose.
//!
//! One line of the log for a workspace and a limit, and then one a minute at most, with how many were refused since: a flood of
//! requests is no flood of lines. Requests with tokens alone are told of: only tokens belong to a workspace.

use super::{
    authenticate,
    problem::Problem,
    telling::{Trail, Workspace},
};
use agentruntime_host_api::TenantId;
use axum::{
    extract::{Request, State as Given},
    http::StatusCode,
    middleware::Next,
    response::Response,
};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How often a workspace is told of that stays at a limit.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// Tokens whose workspace is remembered, each by some hundred bytes. Who is refused by rate is refused before anybody asks whose
/// the token is. Beyond it all are forgotten, and learnt again with the next request that is served.
const TOKENS_MAX: usize = 10_000;
/// Workspaces and limits that are told of within the same minute; of further ones the answers tell.
const TOLD_MAX: usize = 1_000;

/// Who was refused, and how often.
#[derive(Default)]
pub(super) struct Floods {
    hasher: RandomState,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    workspaces: HashMap<u64, Arc<Workspace>>,
    told: HashMap<(TenantId, &'static str), Told>,
}

struct Told {
    at: Instant,
    /// Requests that were refused since.
    refused: u64,
}

/// Notes whose requests are refused for being too many, or too much.
pub(super) async fn note(Given(floods): Given<Arc<Floods>>, request: Request, next: Next) -> Response {
    let token = authenticate::token(request.headers()).map(|token| floods.hasher.hash_one(token));
    let trail = request.extensions().get::<Trail>().cloned().unwrap_or_default();
    let response = next.run(request).await;
    let Some(token) = token else { return response };
    let workspace = match trail.workspace() {
        Some(workspace) => Some(floods.remember(token, workspace)),
        None => floods.known().workspaces.get(&token).cloned(),
    };
    let limit = response.extensions().get::<Problem>().map_or("RATE_LIMITED", Problem::code);
    if response.status() == StatusCode::TOO_MANY_REQUESTS
        && let Some(workspace) = workspace
        && let Some(refused) = floods.refused(&workspace, limit, Instant::now())
    {
        let (tenant, slug) = (&workspace.tenant, &workspace.slug);
        tracing::warn!(%tenant, %slug, limit, refused, "requests of a workspace are refused: it is at a limit");
    }
    response
}

impl Floods {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, token: u64, workspace: &Workspace) -> Arc<Workspace> {
        let mut known = self.known();
        if let Some(same) = known.workspaces.get(&token).filter(|same| same.as_ref() == workspace) {
            return same.clone();
        }
        if known.workspaces.len() >= TOKENS_MAX {
            known.workspaces.clear();
        }
        let workspace = Arc::new(workspace.clone());
        known.workspaces.insert(token, workspace.clone());
        workspace
    }

    /// How many refusals are to be told of now, if any.
    fn refused(&self, workspace: &Workspace, limit: &'static str, now: Instant) -> Option<u64> {
        let mut known = self.known();
        let key = (workspace.tenant.clone(), limit);
        if let Some(told) = known.told.get_mut(&key) {
            told.refused += 1;
            if now.duration_since(told.at) < TOLD_EVERY {
                return None;
            }
            told.at = now;
            return Some(std::mem::take(&mut told.refused));
        }
        if known.told.len() >= TOLD_MAX {
            known.told.retain(|_, told| now.duration_since(told.at) < TOLD_EVERY);
        }
        if known.told.len() >= TOLD_MAX {
            return None;
        }
        known.told.insert(key, Told { at: now, refused: 0 });
        Some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(id: &str) -> Workspace {
        Workspace { tenant: TenantId::new(id), slug: format!("slug-{id}") }
    }

    #[test]
    fn a_workspace_at_a_limit_is_told_at_once_and_then_once_a_minute() {
        let (floods, acme, now) = (Floods::default(), workspace("acme"), Instant::now());
        let told = |limit, seconds| floods.refused(&acme, limit, now + Duration::from_secs(seconds));
        assert_eq!([told("A", 0), told("A", 1), told("A", 59)], [Some(1), None, None]);
        assert_eq!([told("A", 60), told("A", 61)], [Some(3), None]);
        // Another limit, another workspace.
        assert_eq!(told("B", 1), Some(1));
        assert_eq!(floods.refused(&workspace("other"), "A", now), Some(1));
    }

    #[test]
    fn memory_is_bounded() {
        let (floods, now) = (Floods::default(), Instant::now());
        for number in 0..=TOKENS_MAX as u64 {
            floods.remember(number, &workspace("acme"));
        }
        assert!(floods.known().workspaces.len() <= TOKENS_MAX);
        let told = (0..=TOLD_MAX).filter(|number| floods.refused(&workspace(&number.to_string()), "A", now).is_some());
        assert_eq!(told.count(), TOLD_MAX);
        assert_eq!(floods.refused(&workspace("late"), "A", now + TOLD_EVERY), Some(1), "room comes back");
    }
}
