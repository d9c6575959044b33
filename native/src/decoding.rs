//! `domain.decoding` and `domain.shapes`: from the bytes of a record to a JSON object, and the parts of it.

use std::borrow::Cow;

use jiter::JsonValue;

use crate::call::{Deferred, Warning, WRONG_SHAPE};

/// Keys and values in the order of the message; jiter keeps repeated keys.
pub type Object<'a> = [(Cow<'a, str>, JsonValue<'a>)];

/// Decode a whole message. What is refused is deferred, and so is a message with U+0000 in it: it has to be replaced.
///
/// jiter's limits (200 levels, integers of 64 bits) are narrower than those of the twin.
pub fn decode(value: &[u8], max_bytes: usize) -> Result<JsonValue<'_>, Deferred> {
    if value.len() > max_bytes || has_nul_escape(value) {
        return Err(Deferred);
    }
    let payload = JsonValue::parse(value, false).map_err(|_| Deferred)?;
    if is_within_double(&payload) {
        Ok(payload)
    } else {
        Err(Deferred)
    }
}

fn has_nul_escape(value: &[u8]) -> bool {
    value.contains(&b'\\') && value.split(|byte| *byte == b'\\').skip(1).any(|after| after.starts_with(b"u0000"))
}

/// Whether no number has become infinite, as `1e999` does.
fn is_within_double(value: &JsonValue) -> bool {
    match value {
        JsonValue::Float(number) => number.is_finite(),
        JsonValue::Array(items) => items.iter().all(is_within_double),
        JsonValue::Object(object) => object.iter().all(|(_, item)| is_within_double(item)),
        _ => true,
    }
}

/// The value of a key, None where it is null besides: of a repeated key the last, as in a dict.
pub fn get<'v, 'a>(object: &'v Object<'a>, key: &str) -> Option<&'v JsonValue<'a>> {
    match object.iter().rev().find(|(name, _)| name == key) {
        None | Some((_, JsonValue::Null)) => None,
        Some((_, value)) => Some(value),
    }
}

pub fn has(object: &Object, key: &str) -> bool {
    object.iter().any(|(name, _)| name == key)
}

/// Objects up to this size are searched for repeated keys by comparing each with each.
const FEW: usize = 12;

/// Defer an object that has a key twice: in a dict, the value of one takes the place of the other.
pub fn distinct(object: &Object) -> Result<(), Deferred> {
    let is_distinct = if object.len() <= FEW {
        object.iter().enumerate().all(|(place, (name, _))| !has(&object[..place], name))
    } else {
        let mut names: Vec<&str> = object.iter().map(|(name, _)| name.as_ref()).collect();
        names.sort_unstable();
        names.windows(2).all(|pair| pair[0] != pair[1])
    };
    if is_distinct {
        Ok(())
    } else {
        Err(Deferred)
    }
}

/// `read_object`: the part that a call is read from. Of a wrong shape, the message is refused by the twin.
pub fn read_object<'v, 'a>(payload: &'v Object<'a>, key: &str) -> Result<&'v Object<'a>, Deferred> {
    match get(payload, key) {
        Some(JsonValue::Object(object)) => Ok(object),
        None => Ok(&[]),
        Some(JsonValue::Array(items)) if items.is_empty() => Ok(&[]),
        Some(_) => Err(Deferred),
    }
}

/// `part`: a part beside it, empty when absent, and with a warning when it is no object.
pub fn part<'v, 'a>(of: &'v Object<'a>, key: &str, warnings: &mut Vec<Warning>) -> &'v Object<'a> {
    match get(of, key) {
        Some(JsonValue::Object(object)) => object,
        None => &[],
        Some(_) => {
            warnings.push(WRONG_SHAPE);
            &[]
        }
    }
}

/// The text of a key, also the empty one; with a warning when it is something else.
pub fn text_of<'a>(of: &Object<'a>, key: &str, warnings: &mut Vec<Warning>) -> Option<Cow<'a, str>> {
    match get(of, key) {
        Some(JsonValue::Str(text)) => Some(text.clone()),
        None => None,
        Some(_) => {
            warnings.push(WRONG_SHAPE);
            None
        }
    }
}
