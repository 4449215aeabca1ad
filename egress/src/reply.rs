//! What comes back: how large it may be, and that no secret is in it. It is read whole, or line by line where it is a stream.

use crate::{
    scrub::Scrubber,
    send::{EgressError, shown, unreachable},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::{Stream, stream};
use reqwest::{Response, header::HeaderMap};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, ops::Deref};
use url::Url;

/// What came back, without the secrets that went out.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The status of HTTP.
    pub status: u16,
    /// By their names in lower case; several of one name are joined by commas.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

/// A reply that has begun.
pub struct Opened {
    /// The status of HTTP.
    pub status: u16,
    /// By their names in lower case; several of one name are joined by commas.
    pub headers: BTreeMap<String, String>,
    url: Url,
    response: Response,
    scrubber: Scrubber,
}

/// How much is read of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineLimits {
    /// The longest line.
    pub line_bytes_max: usize,
    /// All lines together.
    pub bytes_max: usize,
}

impl Opened {
    pub(crate) fn new(url: Url, response: Response, scrubber: Scrubber) -> Self {
        let headers = headers_of(response.headers());
        let headers = headers.into_iter().map(|(name, value)| (scrubber.clean(name), scrubber.clean(value)));
        Self { status: response.status().as_u16(), headers: headers.collect(), url, response, scrubber }
    }

    /// All of it.
    ///
    /// # Errors
    /// It is larger than that, or breaks off.
    pub async fn whole(mut self, bytes_max: usize) -> Result<Reply, EgressError> {
        if self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > bytes_max {
            return Err(self.too_large(bytes_max));
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if chunk.len() > bytes_max - body.len() {
                return Err(self.too_large(bytes_max));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status: self.status, headers: self.headers, body: self.scrubber.clean_bytes(body) })
    }

    /// Its lines as they come, each with what ends it. A secret has no line break, so that none is in two of them.
    pub fn lines(self, limits: LineLimits) -> impl Stream<Item = Result<Vec<u8>, EgressError>> {
        let begun = Lines { opened: self, limits, pending: Vec::new(), start: 0, searched: 0, read: 0, is_over: false };
        stream::unfold(begun, |mut lines| async move { Some((lines.next().await?, lines)) })
    }

    async fn chunk(&mut self) -> Result<Option<impl Deref<Target = [u8]> + use<>>, EgressError> {
        let chunk = self.response.chunk().await;
        chunk.map_err(|error| unreachable(&self.url, &error).cleaned(&self.scrubber))
    }

    fn too_large(&self, limit: usize) -> EgressError {
        EgressError::TooLarge { host: shown(&self.url), limit }.cleaned(&self.scrubber)
    }
}

struct Lines {
    opened: Opened,
    limits: LineLimits,
    /// What came and was not handed on, from `start`.
    pending: Vec<u8>,
    start: usize,
    /// Up to where no line ends.
    searched: usize,
    read: usize,
    is_over: bool,
}

impl Lines {
    async fn next(&mut self) -> Option<Result<Vec<u8>, EgressError>> {
        loop {
            let end = self.pending[self.searched..].iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            if let Some(end) = end {
                return Some(self.taken(self.searched + end + 1));
            }
            self.searched = self.pending.len();
            if self.is_over {
                return (self.start < self.searched).then(|| self.taken(self.searched));
            }
            if let Err(error) = self.more().await {
                return Some(Err(self.given_up(error)));
            }
        }
    }

    fn taken(&mut self, end: usize) -> Result<Vec<u8>, EgressError> {
        let line = &self.pending[self.start..end];
        if line.len() > self.limits.line_bytes_max {
            let error = self.opened.too_large(self.limits.line_bytes_max);
            return Err(self.given_up(error));
        }
        let line = self.opened.scrubber.clean_bytes(line.to_vec());
        (self.start, self.searched) = (end, end);
        Ok(line)
    }

    /// Nothing comes after an error.
    fn given_up(&mut self, error: EgressError) -> EgressError {
        self.is_over = true;
        (self.start, self.searched) = (self.pending.len(), self.pending.len());
        error
    }

    async fn more(&mut self) -> Result<(), EgressError> {
        let LineLimits { line_bytes_max, bytes_max } = self.limits;
        self.pending.drain(..self.start);
        (self.start, self.searched) = (0, self.pending.len());
        if self.pending.len() > line_bytes_max {
            return Err(self.opened.too_large(line_bytes_max));
        }
        let Some(chunk) = self.opened.chunk().await? else {
            self.is_over = true;
            return Ok(());
        };
        self.read = self.read.saturating_add(chunk.len());
        if self.read > bytes_max {
            return Err(self.opened.too_large(bytes_max));
        }
        self.pending.extend_from_slice(&chunk);
        Ok(())
    }
}

impl Reply {
    /// The form in which a step gets it: `{ status, headers, body }`, or `body_base64` where the body is no text.
    pub fn into_json(self) -> Value {
        let headers: Map<String, Value> = self.headers.into_iter().map(|(name, value)| (name, value.into())).collect();
        match String::from_utf8(self.body) {
            Ok(body) => json!({ "status": self.status, "headers": headers, "body": body }),
            Err(binary) => {
                let body = BASE64_STANDARD.encode(binary.as_bytes());
                json!({ "status": self.status, "headers": headers, "body_base64": body })
            }
        }
    }
}

fn headers_of(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        all.entry(name.as_str().to_owned())
            .and_modify(|before| {
                before.push_str(", ");
                before.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    all
}
