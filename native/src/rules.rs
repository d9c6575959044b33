//! `domain.identity.Rules`.

use std::collections::HashSet;

/// What an operator decides about the reading of messages.
pub struct Rules {
    /// In lower case.
    pub blocked_ids: HashSet<String>,
    pub max_message_bytes: usize,
    pub future_tolerance_us: i64,
}
