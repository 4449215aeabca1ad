//! How many bytes each tenant has in the store.
//!
//! What counts is the text of journal events, of all runs that are there, ended or not: it is what grows without end. Rows,
//! open questions, unread signals, versions and what the database itself needs around all that come on top.
//!
//! Whatever writes or removes events tells it here, and the sum is written in the same transaction, so that it is exact. It
//! lies in several rows where transactions run beside each other: who writes chooses a row by a hash of its own name. A
//! transaction takes its rows last and in the order of the tenants, so that none waits crosswise for another.

use super::{Chunk, Store};
use crate::database::{Bulk, Number, StoreError, Text, Tx, Values, number};
use agentruntime_host_api::TenantId;
use std::{
    collections::BTreeMap,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
};

/// Rows of a tenant where transactions run beside each other. Each is read when the tenant's sum is, and a few nodes seldom
/// meet in one.
const SHARDS: u64 = 16;

const SELECT_BYTES: &str = "SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM tenant_storage WHERE tenant_id = $1";

/// Rows of a list are taken in its order.
const ADD_BYTES: Bulk = Bulk {
    head: "INSERT INTO tenant_storage (tenant_id, shard, bytes) SELECT column1, column2, column3 FROM",
    columns: &[Text, Number, Number],
    tail: "WHERE column1 IS NOT NULL \
        ON CONFLICT (tenant_id, shard) DO UPDATE SET bytes = tenant_storage.bytes + excluded.bytes",
};

/// By how much a transaction changes what tenants have in the store.
#[derive(Default)]
pub(crate) struct StorageChange(BTreeMap<String, i64>);

impl StorageChange {
    pub(crate) fn add(&mut self, tenant: &str, chunk: &Chunk) {
        // A body is in memory, and so its length far from the end of the range.
        self.change(tenant, i64::try_from(chunk.body.len()).unwrap_or(i64::MAX));
    }

    pub(crate) fn subtract(&mut self, tenant: &str, bytes: i64) {
        self.change(tenant, -bytes);
    }

    fn change(&mut self, tenant: &str, by: i64) {
        match self.0.get_mut(tenant) {
            Some(sum) => *sum += by,
            None => drop(self.0.insert(tenant.to_owned(), by)),
        }
    }

    /// Writes it: the last statement of its transaction. `writer` is the name of who does.
    pub(crate) async fn write(self, tx: &mut Tx<'_>, writer: impl AsRef<str>) -> Result<(), StoreError> {
        let shard = if tx.texts.dialect.locks_rows() { shard_of(writer.as_ref()) } else { 0 };
        let changed: Vec<_> = self.0.into_iter().filter(|(_, by)| *by != 0).collect();
        let put = |(tenant, by): &(String, i64), values: &mut Values| {
            values.text(tenant).number(shard).number(*by);
        };
        tx.bulk(&ADD_BYTES, |_| {}, &changed, put).await?;
        Ok(())
    }
}

/// Any row will do, and so it may be another one after an update of the program.
fn shard_of(writer: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::new().hash_one(writer) % SHARDS
}

impl Store {
    /// How many bytes the events of a tenant's runs take, ended ones too.
    pub async fn stored_bytes(&self, tenant: &TenantId) -> Result<u64, StoreError> {
        let mut values = Values::default();
        values.text(tenant.as_str());
        number(&self.shared.database.row(SELECT_BYTES, values).await?, 0)
    }
}
