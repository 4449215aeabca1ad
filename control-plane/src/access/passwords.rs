//! Passwords: what one may be, and hashing them without drowning in it.
//!
//! Argon2id, with 19 MiB of memory and two passes, as OWASP recommends. A few at a time in threads of their own, a bounded
//! number waiting: sign-in cannot be used to take the machine's memory. Whoever has no password costs as much as who has.

use super::AccessError;
use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The fewest characters: what can be guessed offline is shorter.
const PASSWORD_CHARS_MIN: usize = 12;
/// The most: longer ones add nothing.
const PASSWORD_CHARS_MAX: usize = 256;
/// Hashes at once: 76 MiB.
const HASHES_AT_ONCE_MAX: usize = 4;
/// Hashes at once and waiting: at 30 ms each, nobody waits for much more than a second.
const HASHES_QUEUED_MAX: usize = 128;

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;

/// The hash that is computed for those who have none. No password is taken as right for it.
const DUMMY: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE";

/// Hashes and compares passwords.
pub(crate) struct Passwords {
    turns: Arc<Semaphore>,
    places: Semaphore,
}

impl Passwords {
    pub(crate) fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(HASHES_AT_ONCE_MAX)), places: Semaphore::new(HASHES_QUEUED_MAX) }
    }

    /// What is kept of a password.
    pub(crate) async fn hash(&self, password: SecretString) -> Result<String, AccessError> {
        self.in_turn(move || {
            let mut salt = [0; SALT_BYTES];
            // Without randomness there is no safe way on.
            getrandom::fill(&mut salt).expect("the operating system gives random bytes");
            let hash: PasswordHash = argon2()
                .hash_password_with_salt(password.expose_secret().as_bytes(), &salt)
                .expect("the parameters are right and the memory is there");
            hash.to_string()
        })
        .await
    }

    /// Whether a password is the one that was hashed. Who has none waits as long, and is wrong.
    pub(crate) async fn verify(&self, password: SecretString, hash: Option<String>) -> Result<bool, AccessError> {
        self.in_turn(move || {
            let is_there = hash.is_some();
            let hash = hash.unwrap_or_else(|| DUMMY.to_owned());
            let is_right = argon2().verify_password(password.expose_secret().as_bytes(), hash.as_str()).is_ok();
            is_there && is_right
        })
        .await
    }

    /// Computes in a thread of its own, when it is its turn.
    async fn in_turn<T: Send + 'static>(&self, compute: impl FnOnce() -> T + Send + 'static) -> Result<T, AccessError> {
        const BUSY: AccessError =
            AccessError::TooMany { reason: "too many people sign in at this moment", retry_after_s: 2 };
        let Ok(_place) = self.places.try_acquire() else { return Err(BUSY) };
        // The semaphore is never closed. The turn moves into the thread: who gives up waiting frees it only when it is done.
        let turn = self.turns.clone().acquire_owned().await;
        let computed = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            compute()
        });
        computed.await.map_err(|_| BUSY)
    }
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the parameters are in range");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// Refuses what is no good password for this address.
pub(crate) fn check(password: &SecretString, email: &str) -> Result<(), AccessError> {
    let password = password.expose_secret();
    let refused = |message: String| Err(AccessError::Invalid { field: "password", message });
    match password.chars().count() {
        ..PASSWORD_CHARS_MIN => {
            refused(format!("take at least {PASSWORD_CHARS_MIN} characters; a few words in a row do well"))
        }
        PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX => check_is_not(&password.to_lowercase(), email),
        _ => refused(format!("take at most {PASSWORD_CHARS_MAX} characters")),
    }
}

/// Refuses a password, in lower case, that is the address.
pub(crate) fn check_is_not(lower_case: &str, email: &str) -> Result<(), AccessError> {
    match lower_case == email {
        true => {
            let message = "take something other than the address".to_owned();
            Err(AccessError::Invalid { field: "password", message })
        }
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        text.to_owned().into()
    }

    #[tokio::test]
    async fn a_password_fits_its_hash_and_no_other() {
        let passwords = Passwords::new();
        let hash = passwords.hash(secret("correct horse battery")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.verify(secret("correct horse battery"), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify(secret("correct horse batterz"), Some(hash.clone())).await.unwrap());
        assert_ne!(passwords.hash(secret("correct horse battery")).await.unwrap(), hash, "salted");
    }

    #[tokio::test]
    async fn who_has_no_password_costs_the_same_work() {
        let real = Passwords::new().hash(secret("correct horse battery")).await.unwrap();
        let (real, dummy) = (PasswordHash::new(&real).unwrap(), PasswordHash::new(DUMMY).unwrap());
        assert_eq!((real.algorithm, real.version), (dummy.algorithm, dummy.version));
        assert_eq!(real.params.to_string(), dummy.params.to_string());
        assert_eq!(real.salt.unwrap().len(), dummy.salt.unwrap().len());
        assert_eq!(real.hash.unwrap().len(), dummy.hash.unwrap().len());
        // The dummy is not refused before it is computed: it is a hash like any other, of a password that nobody knows.
        let refusal = argon2().verify_password(b"correct horse battery", DUMMY).unwrap_err();
        assert_eq!(refusal, argon2::password_hash::Error::PasswordInvalid);
        assert!(!Passwords::new().verify(secret("correct horse battery"), None).await.unwrap());
    }

    #[tokio::test]
    async fn more_than_can_wait_are_sent_away() {
        let passwords = Passwords::new();
        let all = passwords.places.acquire_many(HASHES_QUEUED_MAX as u32).await.unwrap();
        assert!(matches!(passwords.hash(secret("correct horse battery")).await, Err(AccessError::TooMany { .. })));
        drop(all);
        passwords.hash(secret("correct horse battery")).await.unwrap();
    }

    #[test]
    fn a_password_is_long_and_not_the_address() {
        let check = |password: &str| check(&secret(password), "ada@example.com").is_ok();
        assert!(check("twelve chars") && check(&"ä".repeat(256)));
        assert!(!check("eleven char") && !check(&"a".repeat(257)) && !check("Ada@Example.com"));
    }
}
