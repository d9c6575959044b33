//! `domain.names`, and what is white space to Python.

use std::borrow::Cow;
use std::fmt::Write;

use sha2::{Digest, Sha256};

pub const MAX_NAME_BYTES: usize = 512;
const PREFIX_BYTES: usize = MAX_NAME_BYTES - 65;

/// A name of at most `MAX_NAME_BYTES`: itself, or a prefix of it, `~` and the SHA-256 of all of it.
pub fn bounded(name: Cow<'_, str>) -> Cow<'_, str> {
    if name.len() <= MAX_NAME_BYTES {
        return name;
    }
    let end = (0..=PREFIX_BYTES).rev().find(|&end| name.is_char_boundary(end)).unwrap_or(0);
    let mut text = String::with_capacity(MAX_NAME_BYTES);
    text.push_str(&name[..end]);
    text.push('~');
    for byte in Sha256::digest(name.as_bytes()) {
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}

/// `str.strip()`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.isspace()` of one character: Unicode's white space, and the four separators of ASCII.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}
