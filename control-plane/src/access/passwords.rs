//! Passwords: what one may be, and hashing them without drowning in it.
//!
//! Argon2id, with 19 MiB of memory and two passes, as OWASP recommends. A few at a time in threads of their own, a bounded
//! number waiting: sign-in cannot be used to take the machine's memory. The memory of each is used again by the next, as an
//! allocator gives back pieces of this size only now and then, and each thread's apart. Whoever has no password costs as much
//! as who has.

use super::AccessError;
use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{
        self,
        phc::{Output, ParamsString, PasswordHash, Salt},
    },
};
use secrecy::{ExposeSecret, SecretString};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// The fewest characters: what can be guessed offline is shorter.
const PASSWORD_CHARS_MIN: usize = 12;
/// The most: longer ones add nothing.
const PASSWORD_CHARS_MAX: usize = 256;
/// Hashes at once: 76 MiB, which are kept once they were needed.
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
    free: Arc<Mutex<Vec<Memory>>>,
}

/// What one hash needs to be computed in.
type Memory = Vec<Block>;

impl Passwords {
    pub(crate) fn new() -> Self {
        let (turns, places) = (Semaphore::new(HASHES_AT_ONCE_MAX), Semaphore::new(HASHES_QUEUED_MAX));
        Self { turns: Arc::new(turns), places, free: Arc::default() }
    }

    /// What is kept of a password.
    pub(crate) async fn hash(&self, password: SecretString) -> Result<String, AccessError> {
        self.in_turn(move |memory| {
            let mut salt = [0; SALT_BYTES];
            // Without randomness there is no safe way on.
            getrandom::fill(&mut salt).expect("the operating system gives random bytes");
            let salt = Salt::new(&salt).expect("the salt has a length that is allowed");
            let hash = computed(&argon2(), &password, salt, memory);
            hash.expect("the parameters are right").to_string()
        })
        .await
    }

    /// Whether a password is the one that was hashed. Who has none waits as long, and is wrong.
    pub(crate) async fn verify(&self, password: SecretString, hash: Option<String>) -> Result<bool, AccessError> {
        self.in_turn(move |memory| {
            let is_there = hash.is_some();
            let hash = hash.unwrap_or_else(|| DUMMY.to_owned());
            // What is no hash is nobody's password.
            is_there & is_hash_of(&hash, &password, memory).unwrap_or(false)
        })
        .await
    }

    /// Computes in a thread of its own, when it is its turn.
    async fn in_turn<T: Send + 'static>(
        &self,
        compute: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T, AccessError> {
        const BUSY: AccessError =
            AccessError::TooMany { reason: "too many people sign in at this moment", retry_after_s: 2 };
        let Ok(_place) = self.places.try_acquire() else { return Err(BUSY) };
        // The semaphore is never closed. The turn moves into the thread: who gives up waiting frees it only when it is done.
        let turn = self.turns.clone().acquire_owned().await;
        let free = self.free.clone();
        let computed = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            // There are never more than there are turns.
            let mut memory = free.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
            let computed = compute(&mut memory);
            // What is left in it follows from the password.
            memory.fill(Block::new());
            free.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
            computed
        });
        computed.await.map_err(|_| BUSY)
    }
}

/// The hash of a password.
fn computed(
    argon2: &Argon2<'_>,
    password: &SecretString,
    salt: Salt,
    memory: &mut Memory,
) -> password_hash::Result<PasswordHash> {
    let (params, mut output) = (argon2.params(), [0; Params::DEFAULT_OUTPUT_LEN]);
    memory.resize(params.block_count(), Block::new());
    argon2.hash_password_into_with_memory(password.expose_secret().as_bytes(), &salt, &mut output, memory)?;
    Ok(PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params)?,
        salt: Some(salt),
        hash: Some(Output::new(&output)?),
    })
}

/// Whether a hash is of this password. Both are compared in constant time.
fn is_hash_of(hash: &str, password: &SecretString, memory: &mut Memory) -> password_hash::Result<bool> {
    let known = PasswordHash::new(hash)?;
    let salt = known.salt.ok_or(password_hash::Error::SaltInvalid)?;
    // A hash keeps the parameters with which it was computed.
    let params = Params::try_from(&known)?;
    let argon2 = Argon2::new(Algorithm::try_from(known.algorithm.as_str())?, Version::V0x13, params);
    Ok(computed(&argon2, password, salt, memory)?.hash == known.hash)
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the parameters are in range");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// Refuses what is no good password for anybody.
pub(crate) fn check(password: &SecretString) -> Result<(), AccessError> {
    let refused = |message: String| Err(AccessError::Invalid { field: "password", message });
    match password.expose_secret().chars().count() {
        ..PASSWORD_CHARS_MIN => {
            refused(format!("take at least {PASSWORD_CHARS_MIN} characters; a few words in a row do well"))
        }
        PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX => Ok(()),
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
        assert_eq!(is_hash_of(DUMMY, &secret("correct horse battery"), &mut Memory::new()), Ok(false));
        assert!(!Passwords::new().verify(secret("correct horse battery"), None).await.unwrap());
    }

    #[tokio::test]
    async fn hashes_are_those_of_others_too() {
        // By the reference implementation: echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1
        let known = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(Passwords::new().verify(secret("password"), Some(known.to_owned())).await.unwrap());
        assert!(!Passwords::new().verify(secret("Password"), Some(known.to_owned())).await.unwrap());
    }

    #[tokio::test]
    async fn the_memory_is_used_again_and_nothing_is_left_in_it() {
        let passwords = Arc::new(Passwords::new());
        let hashes = (0..3 * HASHES_AT_ONCE_MAX).map(|_| {
            let passwords = passwords.clone();
            tokio::spawn(async move { passwords.hash(secret("correct horse battery")).await.unwrap() })
        });
        for hash in hashes.collect::<Vec<_>>() {
            hash.await.unwrap();
        }
        let free = passwords.free.lock().unwrap();
        assert!((1..=HASHES_AT_ONCE_MAX).contains(&free.len()), "{}", free.len());
        for memory in free.iter() {
            assert_eq!(memory.len(), MEMORY_KIB as usize);
            assert!(memory.iter().all(|block| block.as_ref().iter().all(|word| *word == 0)));
        }
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
        let check = |password: &str| check(&secret(password)).is_ok();
        assert!(check("twelve chars") && check(&"ä".repeat(256)));
        assert!(!check("eleven char") && !check(&"a".repeat(257)));
        let is_not = |password| check_is_not(password, "ada@example.com").is_ok();
        assert!(is_not("ada@example.con") && !is_not("ada@example.com"));
    }
}
