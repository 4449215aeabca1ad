//! Published versions of workflows: immutable, numbered from 1, their graphs kept by hash.

use super::{Scope, Store, VersionEntry, VersionRecord, WorkflowRecord};
use crate::database::{StoreError, Tx, Values, document, json, maybe_text, number, text, time};
use agentruntime_host_api::{Json, WorkflowId};
use sqlx::any::AnyRow;

const REGISTER: &str = "INSERT INTO workflows (tenant_id, project_id, workflow_id, newest_version) VALUES ($1, $2, $3, 0) \
    ON CONFLICT (tenant_id, project_id, workflow_id) DO NOTHING";

/// Changes nothing, but holds the row until the transaction ends: publications of one workflow come one after another.
const LOCK: &str = "UPDATE workflows SET newest_version = newest_version \
    WHERE tenant_id = $1 AND project_id = $2 AND workflow_id = $3 RETURNING newest_version";

const RAISE: &str = "UPDATE workflows SET newest_version = newest_version + 1 \
    WHERE tenant_id = $1 AND project_id = $2 AND workflow_id = $3";

const INSERT_GRAPH: &str = "INSERT INTO graphs (tenant_id, graph_hash, body) VALUES ($1, $2, $3) \
    ON CONFLICT (tenant_id, graph_hash) DO NOTHING";

const INSERT_VERSION: &str = "INSERT INTO versions \
    (tenant_id, project_id, workflow_id, version, graph_hash, changelog, published_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";

const SELECT_VERSION: &str = "SELECT v.version, v.graph_hash, v.changelog, v.published_at, g.body FROM versions v \
    JOIN graphs g ON g.tenant_id = v.tenant_id AND g.graph_hash = v.graph_hash \
    WHERE v.tenant_id = $1 AND v.project_id = $2 AND v.workflow_id = $3 AND v.version = $4";

const SELECT_NEWEST: &str = "SELECT v.version, v.graph_hash, v.changelog, v.published_at, g.body FROM versions v \
    JOIN graphs g ON g.tenant_id = v.tenant_id AND g.graph_hash = v.graph_hash \
    WHERE v.tenant_id = $1 AND v.project_id = $2 AND v.workflow_id = $3 ORDER BY v.version DESC LIMIT 1";

const SELECT_VERSIONS: &str = "SELECT version, graph_hash, changelog, published_at FROM versions \
    WHERE tenant_id = $1 AND project_id = $2 AND workflow_id = $3 ORDER BY version DESC";

const SELECT_VERSIONS_BEFORE: &str = "SELECT version, graph_hash, changelog, published_at FROM versions \
    WHERE tenant_id = $1 AND project_id = $2 AND workflow_id = $3 AND ($4 IS NULL OR version < $4) \
    ORDER BY version DESC LIMIT $5";

const SELECT_WORKFLOWS: &str = "SELECT w.workflow_id, v.version, v.published_at FROM workflows w JOIN versions v \
    ON v.tenant_id = w.tenant_id AND v.project_id = w.project_id AND v.workflow_id = w.workflow_id \
    AND v.version = w.newest_version WHERE w.tenant_id = $1 AND w.project_id = $2 ORDER BY w.workflow_id";

impl Store {
    /// Publishes a canonical graph. One with the hash of the newest version is that version; any other is the next.
    pub async fn publish(
        &self,
        scope: &Scope,
        workflow: &WorkflowId,
        graph: &Json,
        graph_hash: &str,
        changelog: Option<&str>,
    ) -> Result<VersionRecord, StoreError> {
        let mut tx = self.shared.database.begin().await?;
        let (record, is_new) = self.publish_within(&mut tx, scope, workflow, graph, graph_hash, changelog).await?;
        // Dropping the transaction instead undoes nothing: nothing was changed.
        if is_new {
            tx.commit().await?;
        }
        Ok(record)
    }

