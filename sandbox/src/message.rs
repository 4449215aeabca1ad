//! The bytes between host and guest, from the host's side: what a step is given, and how its answer is read.
//!
//! Owns the form of these bytes. What the guest wrote is not trusted: every length is checked, every text is checked to
//! be UTF-8, and JSON to be JSON.

use agentruntime_host_api::{HostReply, Invocation, Program};

/// Writes a message for the guest: little-endian numbers, and texts with their length before them.
#[derive(Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn of_invocation(invocation: &Invocation, memory_bytes: usize) -> Self {
        let Invocation { program, scope, entropy, limits, .. } = invocation;
        let texts = scope.globals.iter().map(|(name, json)| name.len() + json.as_str().len());
        let entries = scope.steps.iter().map(|(id, json)| id.len() + json.as_str().len());
        let fields = scope.globals.len() + scope.steps.len();
        let len = program.source.len() + program.name.len() + texts.chain(entries).sum::<usize>() + 8 * fields + 40;
        let mut message = Self(Vec::with_capacity(len));
        message.u32(memory_bytes);
        message.u32(limits.output_bytes);
        message.0.extend_from_slice(&entropy.0.to_le_bytes());
        message.text(&program.name);
        message.text(&program.source);
        message.u32(scope.globals.len());
        for (name, json) in &scope.globals {
            message.text(name);
            message.text(json.as_str());
        }
        message.u32(scope.steps.len());
        for (id, json) in &scope.steps {
            message.text(id);
            message.text(json.as_str());
        }
        message
    }

    pub(crate) fn of_program(program: &Program, memory_bytes: usize) -> Self {
        let mut message = Self::default();
        message.u32(memory_bytes);
        message.text(&program.name);
        message.text(&program.source);
        message
    }

    pub(crate) fn of_replies(replies: &[HostReply]) -> Self {
        let mut message = Self::default();
        message.u32(replies.len());
        for reply in replies {
            match reply {
                Ok(json) => {
                    message.u32(1);
                    message.text(json.as_str());
                }
                Err(error) => {
                    message.u32(0);
                    message.text(&error.code.to_string());
                    message.text(&error.message);
                    message.text(error.details.as_ref().map_or("", |details| details.as_str()));
                }
            }
        }
        message
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A number that is too large for the guest's address space means as much as the largest.
    fn u32(&mut self, number: usize) {
        self.0.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.u32(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }
}

/// What the guest answered is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("the guest's answer is malformed: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Reads the guest's answer.
pub(crate) struct Answer<'a>(&'a [u8]);

impl<'a> Answer<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("a text is not UTF-8"))
    }

    /// A text in which bytes that are not UTF-8 are replaced: messages of scripts may hold anything.
    pub(crate) fn lossy_text(&mut self) -> Result<String, Malformed> {
        Ok(String::from_utf8_lossy(self.bytes()?).into_owned())
    }

    pub(crate) fn rest(&mut self) -> Result<&'a str, Malformed> {
        let rest = std::mem::take(&mut self.0);
        std::str::from_utf8(rest).map_err(|_| Malformed("the output is not UTF-8"))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }
}
