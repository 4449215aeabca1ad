//! The certificate, and reading it again.

use super::{
    certificate::{Validity, concerns},
    signals::Reload,
};
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
    time::SystemTime,
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
    /// Reads it, and tells of what clients will refuse who come to this host.
    pub(super) async fn load(files: &TlsFiles, host: Option<&str>) -> Result<Self, CertificateError> {
        let files = Files { files: files.clone(), host: host.map(str::to_owned) };
        let read = files.read().await?;
        read.tell();
        let config = RustlsConfig::from_config(read.config);
        let renewal = tokio::spawn(renew(config.clone(), files)).abort_handle();
        Ok(Self { config, renewal })
    }

    /// Tries to read it; tells what clients will refuse who come to this host.
    pub(super) async fn check(files: &TlsFiles, host: Option<&str>) -> Result<Vec<String>, CertificateError> {
        Ok(Files { files: files.clone(), host: host.map(str::to_owned) }.read().await?.concerns)
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

/// Where a certificate is read, and for whom it has to be.
struct Files {
    files: TlsFiles,
    host: Option<String>,
}

/// A certificate that was read.
struct Read {
    config: Arc<ServerConfig>,
    validity: Option<Validity>,
    /// Sentences about what clients will refuse.
    concerns: Vec<String>,
}

impl Read {
    fn tell(&self) {
        for concern in &self.concerns {
            tracing::warn!("{concern}");
        }
        if let Some(validity) = self.validity {
            metrics::gauge!("agentruntime_tls_certificate_expires_timestamp_seconds").set(validity.ends() as f64);
        }
    }
}

async fn renew(config: RustlsConfig, files: Files) {
    let mut reload = Reload::listen();
    loop {
        reload.asked().await;
        match files.read().await {
            Ok(read) => {
                read.tell();
                config.reload_from_config(read.config);
                tracing::info!("the certificate was read again");
            }
            Err(error) => tracing::error!(%error, "the certificate cannot be read again; the one in use stays"),
        }
    }
}

impl Files {
    /// Reads both files, and checks that they belong together.
    async fn read(&self) -> Result<Read, CertificateError> {
        let (files, host) = (self.files.clone(), self.host.clone());
        let read = spawn_blocking(move || read(&files, host.as_deref())).await;
        read.unwrap_or_else(|error| {
            Err(refuse_certificate(&self.files.certificate, format!("cannot be read: {error}")))
        })
    }
}

fn read(files: &TlsFiles, host: Option<&str>) -> Result<Read, CertificateError> {
    let (chain, key) = (chain(&files.certificate)?, key(&files.key)?);
    let own = chain.first().cloned();
    let config = config(files, chain, key)?;
    let told = own.iter().flat_map(|own| concerns(own, host, SystemTime::now()));
    let concerns = told.map(|what| format!("`tls_certificate`: {} {what}", files.certificate.display())).collect();
    Ok(Read { config, validity: own.as_ref().and_then(Validity::of), concerns })
}

fn config(
    files: &TlsFiles,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, CertificateError> {
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
