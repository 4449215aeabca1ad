//! Mail: what the service writes to people.
//!
//! Owns the way from a written mail to an SMTP server, or for a developer to a folder. A mail is queued in memory and sent
//! in the background, with retries: no request waits for it or fails with it. It is never stored, as most mails carry a
//! one-time token, of which the database has the hash only; one that is lost with the process is asked for again.

pub(crate) mod letters;
mod way;

pub(crate) use way::MailError;

use crate::settings::MailSettings;
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use way::Way;

/// Mails in memory: at some kilobytes each, a few megabytes while an SMTP server is away.
const QUEUE_MAILS_MAX: usize = 1_000;
/// Connections to the SMTP server; servers refuse clients that open many.
const SENDING_AT_ONCE_MAX: usize = 4;
/// Waits before the second and later attempts: a restart of the server and a short grey-listing are outlasted.
const RETRY_WAITS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
];
/// How long the end of the process waits for mails that are on their way.
const FAREWELL: Duration = Duration::from_secs(5);

/// A mail.
#[derive(Clone)]
pub(crate) struct Mail {
    /// The address.
    pub(crate) to: String,
    /// One line.
    pub(crate) subject: String,
    /// Plain text.
    pub(crate) text: String,
}

/// Sends mails. Cloning shares the queue.
#[derive(Clone)]
pub(crate) struct Mailer {
    way: Arc<Way>,
    turns: Arc<Semaphore>,
    queue: TaskTracker,
}

impl Mailer {
    /// A mailer that sends as the settings say.
    pub(crate) fn new(settings: &MailSettings) -> Result<Self, MailError> {
        let way = Arc::new(Way::new(settings)?);
        Ok(Self { way, turns: Arc::new(Semaphore::new(SENDING_AT_ONCE_MAX)), queue: TaskTracker::new() })
    }

    /// Queues a mail. Whether it arrives is not known here, and whoever asks for it is told nothing about it.
    pub(crate) fn send(&self, mail: Mail) {
        if self.queue.len() >= QUEUE_MAILS_MAX {
            tracing::error!(subject = mail.subject, "a mail was dropped: too many wait for the SMTP server");
            return;
        }
        let (way, turns) = (self.way.clone(), self.turns.clone());
        self.queue.spawn(async move { deliver(&way, &turns, &mail).await });
    }

    /// Whether there is a way to send mails at all.
    pub(crate) fn is_set_up(&self) -> bool {
        !matches!(*self.way, Way::Nowhere)
    }

    /// Waits a moment for mails that are on their way. The rest is lost, and the log says how many.
    pub(crate) async fn finish(&self) {
        self.queue.close();
        if tokio::time::timeout(FAREWELL, self.queue.wait()).await.is_err() {
            tracing::error!(mails = self.queue.len(), "mails were not sent before the end of the process");
        }
    }
}

async fn deliver(way: &Way, turns: &Semaphore, mail: &Mail) {
    let mut waits = RETRY_WAITS.into_iter();
    loop {
        let failure = {
            // The semaphore is never closed.
            let _turn = turns.acquire().await;
            match way.deliver(mail).await {
                Ok(()) => return,
                Err(failure) => failure,
            }
        };
        match waits.next().filter(|_| failure.is_passing()) {
            Some(wait) => {
                tracing::warn!(%failure, subject = mail.subject, "a mail is tried again later");
                tokio::time::sleep(wait).await;
            }
            None => {
                tracing::error!(%failure, subject = mail.subject, "a mail was not sent");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(to: &str, subject: &str) -> Mail {
        Mail { to: to.into(), subject: subject.into(), text: "Hello.\n".into() }
    }

    /// What lies in the folder after these mails.
    async fn landed(mails: Vec<Mail>) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let mailer = Mailer::new(&MailSettings::Folder(folder.path().join("mail"))).unwrap();
        for mail in mails {
            mailer.send(mail);
        }
        mailer.finish().await;
        let files = std::fs::read_dir(folder.path().join("mail")).unwrap();
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_mail_of_a_developer_lands_in_the_folder() {
        let landed = landed(vec![mail("ada@example.com", "Welcome")]).await;
        assert_eq!(landed.len(), 1);
        for line in ["To: ada@example.com", "Subject: Welcome", "Hello."] {
            assert!(landed[0].contains(line), "{line} in {}", landed[0]);
        }
    }

    #[tokio::test]
    async fn what_is_to_be_copied_stands_in_the_file_as_it_is() {
        let base = format!("https://{}.example.com", "long".repeat(12)).parse().unwrap();
        let token = "0123456789012345678901234567890123456789012";
        let mail = letters::reset(&base, "ada@example.com".into(), token);
        let lines: Vec<String> = mail.text.lines().map(str::to_owned).collect();
        let landed = landed(vec![mail]).await;
        assert!(landed[0].contains("Content-Transfer-Encoding: 7bit\r\n"), "{}", landed[0]);
        for line in lines {
            assert!(landed[0].contains(&format!("{line}\r\n")), "{line:?} in {}", landed[0]);
        }
    }

    #[tokio::test]
    async fn what_a_mail_cannot_hold_as_it_is_is_encoded() {
        for text in ["Grüße.\n".to_owned(), "a".repeat(999)] {
            let landed = landed(vec![Mail { to: "ada@example.com".into(), subject: "Hi".into(), text }]).await;
            assert!(!landed[0].contains("7bit"), "{}", landed[0]);
        }
    }

    #[tokio::test]
    async fn a_subject_adds_no_header() {
        let landed = landed(vec![mail("ada@example.com", "Hi\r\nBcc: eve@example.com")]).await;
        assert!(landed[0].lines().all(|line| !line.starts_with("Bcc")), "{}", landed[0]);
    }

    #[tokio::test]
    async fn what_is_no_address_gets_no_mail() {
        assert_eq!(landed(vec![mail("ada@example.com\r\nBcc: eve@example.com", "Hi")]).await.len(), 0);
    }

    #[test]
    fn an_smtp_url_that_is_none_is_refused_at_the_start() {
        let settings = MailSettings::Smtp { url: "nonsense://x".to_owned().into(), from: "a@example.com".into() };
        assert!(matches!(Mailer::new(&settings), Err(MailError::Url)));
        let settings = MailSettings::Smtp { url: "smtp://127.0.0.1:25".to_owned().into(), from: "nobody".into() };
        assert!(matches!(Mailer::new(&settings), Err(MailError::From(_))));
    }
}