    /// The same within a transaction of somebody who has more to write with it. Also tells whether the version is new.
    pub async fn publish_within(
        &self,
        tx: &mut Tx<'_>,
        scope: &Scope,
        workflow: &WorkflowId,
        graph: &Json,
        graph_hash: &str,
        changelog: Option<&str>,
    ) -> Result<(VersionRecord, bool), StoreError> {
        tx.rows(REGISTER, key(scope, workflow)).await?;
        let locked = tx.row(LOCK, key(scope, workflow)).await?.ok_or(StoreError::NotFound)?;
        let newest: u32 = number(&locked, 0)?;
        if newest > 0 {
            let row = tx.row(SELECT_NEWEST, key(scope, workflow)).await?.ok_or(StoreError::NotFound)?;
            let record = version_record(workflow, &row)?;
            if record.graph_hash == graph_hash {
                return Ok((record, false));
            }
        }
        let record = VersionRecord {
            workflow: workflow.clone(),
            version: newest + 1,
            graph_hash: graph_hash.to_owned(),
            graph: graph.clone(),
            changelog: changelog.map(str::to_owned),
            published_at: self.shared.database.time(),
        };
        insert_version(tx, scope, &record).await?;
        Ok((record, true))
    }

    /// One version, or the newest.
    pub async fn version(
        &self,
        scope: &Scope,
        workflow: &WorkflowId,
        version: Option<u32>,
    ) -> Result<VersionRecord, StoreError> {
        let mut values = key(scope, workflow);
        let row = match version {
            Some(version) => {
                values.number(version);
                self.shared.database.row(SELECT_VERSION, values).await?
            }
            None => self.shared.database.row(SELECT_NEWEST, values).await?,
        };
        version_record(workflow, &row)
    }

    /// All versions of a workflow, the newest first.
    pub async fn versions(&self, scope: &Scope, workflow: &WorkflowId) -> Result<Vec<VersionEntry>, StoreError> {
        let rows = self.shared.database.rows(SELECT_VERSIONS, key(scope, workflow)).await?;
        if rows.is_empty() {
            return Err(StoreError::NotFound);
        }
        rows.iter().map(version_entry).collect()
    }

    /// Versions of a workflow before a number, the newest first: at most `limit`, and none where it has none.
    pub async fn versions_before(
        &self,
        scope: &Scope,
        workflow: &WorkflowId,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Vec<VersionEntry>, StoreError> {
        let mut values = key(scope, workflow);
        values.maybe_number(before).number(limit);
        let rows = self.shared.database.rows(SELECT_VERSIONS_BEFORE, values).await?;
        rows.iter().map(version_entry).collect()
    }

    /// All workflows of the scope, by name.
    pub async fn workflows(&self, scope: &Scope) -> Result<Vec<WorkflowRecord>, StoreError> {
        let mut values = Values::default();
        values.scope(scope);
        let rows = self.shared.database.rows(SELECT_WORKFLOWS, values).await?;
        let record = |row: &AnyRow| {
            let workflow = WorkflowId::new(text(row, 0)?);
            Ok(WorkflowRecord { workflow, version: number(row, 1)?, published_at: time(row, 2)? })
        };
        rows.iter().map(record).collect()
    }
}

async fn insert_version(tx: &mut Tx<'_>, scope: &Scope, record: &VersionRecord) -> Result<(), StoreError> {
    let mut values = Values::default();
    values.text(scope.tenant.as_str()).text(&record.graph_hash).text(record.graph.as_str());
    tx.rows(INSERT_GRAPH, values).await?;
    let mut values = key(scope, &record.workflow);
    values.number(record.version).text(&record.graph_hash);
    values.maybe_text(record.changelog.as_ref().map(json)).number(record.published_at.as_micros());
    tx.rows(INSERT_VERSION, values).await?;
    tx.rows(RAISE, key(scope, &record.workflow)).await?;
    Ok(())
}

fn key(scope: &Scope, workflow: &WorkflowId) -> Values {
    let mut values = Values::default();
    values.scope(scope).text(workflow.as_str());
    values
}

fn version_entry(row: &AnyRow) -> Result<VersionEntry, StoreError> {
    Ok(VersionEntry {
        version: number(row, 0)?,
        graph_hash: text(row, 1)?.to_owned(),
        changelog: maybe_text(row, 2)?.map(document).transpose()?,
        published_at: time(row, 3)?,
    })
}

fn version_record(workflow: &WorkflowId, row: &AnyRow) -> Result<VersionRecord, StoreError> {
    let VersionEntry { version, graph_hash, changelog, published_at } = version_entry(row)?;
    let graph = document(text(row, 4)?)?;
    Ok(VersionRecord { workflow: workflow.clone(), version, graph_hash, graph, changelog, published_at })
}
