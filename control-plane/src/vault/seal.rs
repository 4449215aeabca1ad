//! Sealing: XChaCha20-Poly1305 under the master key.
//!
//! A sealed secret is `v1.<key>.<base64 of nonce and ciphertext>`, where `<key>` names the master key: those of before open
//! what they sealed, and the current one seals. Its place (workspace, kind, id) is authenticated with it: a row whose secret was copied from another
//! row does not open.

use super::master_key::Key;
use agentruntime_host_api::TenantId;
use base64::{Engine, prelude::BASE64_STANDARD};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use sha2::{Digest, Sha256};
use std::fmt;

/// The form of what is written; a later form gets another word.
const FORM: &str = "v1";
/// 192 bits: random nonces do not meet.
const NONCE_BYTES: usize = 24;
/// Enough to tell the few master keys of one installation apart.
const KEY_ID_BYTES: usize = 4;

/// Seals secrets and opens them again.
pub(crate) struct Sealer {
    own: Option<(String, Key)>,
    previous: Vec<(String, Key)>,
}

/// Where a secret lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// Whose it is.
    pub(crate) tenant: &'a TenantId,
    /// What kind of thing holds it.
    pub(crate) kind: &'static str,
    /// Which one.
    pub(crate) id: &'a str,
}

/// A secret was not sealed, or not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    /// This installation has no master key.
    #[error("this server has no master key, so that it cannot keep secrets; give it one with `master_key_file`")]
    NoMasterKey,
    /// It was sealed under another key, which may be a workspace's that is gone.
    #[error("a secret was sealed under the key `{0}`, which this server does not have, or no longer")]
    OtherKey(String),
    /// It was altered, or lies where it does not belong.
    #[error("a sealed secret is damaged, or not in its place")]
    Damaged,
}

impl Sealer {
    /// With a master key, if there is one, and others that only open. Without one nothing is sealed, and whoever wants to
    /// is told why.
    pub(super) fn of(own: Option<Key>, previous: Vec<Key>) -> Self {
        Self { own: own.map(identified), previous: previous.into_iter().map(identified).collect() }
    }

    /// Seals with this key from now on.
    pub(super) fn take(&mut self, own: Key) {
        self.own = Some(identified(own));
    }

    /// Whether there is no master key, so that nothing can be sealed.
    pub(crate) fn is_keyless(&self) -> bool {
        self.own.is_none()
    }

    /// The name of the key that seals.
    pub(crate) fn own_id(&self) -> Option<&str> {
        self.own.as_ref().map(|(id, _)| id.as_str())
    }

    /// Whether what was sealed under a key can be opened.
    pub(crate) fn opens(&self, id: &str) -> bool {
        self.key(id).is_some()
    }

    fn key(&self, id: &str) -> Option<&Key> {
        self.own.iter().chain(&self.previous).find(|(known, _)| known == id).map(|(_, key)| key)
    }

    /// With a key of its own, that nobody has kept.
    #[cfg(test)]
    pub(crate) fn ephemeral() -> Self {
        Self::of(Some(super::master_key::random()), Vec::new())
    }

    /// Seals a secret for its place.
    pub(crate) fn seal(&self, place: Place<'_>, secret: &SecretString) -> Result<String, SealError> {
        let (id, key) = self.own.as_ref().ok_or(SealError::NoMasterKey)?;
        let mut bytes = vec![0; NONCE_BYTES];
        // Without randomness there is no safe way on.
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        let payload = Payload { msg: secret.expose_secret().as_bytes(), aad: &place.bytes() };
        let sealed = cipher(key).encrypt(&nonce(&bytes)?, payload).map_err(|_| SealError::Damaged)?;
        bytes.extend(sealed);
        Ok(format!("{FORM}.{id}.{}", BASE64_STANDARD.encode(bytes)))
    }

    /// Opens what was sealed for this place.
    pub(crate) fn open_sealed(&self, place: Place<'_>, sealed: &str) -> Result<SecretString, SealError> {
        let mut parts = sealed.splitn(3, '.');
        let (Some(FORM), Some(id), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(SealError::Damaged);
        };
        let key = self.key(id).ok_or_else(|| SealError::OtherKey(id.to_owned()))?;
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| SealError::Damaged)?;
        let (start, ciphertext) = bytes.split_at_checked(NONCE_BYTES).ok_or(SealError::Damaged)?;
        let payload = Payload { msg: ciphertext, aad: &place.bytes() };
        let opened = cipher(key).decrypt(&nonce(start)?, payload).map_err(|_| SealError::Damaged)?;
        let opened = Zeroizing::new(opened);
        std::str::from_utf8(&opened).map(SecretString::from).map_err(|_| SealError::Damaged)
    }
}

/// How everything begins that is sealed under a key.
pub(crate) fn beginning(key_id: &str) -> String {
    format!("{FORM}.{key_id}.")
}

/// How many characters that is.
pub(crate) const BEGINNING_CHARS: usize = FORM.len() + 2 * KEY_ID_BYTES + 2;

/// The key under which something is sealed, by its beginning.
pub(crate) fn key_of(sealed: &str) -> Option<&str> {
    sealed.strip_prefix(FORM)?.strip_prefix('.')?.split('.').next()
}

