//! The signing secrets that are kept, as far as master keys go: under which keys they are sealed, and sealing them anew.

use super::{SubscriptionId, TriggerError, secret::SigningSecret, subscriptions::KIND};
use crate::vault::{self, Place, Sealer};
use agentruntime_engine::database::{Database, StoreError, Values, id, maybe_text, text};
use agentruntime_host_api::TenantId;
use secrecy::SecretString;
use std::collections::BTreeSet;

/// `substr(…, 1, 12)` is what [`vault::beginning`] writes.
const BEGINNINGS: &str = "SELECT DISTINCT substr(secret, 1, 12) FROM webhook_subscriptions \
    UNION SELECT DISTINCT substr(previous_secret, 1, 12) FROM webhook_subscriptions WHERE previous_secret IS NOT NULL";
const _: () = assert!(vault::BEGINNING_CHARS == 12);

const OTHERS: &str = "SELECT subscription_id, tenant_id, secret, previous_secret FROM webhook_subscriptions \
    WHERE subscription_id > $1 AND (substr(secret, 1, 12) <> $2 \
    OR (previous_secret IS NOT NULL AND substr(previous_secret, 1, 12) <> $2)) ORDER BY subscription_id LIMIT $3";

/// Whoever rotated the secret meanwhile has sealed it anew.
const RESEAL: &str = "UPDATE webhook_subscriptions SET secret = $3, previous_secret = $4 \
    WHERE subscription_id = $1 AND secret = $2 RETURNING subscription_id";

/// Subscriptions in one transaction.
const BATCH: u32 = 100;

/// The keys under which secrets are sealed.
pub(crate) async fn keys_in_use(database: &Database) -> Result<BTreeSet<String>, StoreError> {
    vault::keys_in_use(database, BEGINNINGS).await
}

/// Seals all secrets under the sealer's own key, and tells of how many subscriptions. What is sealed under the key that is
/// given up is replaced by what nobody knows: deliveries are refused until a new secret is made.
pub(crate) async fn reseal(database: &Database, sealer: &Sealer, given_up: Option<&str>) -> Result<u32, TriggerError> {
    let Some(own) = sealer.own_id() else { return Ok(0) };
    let (mut after, mut all) = (String::new(), 0);
    loop {
        let mut values = Values::default();
        values.text(&after).text(vault::beginning(own)).number(BATCH);
        let rows = database.rows(OTHERS, values).await?;
        let Some(last) = rows.last() else { return Ok(all) };
        after = text(last, 0)?.to_owned();
        let mut tx = database.begin().await?;
        for row in &rows {
            let (subscription, tenant) = (id::<SubscriptionId>(row, 0)?.to_string(), TenantId::new(text(row, 1)?));
            let place = Place { tenant: &tenant, kind: KIND, id: &subscription };
            let current = text(row, 2)?;
            let anew = match is_lost(current, given_up) {
                true => sealer.seal(place, SigningSecret::random().text())?,
                false => again(sealer, place, current)?,
            };
            let before = maybe_text(row, 3)?.filter(|sealed| !is_lost(sealed, given_up));
            let before = before.map(|sealed| again(sealer, place, sealed)).transpose()?;
            let mut values = Values::default();
            values.text(&subscription).text(current).text(anew).maybe_text(before);
            all += u32::from(!tx.rows(RESEAL, values).await?.is_empty());
        }
        tx.commit().await?;
    }
}

fn is_lost(sealed: &str, given_up: Option<&str>) -> bool {
    given_up.is_some() && vault::key_of(sealed) == given_up
}

fn again(sealer: &Sealer, place: Place<'_>, sealed: &str) -> Result<String, TriggerError> {
    let secret: SecretString = sealer.open_sealed(place, sealed)?;
    Ok(sealer.seal(place, &secret)?)
}
