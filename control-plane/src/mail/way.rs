//! The ways a mail can go: by SMTP, or into a folder.

use super::Mail;
use crate::settings::MailSettings;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Body, Mailbox, header::ContentTransferEncoding},
    transport::smtp::Error as SmtpError,
};
use secrecy::ExposeSecret;
use std::{fs::DirBuilder, io::Write, path::PathBuf, time::Duration};
use uuid::Uuid;

/// A server that says nothing for so long is not there.
const SMTP_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest line of a mail, by RFC 5322.
const LINE_BYTES_MAX: usize = 998;
/// Who writes a developer's mails.
const DEV_FROM: &str = "agentruntime@localhost";

/// Where mails go.
pub(super) enum Way {
    Smtp { transport: Box<AsyncSmtpTransport<Tokio1Executor>>, from: Mailbox },
    Folder { folder: PathBuf, from: Mailbox },
    Nowhere,
}

/// Why a mail was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MailError {
    /// The setting is no SMTP URL. It may hold a password, so that it is not repeated.
    #[error("the SMTP URL cannot be read; write smtps://USER:PASSWORD@HOST, or smtp://HOST:25 without TLS")]
    Url,
    /// The setting is no address.
    #[error("`{0}` is no mail address to send from; write NAME <ADDRESS>, or ADDRESS")]
    From(String),
    /// The recipient's address cannot be written to.
    #[error("the recipient's address cannot be written to")]
    Recipient,
    /// There is no way to send mails.
    #[error("no mail can be sent: set an SMTP URL and an address to send from")]
    NotConfigured,
    /// The mail cannot be written.
    #[error("the mail cannot be put together: {0}")]
    Message(#[from] lettre::error::Error),
    /// The SMTP server refused it, or does not answer.
    #[error("the SMTP server: {0}")]
    Smtp(#[from] SmtpError),
    /// The folder cannot be written.
    #[error("the mail folder: {0}")]
    Folder(#[from] std::io::Error),
}

impl MailError {
    /// Whether another attempt may succeed.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Smtp(error) => !error.is_permanent(),
            Self::Folder(_) => true,
            Self::Url | Self::From(_) | Self::Recipient | Self::NotConfigured | Self::Message(_) => false,
        }
    }
}

impl Way {
    pub(super) fn new(settings: &MailSettings) -> Result<Self, MailError> {
        let mailbox = |from: &str| from.parse().map_err(|_| MailError::From(from.to_owned()));
        Ok(match settings {
            MailSettings::Off => Self::Nowhere,
            MailSettings::Folder(folder) => {
                create_private(folder)?;
                Self::Folder { folder: folder.clone(), from: mailbox(DEV_FROM)? }
            }
            MailSettings::Smtp { url, from } => {
                let from = mailbox(from)?;
                let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.expose_secret());
                let transport = transport.map_err(|_| MailError::Url)?.timeout(Some(SMTP_TIMEOUT)).build();
                Self::Smtp { transport: Box::new(transport), from }
            }
        })
    }

    pub(super) async fn deliver(&self, mail: &Mail) -> Result<(), MailError> {
        match self {
            Self::Nowhere => Err(MailError::NotConfigured),
            Self::Smtp { transport, from } => {
                transport.send(message(from, mail)?).await?;
                Ok(())
            }
            Self::Folder { folder, from } => {
                // The name sorts by time. The file appears under it when it is whole.
                let name = Uuid::now_v7();
                let (begun, whole) = (folder.join(format!(".{name}")), folder.join(format!("{name}.eml")));
                let text = message(from, mail)?.formatted();
                private_file(&begun)?.write_all(&text)?;
                std::fs::rename(begun, &whole)?;
                // The place and not the text: a log holds no token.
                tracing::warn!(to = mail.to, subject = mail.subject, "a mail lies at {}", whole.display());
                Ok(())
            }
        }
    }
}

fn message(from: &Mailbox, mail: &Mail) -> Result<Message, MailError> {
    let to = mail.to.parse().map_err(|_| MailError::Recipient)?;
    // Names that people chose may stand in it.
    let subject: String = mail.subject.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    Ok(Message::builder().from(from.clone()).to(Mailbox::new(None, to)).subject(subject).body(body(&mail.text))?)
}

/// A text as it is, where mails can hold it so: what is to be copied out of a developer's file would be broken by any other
/// encoding.
fn body(text: &str) -> Body {
    let is_plain = |line: &str| line.is_ascii() && line.len() <= LINE_BYTES_MAX;
    match text.lines().all(is_plain) {
        true => Body::dangerous_pre_encoded(text.replace('\n', "\r\n").into_bytes(), ContentTransferEncoding::SevenBit),
        false => Body::new(text.to_owned()),
    }
}

fn create_private(folder: &PathBuf) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

fn private_file(path: &PathBuf) -> std::io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
