//! `domain.identity`: whose a message is.

use std::borrow::Cow;
use std::collections::HashSet;

use jiter::JsonValue;

use crate::call::{Deferred, Warning, BLOCKED_ANONYMOUS_ID, BLOCKED_USER_ID, INVALID_ANONYMOUS_ID, INVALID_USER_ID};
use crate::decoding::{get, Object};
use crate::names::{bounded, strip};

/// What an operator decides about the reading of messages: `domain.identity.Rules`.
pub struct Rules {
    /// In lower case.
    blocked_ids: HashSet<String>,
    /// Bytes of the longest of them: most ids are longer, and not looked for.
    blocked_bytes_max: usize,
    pub max_message_bytes: usize,
    pub future_tolerance_us: i64,
}

/// The leaf of a message, and the anonymous leaf that it claims for its user leaf.
pub struct Identity {
    pub leaf: String,
    pub claim: Option<String>,
}

enum Id<'a> {
    Absent,
    Usable(Cow<'a, str>),
    Blocked,
    Invalid,
}

impl Rules {
    pub fn new(blocked_ids: HashSet<String>, max_message_bytes: usize, future_tolerance_us: i64) -> Self {
        let blocked_bytes_max = blocked_ids.iter().map(String::len).max().unwrap_or(0);
        Self { blocked_ids, blocked_bytes_max, max_message_bytes, future_tolerance_us }
    }

    /// `read_identity`; a message that is nobody's is deferred.
    pub fn read_identity(&self, payload: &Object, warnings: &mut Vec<Warning>) -> Result<Identity, Deferred> {
        let user = self.usable_id(get(payload, "userId"))?;
        let anonymous = self.usable_id(get(payload, "anonymousId"))?;
        match user {
            Id::Blocked => warnings.push(BLOCKED_USER_ID),
            Id::Invalid => warnings.push(INVALID_USER_ID),
            Id::Absent | Id::Usable(_) => {}
        }
        let anonymous_leaf = match anonymous {
            Id::Usable(id) => Some(key("anon:", &id)),
            Id::Absent => None,
            Id::Blocked => {
                warnings.push(BLOCKED_ANONYMOUS_ID);
                None
            }
            Id::Invalid => {
                warnings.push(INVALID_ANONYMOUS_ID);
                None
            }
        };
        match (user, anonymous_leaf) {
            (Id::Usable(id), claim) => Ok(Identity { leaf: key("user:", &id), claim }),
            (_, Some(leaf)) => Ok(Identity { leaf, claim: None }),
            (_, None) => Err(Deferred),
        }
    }

    fn usable_id<'v>(&self, value: Option<&'v JsonValue>) -> Result<Id<'v>, Deferred> {
        let text = match value {
            None => return Ok(Id::Absent),
            Some(JsonValue::Str(text)) => Cow::Borrowed(strip(text)),
            Some(JsonValue::Int(number)) => Cow::Owned(number.to_string()),
            Some(_) => return Ok(Id::Invalid),
        };
        if text.is_empty() {
            return Ok(Id::Absent);
        }
        if self.is_blocked(&text)? {
            return Ok(Id::Blocked);
        }
        Ok(Id::Usable(bounded(text)))
    }

    /// The text of an id as its leaf has it; None where it is nobody's, or Python is to read it.
    pub fn usable_text<'t>(&self, text: &'t str) -> Option<Cow<'t, str>> {
        let text = strip(text);
        let is_usable = !text.is_empty() && matches!(self.is_blocked(text), Ok(false));
        is_usable.then(|| bounded(text.into()))
    }

    /// `is_blocked`. Lower case beyond ASCII is Python's to know.
    fn is_blocked(&self, text: &str) -> Result<bool, Deferred> {
        if self.blocked_ids.is_empty() {
            return Ok(false);
        }
        if !text.is_ascii() {
            return Err(Deferred);
        }
        let quote = text.as_bytes()[0];
        let is_quoted = (quote == b'\'' || quote == b'"') && text.len() > 2 && text.as_bytes()[text.len() - 1] == quote;
        Ok((is_quoted && self.is_listed(&text[1..text.len() - 1])) || self.is_listed(text))
    }

    fn is_listed(&self, text: &str) -> bool {
        (text.len() <= self.blocked_bytes_max && self.blocked_ids.contains(text.to_ascii_lowercase().as_str()))
            || text.bytes().all(|byte| byte == b'0' || byte == b'-')
    }
}

fn key(prefix: &str, id: &str) -> String {
    let mut key = String::with_capacity(prefix.len() + id.len());
    key.push_str(prefix);
    key.push_str(id);
    key
}
