//! The certificate, and reading it again.

use super::signals::Reload;
use crate::settings::TlsFiles;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use rustls::{
    ServerConfig,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::task::{AbortHandle, spawn_blocking};

/// A certificate, or its key, cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{setting}`: {path} {what}", path = path.display())]
pub(crate) struct CertificateError {
    /// Which of the two settings names the file.
    setting: &'static str,
    /// The file.
    path: PathBuf,
    /// What is wrong with it, and what to do.
    what: String,
}

/// A certificate in use. A new one is read from the same files on SIGHUP; connections that are open keep the old one.
pub(super) struct Certificate {
    config: RustlsConfig,
    renewal: AbortHandle,
}

impl Certificate {
    /// Reads it.
    pub(super) async fn load(files: &TlsFiles) -> Result<Self, CertificateError> {
        let config = RustlsConfig::from_config(read(files.clone()).await?);
        let renewal = tokio::spawn(renew(config.clone(), files.clone())).abort_handle();
        Ok(Self { config, renewal })
    }

    /// Speaks TLS over what another acceptor gives.
    pub(super) fn acceptor<A>(&self, inner: A) -> RustlsAcceptor<A> {
        RustlsAcceptor::new(self.config.clone()).acceptor(inner)
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

async fn renew(config: RustlsConfig, files: TlsFiles) {
    let mut reload = Reload::listen();
    loop {
        reload.asked().await;
        match read(files.clone()).await {
            Ok(read) => {
                config.reload_from_config(read);
                tracing::info!("the certificate was read again");
            }
            Err(error) => tracing::error!(%error, "the certificate cannot be read again; the one in use stays"),
        }
    }
}

/// Reads both files, and checks that they belong together.
async fn read(files: TlsFiles) -> Result<Arc<ServerConfig>, CertificateError> {
    let certificate = files.certificate.clone();
    let read = spawn_blocking(move || config(&files)).await;
    read.unwrap_or_else(|error| Err(refuse_certificate(&certificate, format!("cannot be read: {error}"))))
}

fn config(files: &TlsFiles) -> Result<Arc<ServerConfig>, CertificateError> {
    let (chain, key) = (chain(&files.certificate)?, key(&files.key)?);
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.map_err(|error| unfit(files, &error))?;
    config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
    Ok(Arc::new(config))
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain = CertificateDer::pem_file_iter(path).and_then(|chain| chain.collect::<Result<Vec<_>, _>>());
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) | Err(pem::Error::NoItemsFound) => {
            let what = "holds no certificate: name the file with the chain in PEM, which begins with -----BEGIN \
                        CERTIFICATE-----, the server's own first";
            Err(refuse_certificate(path, what))
        }
        Err(error) => Err(refuse_certificate(path, format!("cannot be read as PEM: {}", reason(&error)))),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            let what = "holds no private key: name the file with the key in PEM, which begins with -----BEGIN PRIVATE \
                        KEY-----, and is not encrypted with a password";
            refuse_key(path, what)
        }
        error => refuse_key(path, format!("cannot be read as PEM: {}", reason(&error))),
    })
}

/// What went wrong with a file, without the library's own words around it.
fn reason(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => io::Error::to_string(error),
        error => error.to_string(),
    }
}

fn unfit(files: &TlsFiles, error: &rustls::Error) -> CertificateError {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            let what = format!(
                "is not the key of the certificate in {}: give the two that were made together, the server's own \
                 certificate first in its file",
                files.certificate.display()
            );
            refuse_key(&files.key, what)
        }
        rustls::Error::InvalidCertificate(_) => {
            refuse_certificate(&files.certificate, format!("holds a certificate that cannot be read: {error}"))
        }
        error => refuse_key(&files.key, format!("holds a key that cannot be used: {error}")),
    }
}

fn refuse_certificate(path: &Path, what: impl Into<String>) -> CertificateError {
    CertificateError { setting: "tls_certificate", path: path.to_owned(), what: what.into() }
}

fn refuse_key(path: &Path, what: impl Into<String>) -> CertificateError {
    CertificateError { setting: "tls_key", path: path.to_owned(), what: what.into() }
}
