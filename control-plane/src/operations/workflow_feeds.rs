//! One feed for each workflow that somebody follows, however many do: the store is asked once for all of them.
//!
//! A task takes from the feed and hands on, as long as anybody listens; the last to go ends it. Who takes too slowly loses
//! something and is told so, and nobody waits for them.

use super::{OperationError, Project, WorkflowFeed, WorkflowNews};
use agentruntime_engine::{node::Node, run::event::Event, store::Scope};
use agentruntime_host_api::{RunId, WorkflowId};
use futures_util::{StreamExt, stream};
use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::broadcast::{self, error::RecvError};

/// Batches of events that a listener may be behind.
const BATCHES_MAX: usize = 1_024;

type Key = (Scope, WorkflowId);
type Batch = (RunId, Arc<[Event]>);

/// The feeds that somebody listens to.
#[derive(Clone, Default)]
pub(crate) struct WorkflowFeeds(Arc<Mutex<HashMap<Key, broadcast::Sender<Batch>>>>);

/// One who listens.
pub(crate) struct SharedFeed(broadcast::Receiver<Batch>);

/// What comes next.
pub(crate) enum SharedNews {
    /// Events of one run.
    Events(RunId, Arc<[Event]>),
    /// The listener was too slow.
    Lost,
    /// The feed broke; the log says why.
    Broken,
}

impl WorkflowFeeds {
    /// Follows a workflow from now on: what is committed after this returned is told.
    pub(crate) async fn follow(
        &self,
        project: Project,
        node: &Node,
        workflow: WorkflowId,
    ) -> Result<SharedFeed, OperationError> {
        let key = (project.scope.clone(), workflow.clone());
        if let Some(sender) = self.lock().get(&key) {
            return Ok(SharedFeed(sender.subscribe()));
        }
        let feed = WorkflowFeed::begin(project, node, workflow).await?;
        let mut feeds = self.lock();
        // Somebody else may have begun one meanwhile, just as good.
        if let Some(sender) = feeds.get(&key) {
            return Ok(SharedFeed(sender.subscribe()));
        }
        let (sender, receiver) = broadcast::channel(BATCHES_MAX);
        feeds.insert(key.clone(), sender.clone());
        tokio::spawn(relay(self.clone(), key, feed, sender));
        Ok(SharedFeed(receiver))
    }

    /// Takes a feed out of the list if nobody listens to it any more.
    fn ends(&self, key: &Key, sender: &broadcast::Sender<Batch>) -> bool {
        let mut feeds = self.lock();
        let is_over = sender.receiver_count() == 0;
        if is_over {
            feeds.remove(key);
        }
        is_over
    }

    /// No code that holds this lock can panic half-way, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, broadcast::Sender<Batch>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SharedFeed {
    /// The next events.
    pub(crate) async fn next(&mut self) -> SharedNews {
        match self.0.recv().await {
            Ok((run, events)) => SharedNews::Events(run, events),
            Err(RecvError::Lagged(_)) => SharedNews::Lost,
            Err(RecvError::Closed) => SharedNews::Broken,
        }
    }
}

