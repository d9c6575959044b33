//! `domain.views`: what a page or screen call records.

use std::borrow::Cow;

use jiter::JsonValue;

use crate::call::{Deferred, View, Warning, WRONG_SHAPE};
use crate::conversion::write_json;
use crate::decoding::{get, part, read_object, text_of, Object};

/// Read a page or screen call.
pub fn read_view<'a>(
    payload: &Object<'a>,
    context: &Object<'a>,
    kind: &'static str,
    warnings: &mut Vec<Warning>,
) -> Result<View<'a>, Deferred> {
    let properties = read_object(payload, "properties")?;
    let page = part(context, "page", warnings);
    let name = match text_of(payload, "name", warnings) {
        Some(name) => Some(name),
        None => text_of(properties, "name", warnings),
    };
    let mut place = |key| place(properties, page, key, warnings);
    let (url, path, title, referrer) = (place("url"), place("path"), place("title"), place("referrer"));
    let mut text = String::with_capacity(256);
    match get(payload, "properties") {
        Some(object @ JsonValue::Object(_)) => write_json(object, &mut text)?,
        _ => text.push_str("{}"),
    }
    Ok(View { kind, url, path, title, referrer, name, properties: text })
}

/// A property that is text, also the empty one; else what the context has, where not empty.
fn place<'a>(
    properties: &Object<'a>,
    page: &Object<'a>,
    key: &str,
    warnings: &mut Vec<Warning>,
) -> Option<Cow<'a, str>> {
    match get(properties, key) {
        Some(JsonValue::Str(text)) => return Some(text.clone()),
        Some(_) => warnings.push(WRONG_SHAPE),
        None => {}
    }
    text_of(page, key, warnings).filter(|text| !text.is_empty())
}