impl Place<'_> {
    /// Parts and their lengths, so that no two places read alike.
    fn bytes(&self) -> Vec<u8> {
        let parts = [self.tenant.as_str(), self.kind, self.id];
        parts.iter().flat_map(|part| [part.len().to_string().as_bytes(), b":", part.as_bytes()].concat()).collect()
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let previous: Vec<&String> = self.previous.iter().map(|(id, _)| id).collect();
        f.debug_struct("Sealer").field("key", &self.own_id()).field("previous", &previous).finish()
    }
}

/// A key and its name, which says nothing about it.
fn identified(key: Key) -> (String, Key) {
    let digest = Sha256::new().chain_update(b"master key id\n").chain_update(key.expose_secret()).finalize();
    let id = digest[..KEY_ID_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
    (id, key)
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.expose_secret().into())
}

fn nonce(bytes: &[u8]) -> Result<XNonce, SealError> {
    XNonce::try_from(bytes).map_err(|_| SealError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::SecretBox;

    fn tenant() -> TenantId {
        TenantId::new("t1")
    }

    #[test]
    fn what_was_sealed_opens_in_its_place_and_nowhere_else() {
        let (sealer, tenant, other) = (Sealer::ephemeral(), tenant(), TenantId::new("t"));
        let place = Place { tenant: &tenant, kind: "webhook", id: "a" };
        let secret = SecretString::from("whsec_x");
        let sealed = sealer.seal(place, &secret).unwrap();
        assert!(sealed.starts_with("v1.") && !sealed.contains("whsec"));
        assert_eq!(sealer.open_sealed(place, &sealed).unwrap().expose_secret(), "whsec_x");
        assert_ne!(sealer.seal(place, &secret).unwrap(), sealed);
        let elsewhere = [
            Place { id: "b", ..place },
            Place { kind: "connection", ..place },
            Place { tenant: &other, ..place },
            // The same characters, parted otherwise.
            Place { tenant: &other, kind: "1webhook", id: "a" },
        ];
        for place in elsewhere {
            assert!(matches!(sealer.open_sealed(place, &sealed), Err(SealError::Damaged)), "{place:?}");
        }
    }

    #[test]
    fn what_was_altered_does_not_open() {
        let (sealer, tenant) = (Sealer::ephemeral(), tenant());
        let place = Place { tenant: &tenant, kind: "webhook", id: "a" };
        let sealed = sealer.seal(place, &SecretString::from("secret")).unwrap();
        let (head, text) = sealed.rsplit_once('.').unwrap();
        let bytes = BASE64_STANDARD.decode(text).unwrap();
        for position in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[position] ^= 1;
            let altered = format!("{head}.{}", BASE64_STANDARD.encode(altered));
            assert!(matches!(sealer.open_sealed(place, &altered), Err(SealError::Damaged)), "byte {position}");
        }
        for wrong in ["", "v1", "v2.x.y", &sealed[..20], &sealed.replace("v1.", "v2.")] {
            assert!(sealer.open_sealed(place, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_key_that_is_needed_is_named_and_that_there_is_none_to_seal_with_is_said() {
        let tenant = tenant();
        let place = Place { tenant: &tenant, kind: "webhook", id: "a" };
        let sealed = Sealer::ephemeral().seal(place, &SecretString::from("secret")).unwrap();
        assert!(matches!(Sealer::ephemeral().open_sealed(place, &sealed), Err(SealError::OtherKey(_))));
        let none = Sealer::of(None, Vec::new());
        // Of a workspace whose key was given up: whoever reads this has a master key.
        let refused = none.open_sealed(place, &sealed).unwrap_err().to_string();
        assert!(refused.contains(key_of(&sealed).unwrap()) && !refused.contains("master"), "{refused}");
        assert!(matches!(none.seal(place, &SecretString::from("secret")), Err(SealError::NoMasterKey)));
        assert_eq!(format!("{none:?}"), "Sealer { key: None, previous: [] }");
    }

    #[test]
    fn a_key_of_before_opens_what_it_sealed_and_seals_nothing() {
        use super::super::master_key::random;
        let tenant = tenant();
        let place = Place { tenant: &tenant, kind: "webhook", id: "a" };
        let again =
            |key: &Key| SecretBox::init_with_mut(|place: &mut [u8; 32]| place.copy_from_slice(key.expose_secret()));
        let (old, new) = (random(), random());
        let before = Sealer::of(Some(again(&old)), Vec::new());
        let sealed = before.seal(place, &SecretString::from("secret")).unwrap();
        let after = Sealer::of(Some(new), vec![old]);
        assert_eq!(after.open_sealed(place, &sealed).unwrap().expose_secret(), "secret");
        let anew = after.seal(place, &SecretString::from("secret")).unwrap();
        assert!(matches!(before.open_sealed(place, &anew), Err(SealError::OtherKey(_))));
        let own = after.own_id().unwrap();
        assert!(anew.starts_with(&beginning(own)) && beginning(own).len() == BEGINNING_CHARS);
        assert_eq!(key_of(&anew), Some(own));
        assert_eq!(key_of("plain"), None);
    }
}