async fn relay(feeds: WorkflowFeeds, key: Key, feed: WorkflowFeed, sender: broadcast::Sender<Batch>) {
    // As a stream, which can be let go of in the middle of the next news without losing them.
    let mut news = pin!(stream::unfold(feed, |mut feed| async { Some((feed.next().await, feed)) }));
    loop {
        tokio::select! {
            news = news.next() => match news {
                // Nobody may listen just now, which the other branch sees.
                Some(Ok(WorkflowNews::Events(run, events))) => drop(sender.send((run, events.into()))),
                Some(Ok(WorkflowNews::Lost)) | None => break,
                Some(Err(error)) => {
                    if !error.is_outage() {
                        tracing::error!(%error, "a stream of events broke");
                    }
                    break;
                }
            },
            () = sender.closed() => if feeds.ends(&key, &sender) {
                return;
            },
        }
    }
    feeds.lock().remove(&key);
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentruntime_engine::{
        graph::Graph,
        node::{NodeConfig, StartRequest},
        store::{Location, Store, SystemClock},
    };
    use agentruntime_host_api::{Guest, Invocation, Json, Outcome, Program, ProjectId, StepError, TenantId};
    use futures_util::future::BoxFuture;
    use serde_json::json;

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

    async fn process(location: &Location) -> (Project, Node) {
        let store = Store::open(location, Arc::new(SystemClock)).await.unwrap();
        let node = Node::start(NodeConfig::default(), store.clone(), Arc::new(NoSteps), Arc::new(SystemClock));
        (Project::of(store, TenantId::new("acme"), ProjectId::new("main")), node)
    }

    /// The first events of a run that each of the listeners is told of.
    async fn told(feed: &mut SharedFeed) -> RunId {
        match feed.next().await {
            SharedNews::Events(run, events) => {
                assert_eq!(events[0].seq, 1);
                run
            }
            SharedNews::Lost | SharedNews::Broken => panic!("the feed ended"),
        }
    }

    /// Runs are started by the last process; whoever follows is at the first.
    async fn follow_at(location: &Location, processes: usize) {
        let (project, node) = process(location).await;
        let workflow = WorkflowId::new("asking");
        let graph = Graph::parse(&json!({ "steps": [{ "id": "ask", "type": "human_task", "task_type": "approval" }] }));
        let graph = graph.unwrap();
        project.store.publish(&project.scope, &workflow, &graph.canonical, &graph.hash, None).await.unwrap();
        let other = if processes > 1 { Some(process(location).await.1) } else { None };
        let starting = other.as_ref().unwrap_or(&node);

        let feeds = WorkflowFeeds::default();
        let follow = async || feeds.follow(project.clone(), &node, workflow.clone()).await.unwrap();
        let (mut one, mut two) = (follow().await, follow().await);
        assert_eq!(feeds.lock().len(), 1, "each has a feed of its own");
        let start = async || {
            let request = StartRequest::new(workflow.clone(), Json::empty_object());
            starting.start_run(&project.scope, request).await.unwrap()
        };
        let first = start().await;
        assert_eq!([told(&mut one).await, told(&mut two).await], [first; 2]);
        // One goes, another comes: the feed goes on.
        drop(one);
        let mut three = follow().await;
        assert_eq!(feeds.lock().len(), 1);
        let second = start().await;
        while told_of(&mut two).await != second {}
        while told_of(&mut three).await != second {}
        drop((two, three));
        while !feeds.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        let mut four = follow().await;
        let third = start().await;
        while told_of(&mut four).await != third {}
    }

    async fn told_of(feed: &mut SharedFeed) -> RunId {
        match feed.next().await {
            SharedNews::Events(run, _) => run,
            SharedNews::Lost | SharedNews::Broken => panic!("the feed ended"),
        }
    }

    #[tokio::test]
    async fn all_who_follow_a_workflow_share_one_feed_that_ends_with_the_last() {
        let folder = tempfile::tempdir().unwrap();
        follow_at(&Location::Sqlite(folder.path().join("data")), 1).await;
        if let Some(postgres) = agentruntime_tests::postgres::server() {
            follow_at(&Location::Postgres(postgres.database()), 2).await;
        }
    }

    #[tokio::test]
    async fn who_is_too_slow_is_told_so_and_holds_nobody_up() {
        let (sender, receiver) = broadcast::channel(BATCHES_MAX);
        let (mut slow, mut quick) = (SharedFeed(receiver), SharedFeed(sender.subscribe()));
        for _ in 0..=BATCHES_MAX {
            drop(sender.send((RunId::new_v7(), Arc::from([]))));
            assert!(matches!(quick.next().await, SharedNews::Events(..)));
        }
        assert!(matches!(slow.next().await, SharedNews::Lost));
        drop(sender);
        assert!(matches!(quick.next().await, SharedNews::Broken));
    }
}
