//! The log's chain, and what breaks it.

use super::{Acme, on_both};
use crate::access::{
    May,
    audit::{self, Integrity},
    permission::ReadAudit,
    tenants::{self, TenantChange},
};
use agentruntime_engine::database::Values;

/// The log takes no changes; whoever tampers with it as the database's master takes that away first.
const UNLOCK: [&str; 2] = ["DROP TRIGGER IF EXISTS audit_log_no_update", "DROP TRIGGER IF EXISTS audit_log_no_delete"];
const UNLOCK_POSTGRES: &str = "DROP TRIGGER IF EXISTS audit_log_append_only ON audit_log";

impl Acme {
    async fn rename(&self, name: &str) {
        let may = self.manage(self.ada).await;
        let change = TenantChange { name: Some(name.into()), restrict_domains: None };
        tenants::change(&self.database, &may, change).await.unwrap();
    }

    async fn check(&self, after: u64) -> Integrity {
        let may: May<ReadAudit> = self.may(self.ada).await.unwrap();
        audit::check(&self.database, &may, after).await.unwrap()
    }

    async fn unlock(&self) {
        let statements: &[&'static str] = if self.database.is_shared() { &[UNLOCK_POSTGRES] } else { &UNLOCK };
        for statement in statements {
            self.database.write(statement, Values::default()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_log_takes_new_lines_and_nothing_else() {
    on_both(|acme| async move {
        for statement in ["UPDATE audit_log SET target = 'x'", "DELETE FROM audit_log"] {
            let error = acme.database.write(statement, Values::default()).await.map(drop).unwrap_err();
            assert!(error.to_string().contains("append only"), "{error}");
        }
        assert_eq!(acme.check(0).await.broken_at, None);
    })
    .await;
}

#[tokio::test]
async fn a_line_that_was_changed_is_found() {
    on_both(|acme| async move {
        acme.rename("B").await;
        acme.rename("C").await;
        let before = acme.check(0).await;
        assert_eq!((before.checked_through, before.broken_at), (before.head.0, None));
        acme.unlock().await;
        let change = "UPDATE audit_log SET address = '10.0.0.1' WHERE seq = 2";
        acme.database.write(change, Values::default()).await.unwrap();
        let found = acme.check(0).await;
        assert_eq!((found.broken_at, found.checked_through), (Some(2), 1));
        assert_eq!(acme.check(2).await.broken_at, None);
    })
    .await;
}

#[tokio::test]
async fn lines_that_are_missing_are_found_wherever_they_were() {
    on_both(|acme| async move {
        acme.rename("B").await;
        acme.rename("C").await;
        let head = acme.check(0).await.head.0;
        acme.unlock().await;
        acme.database
            .write("DELETE FROM audit_log WHERE seq = (SELECT MAX(seq) FROM audit_log)", Values::default())
            .await
            .unwrap();
        assert_eq!(acme.check(0).await.broken_at, Some(head));
        acme.database.write("DELETE FROM audit_log WHERE seq = 1", Values::default()).await.unwrap();
        assert_eq!(acme.check(0).await.broken_at, Some(1));
    })
    .await;
}
